"""Atelier: a self-hosted LangGraph agent chat service that keeps every message, tool call and result."""

__version__ = "0.1.0"
