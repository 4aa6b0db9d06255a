"""The chat graph: `process_input → call_llm ⇄ tools → save_history`."""

from functools import lru_cache
from typing import Any

from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import tools_condition
from langgraph.runtime import Runtime

from app.core.ports import IConversationRepository, ILLMProvider, IMessageRepository
from app.langgraph.context import TurnContext
from app.langgraph.nodes.call_llm import call_llm, end_tool_loop, stream_llm, tool_rounds
from app.langgraph.nodes.process_input import process_user_input
from app.langgraph.nodes.run_tools import tool_node, waits_for_an_answer
from app.langgraph.nodes.save_history import close_turn, save_to_history
from app.langgraph.state import ConversationState
from app.langgraph.tools import MATH_TOOLS

ChatGraph = CompiledStateGraph[ConversationState, TurnContext, ConversationState, ConversationState]


@lru_cache(maxsize=1)
def chat_graph() -> ChatGraph:
    """The graph, compiled once for the whole process; each turn brings its own `TurnContext`."""
    builder = StateGraph(ConversationState, context_schema=TurnContext)
    builder.add_node("process_input", process_user_input)
    builder.add_node("call_llm", _call_llm)
    builder.add_node("tools", tool_node())
    builder.add_node("save_history", _save_history)
    builder.add_edge(START, "process_input")
    builder.add_conditional_edges("process_input", _where_to_begin, ["call_llm", "tools", "save_history", END])
    builder.add_conditional_edges("call_llm", _after_the_model, ["tools", "call_llm", "save_history"])
    builder.add_conditional_edges("tools", _after_the_tools, ["call_llm", END])
    builder.add_edge("save_history", END)
    return builder.compile()  # pyright: ignore[reportUnknownMemberType]


def create_chat_graph(
    llm_provider: ILLMProvider,
    message_repository: IMessageRepository,
    conversation_repository: IConversationRepository,
) -> Any:
    """The graph bound to a provider and two repositories, for programs that run turns without the service.

    `ainvoke({"messages", "conversation_id", "user_id", "current_input"})` runs a whole turn: `messages` is the
    history that was loaded (`app.langgraph.messages.to_langchain`), and what the turn adds is stored at its end.
    """
    context = TurnContext(
        llm_provider=llm_provider,
        tools={tool.name: tool for tool in MATH_TOOLS},
        message_repository=message_repository,
        conversation_repository=conversation_repository,
    )
    return _Bound(chat_graph(), context)


class _Bound:
    """The chat graph with a context of its own."""

    def __init__(self, graph: ChatGraph, context: TurnContext) -> None:
        self._graph = graph
        self._context = context

    async def ainvoke(self, state: ConversationState, config: RunnableConfig | None = None) -> dict[str, Any]:
        """Run one turn; the state at its end."""
        merged = merge_configs(run_config(self._context), config)
        return await self._graph.ainvoke(state, merged, context=self._context)


def run_config(context: TurnContext) -> RunnableConfig:
    """The settings of one run of the graph: enough steps for every round of tools."""
    return RunnableConfig(recursion_limit=2 * context.max_tool_rounds + 10)


async def _call_llm(state: ConversationState, runtime: Runtime[TurnContext]) -> dict[str, Any]:
    context = runtime.context
    if tool_rounds(state["messages"]) >= context.max_tool_rounds:
        return end_tool_loop(state, context.max_tool_rounds, context.recorder)
    if context.recorder is None:
        return await call_llm(state, context.llm_provider)
    return await stream_llm(state, context, context.recorder)


async def _save_history(state: ConversationState, runtime: Runtime[TurnContext]) -> dict[str, Any]:
    context = runtime.context
    if context.recorder is not None:
        return await close_turn(state, context.recorder)
    if context.message_repository is None or context.conversation_repository is None:
        return {}
    return await save_to_history(state, context.message_repository, context.conversation_repository)


async def _where_to_begin(state: ConversationState) -> str:
    """Where a turn goes on: after a user's or a tool's message at the model, after a call at the tools."""
    if state.get("error"):
        return END
    last = state["messages"][-1]
    if isinstance(last, AIMessage):
        return "tools" if last.tool_calls else "save_history"
    answered = {getattr(message, "tool_call_id", None) for message in state["messages"] if message.type == "tool"}
    caller = next((m for m in reversed(state["messages"]) if m.type != "tool"), None)
    if isinstance(caller, AIMessage) and any(call["id"] not in answered for call in caller.tool_calls):
        return "tools"
    return "call_llm"


async def _after_the_tools(state: ConversationState) -> str:
    """The model goes on once every call has its result; until then the turn waits for the user or their client."""
    for message in reversed(state["messages"]):
        if not isinstance(message, ToolMessage):
            break
        if waits_for_an_answer(message):
            return END
    return "call_llm"


async def _after_the_model(state: ConversationState) -> str:
    """`tools_condition`, and two ways that it does not know: an error, and calls that were all malformed."""
    if state.get("error"):
        return "save_history"
    answer = next(message for message in reversed(state["messages"]) if isinstance(message, AIMessage))
    if tools_condition({"messages": [answer]}) == "tools":
        return "tools"
    return "call_llm" if answer.invalid_tool_calls else "save_history"
