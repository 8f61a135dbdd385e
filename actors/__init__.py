"""What runs: the leader, the workers and their pool, as thin shells of I/O around the engine. Ray is imported here only."""
