"""The tools node: what the user has said to a call, at whatever moment they said it."""

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool

from app.core.domain.tool import Approval, ApprovalPolicy
from app.langgraph.context import TurnContext
from app.langgraph.graphs.chat_graph import chat_graph
from app.langgraph.nodes.run_tools import waits_for_an_answer


class Silent:
    """A provider that has nothing more to say."""

    @property
    def model(self) -> Any:
        return self

    async def ainvoke(self, messages: Any) -> AIMessage:
        return AIMessage("Done.")


@pytest.mark.parametrize(("said", "runs"), [(None, 0), (False, 0), (True, 1)])
async def test_a_call_runs_only_when_the_user_has_agreed(said: bool | None, runs: int):
    ran: list[int] = []

    @tool
    def launch(number: int) -> str:
        """Launch."""
        ran.append(number)
        return "launched"

    context = TurnContext(
        llm_provider=Silent(),  # pyright: ignore[reportArgumentType]
        tools={"launch": launch},
        approvals={} if said is None else {"c1": {"approved": said, "reason": None}},
        policy=ApprovalPolicy({"launch": Approval.ASK}, {}),
    )
    call = {"id": "c1", "name": "launch", "args": {"number": 1}, "type": "tool_call"}
    state = {
        "messages": [HumanMessage("Launch"), AIMessage("", tool_calls=[call])],
        "conversation_id": "c",
        "user_id": "u",
        "current_input": None,
    }
    after = await chat_graph().ainvoke(state, context=context)  # pyright: ignore[reportUnknownMemberType, reportArgumentType]
    results = [message for message in after["messages"] if isinstance(message, ToolMessage)]
    assert len(ran) == runs
    assert [waits_for_an_answer(message) for message in results] == [runs == 0]
