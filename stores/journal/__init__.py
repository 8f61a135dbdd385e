"""The journal: records in hash-chained segments, committed in groups, read back to the same state."""
