"""The tools that the agent runs on the server."""

from app.langgraph.tools.math_tools import MATH_TOOLS, add, divide, multiply, subtract

__all__ = ["MATH_TOOLS", "add", "divide", "multiply", "subtract"]
