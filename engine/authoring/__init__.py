"""What a user writes: jobs, flows, makers, references and responses, name for name as in jobflow's core.

It may mint uuids and import lazily (DESIGN section 7); it never touches a store. Nothing here runs a job:
`engine.flows` turns a Flow into columns, and `actors.execute.python` turns a column entry back into a call.
"""
