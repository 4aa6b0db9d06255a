"""OpenAI's own surface: the service as the base URL of any program that speaks it."""
