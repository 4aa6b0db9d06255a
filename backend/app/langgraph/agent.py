"""The agent: runs a turn through the chat graph."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.messages import convert_to_openai_messages
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from app.core.domain.tool import Approval
from app.core.ports import IModelCatalog, ITurnRecorder, Preview, Turn
from app.langgraph.context import MAX_TOOL_ROUNDS, TurnContext
from app.langgraph.fit import fit_results
from app.langgraph.graphs.chat_graph import chat_graph, run_config
from app.langgraph.messages import to_langchain
from app.langgraph.tools.client_tools import with_client_tools

ToolSource = Callable[[Turn], Mapping[str, BaseTool]]
"""Tools that come and go, as they are for a turn: the same objects as long as nothing has changed."""


class LangGraphAgent:
    """An `IAgent` over the chat graph."""

    def __init__(
        self,
        catalog: IModelCatalog,
        tools: Sequence[BaseTool],
        *,
        sources: Sequence[ToolSource] = (),
        max_tool_rounds: int = MAX_TOOL_ROUNDS,
    ) -> None:
        self._catalog = catalog
        self._tools = {tool.name: tool for tool in tools}
        self._sources = sources
        self._max_tool_rounds = max_tool_rounds
        self._graph = chat_graph()

    async def preview(self, turn: Turn) -> Preview:
        """What the first call of `turn` would send, in OpenAI's form."""
        messages: Any = convert_to_openai_messages(fit_results(list(map(to_langchain, turn.history)), turn.budget))
        return Preview(messages, [convert_to_openai_tool(tool) for tool in self._tools_of(turn)[1]])

    def _tools_of(self, turn: Turn) -> tuple[dict[str, BaseTool], list[BaseTool]]:
        """The tools that may run in a turn, and those among them that the model is offered."""
        tools = dict(self._tools)
        for source in self._sources:
            tools |= source(turn)
        if turn.client_tools:
            tools = with_client_tools(tools, turn.client_tools)
        can_use_tools = self._catalog.facts(turn.model).tools is not False
        return tools, [t for t in tools.values() if can_use_tools and turn.policy.of(t.name) is not Approval.DENY]

    async def run(self, turn: Turn, recorder: ITurnRecorder) -> None:
        """Run `turn` to its end; every step goes to `recorder`."""
        tools, offered = self._tools_of(turn)
        context = TurnContext(
            llm_provider=self._catalog.provider(turn.model, offered, turn.options),
            tools=tools,
            recorder=recorder,
            client_tools=frozenset(turn.client_tools),
            approvals=turn.approvals,
            policy=turn.policy,
            max_tool_rounds=self._max_tool_rounds,
            budget=turn.budget,
        )
        state = {
            "messages": [to_langchain(message) for message in turn.history],
            "conversation_id": turn.conversation_id,
            "user_id": turn.user_id,
            "current_input": None,
        }
        # The recorder has taken every step by then: no stream mode, so that LangGraph copies no state out.
        async for _ in self._graph.astream(state, run_config(context), context=context, stream_mode=[]):  # pyright: ignore[reportUnknownMemberType, reportArgumentType]
            pass
