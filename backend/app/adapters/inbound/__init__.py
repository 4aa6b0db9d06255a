"""What drives the service: one module or folder a wire."""
