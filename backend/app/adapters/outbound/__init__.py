"""What the service drives: stores, run logs, model providers."""
