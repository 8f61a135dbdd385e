"""What is true: jobs, flows, references, the graph, scheduling and leases. Pure: no I/O, no clock, no Ray."""
