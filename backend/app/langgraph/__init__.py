"""The agent: a LangGraph state graph over domain messages."""
