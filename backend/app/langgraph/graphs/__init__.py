"""The graphs that can run a turn."""
