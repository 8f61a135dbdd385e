"""Kills everything at random moments, and judges what is left: `python -m tests.torture.run`."""
