"""The command: serve, chat and their helpers."""
