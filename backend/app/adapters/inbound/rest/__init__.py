"""The REST surface: conversations, history, runs, models, health."""
