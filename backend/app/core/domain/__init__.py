"""What things are: messages, conversations, runs, events, users and errors."""
