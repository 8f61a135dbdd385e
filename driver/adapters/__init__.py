"""Workflows made with the classes of other packages, run by towline as they are. Each adapter is a module of its own."""
