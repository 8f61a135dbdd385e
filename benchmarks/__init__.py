"""How fast it is, measured beside what others do with the same work on the same machine."""
