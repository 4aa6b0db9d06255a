"""The node that asks the model."""

import logging
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage

from app.core.domain.errors import ToolLoopLimit, describe
from app.core.domain.text import MAX_DEPTH, load_json
from app.core.ports import ILLMProvider, ITurnRecorder
from app.langgraph.context import TurnContext
from app.langgraph.fit import fit_results
from app.langgraph.messages import to_domain
from app.langgraph.state import ConversationState

logger = logging.getLogger(__name__)


async def call_llm(state: ConversationState, llm_provider: ILLMProvider) -> dict[str, Any]:
    """Ask the model once and add its answer; an error becomes `error`, in words for the user."""
    try:
        answer = await llm_provider.model.ainvoke(state["messages"])
    except Exception as error:
        logger.exception("the model could not be asked")
        return {"error": f"Failed to generate response: {describe(error).message}"}
    return {"messages": [answer, *_answers_to_malformed_calls(answer)], "error": None}


async def stream_llm(state: ConversationState, context: TurnContext, recorder: ITurnRecorder) -> dict[str, Any]:
    """Ask the model once, let its pieces out as they arrive, and store an answer that calls tools.

    Raises:
        AtelierError: the model could not be asked.
    """
    answer_id = recorder.begin_answer()
    given = fit_results(state["messages"], context.budget)
    answer: AIMessage = await context.llm_provider.stream(given, recorder)
    answer.id = answer_id
    malformed = _answers_to_malformed_calls(answer)
    if answer.tool_calls or malformed:
        traits = {str(call["id"]): context.traits(call["name"]) for call in answer.tool_calls}
        await recorder.calls_tools(to_domain(answer, state["conversation_id"]), traits)
        for message in malformed:
            await recorder.tool_finished(to_domain(message, state["conversation_id"]))
    return {"messages": [answer, *malformed], "error": None}


def end_tool_loop(state: ConversationState, limit: int, recorder: ITurnRecorder | None) -> dict[str, Any]:
    """End a turn in which the model asked for tools `limit` times, with a message that says so.

    Raises:
        ToolLoopLimit: where a recorder is there to keep the message.
    """
    text = (
        f"I stopped here: {limit} rounds of tool calls did not lead to an answer. "
        "The results so far are kept; ask again, perhaps in smaller steps, or raise MAX_TOOL_ROUNDS."
    )
    if recorder is None:
        return {"messages": [AIMessage(content=text)], "error": None}
    recorder.begin_answer()
    recorder.text(text)
    raise ToolLoopLimit(text)


def tool_rounds(messages: list[AnyMessage]) -> int:
    """How often the model has asked for tools since the user spoke last."""
    rounds = 0
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            break
        rounds += isinstance(message, AIMessage) and bool(message.tool_calls or message.invalid_tool_calls)
    return rounds


def _answers_to_malformed_calls(answer: Any) -> list[ToolMessage]:
    """For each call whose arguments are not a JSON object, the TOOL message that tells the model so."""
    malformed = getattr(answer, "invalid_tool_calls", None)
    if not isinstance(malformed, list):
        return []
    return [_answer_to_malformed_call(answer, number) for number in range(len(answer.invalid_tool_calls))]


def _answer_to_malformed_call(answer: AIMessage, number: int) -> ToolMessage:
    call = answer.invalid_tool_calls[number]
    call["id"] = call.get("id") or f"call_malformed_{number}"
    reason = _fault_of(call.get("args") or "")
    return ToolMessage(
        content=f"The arguments of this call could not be read: {reason}. Call the tool again with a JSON object.",
        name=call.get("name") or "unknown",
        tool_call_id=call["id"],
        status="error",
    )


def _fault_of(arguments: str) -> str:
    """Why the text of a call's arguments was not taken."""
    try:
        value = load_json(arguments)
    except ValueError as error:
        if "depth limit" in str(error):
            return _TOO_DEEP
        return f"they are not valid JSON ({error})"
    return _TOO_DEEP if isinstance(value, dict) else "they are not a JSON object"


_TOO_DEEP = f"they are nested more than {MAX_DEPTH} levels deep"
