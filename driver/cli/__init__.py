"""The command line: one module a command (or a group of them), put together in `main`."""
