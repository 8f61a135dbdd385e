"""Tests, in the places of what they test: tests/engine for engine/, and so on; helpers in tests/kit.

A regular package, so that no other `tests` on the path can stand before it and `python -m tests.simulation.run` works.
"""
