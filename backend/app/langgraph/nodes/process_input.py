"""The first node: what the user says becomes a message."""

from typing import Any

from langchain_core.messages import HumanMessage

from app.langgraph.state import ConversationState


async def process_user_input(state: ConversationState) -> dict[str, Any]:
    """Add `current_input` to the messages, or say that it is empty.

    Without a `current_input` the turn goes on from the last message: the service stores what the user says
    before the graph runs, and after a crash the turn goes on from whatever was stored last.
    """
    current_input = state.get("current_input")
    if current_input is None and state["messages"]:
        return {"error": None}
    text = (current_input or "").strip()
    if not text:
        return {"error": "Input cannot be empty"}
    return {"messages": [HumanMessage(content=text)], "error": None}
