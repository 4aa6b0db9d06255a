"""The tools node: LangGraph's `ToolNode`, with tools that come by context and results that are stored at once."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langchain_core.tools import BaseTool, ToolException
from langgraph.errors import GraphBubbleUp
from langgraph.prebuilt import ToolNode
from langgraph.prebuilt.tool_node import ToolCallRequest, ToolInvocationError
from langgraph.types import Command
from pydantic import BaseModel, ValidationError

from app.core.domain.text import clean_json, clean_text
from app.core.domain.tool import Approval
from app.langgraph.context import CallInProgress, TurnContext, current_call
from app.langgraph.messages import to_domain

logger = logging.getLogger(__name__)

Execute = Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]


def tool_node() -> ToolNode:
    """The node that runs the calls of the last assistant message, side by side."""
    return ToolNode([], awrap_tool_call=_run_call, handle_tool_errors=False)


def waits_for_an_answer(message: ToolMessage) -> bool:
    """Whether `message` only holds the place of a result that has to come from the user or their client."""
    return message.artifact is _WAITS


_WAITS = object()


async def _run_call(request: ToolCallRequest, execute: Execute) -> ToolMessage | Command[Any]:
    """Run one call with the tool that the context has for it; a call that has its result is not run again."""
    context: TurnContext = request.runtime.context  # pyright: ignore[reportAssignmentType, reportUnknownMemberType]
    state: dict[str, Any] = request.state  # pyright: ignore[reportAssignmentType]
    finished = _result_of(request.tool_call["id"], state["messages"])
    if finished is not None:
        return finished
    message = _refusal(request, context)
    if message is None and _has_to_wait(request, context):
        call = request.tool_call
        return ToolMessage(content="", name=call["name"], tool_call_id=call["id"], artifact=_WAITS)
    if message is None:
        message = await _invoke(request, execute, context)
    if context.recorder is not None and isinstance(message, ToolMessage):
        await context.recorder.tool_finished(to_domain(message, state["conversation_id"]))
    return message


def _refusal(request: ToolCallRequest, context: TurnContext) -> ToolMessage | None:
    """Why the call may not be made at all."""
    name = request.tool_call["name"]
    tool = context.tools.get(name)
    if tool is None:
        names = ", ".join(context.tools) or "none"
        return _error(request, f"There is no tool named {clean_text(name)!r}. Tools on offer: {names}.")
    if context.policy.of(name) is Approval.DENY:
        return _error(request, f"The tool {name} may not be used here.")
    if name in context.client_tools and isinstance(tool.args_schema, type) and issubclass(tool.args_schema, BaseModel):
        try:
            tool.args_schema.model_validate(request.tool_call["args"])
        except ValidationError as error:
            return _error(request, "The arguments do not fit the tool. " + _lines(error.errors()))
    return None


def _has_to_wait(request: ToolCallRequest, context: TurnContext) -> bool:
    """Whether the call needs something from outside: the user's agreement, or a result of their client.

    A call that the user has just refused only holds its place too: whoever took the refusal stores its result.
    """
    name, call_id = request.tool_call["name"], request.tool_call["id"]
    said = context.approvals.get(str(call_id))
    is_agreed = said is not None and bool(said["approved"])
    return (context.policy.of(name) is Approval.ASK and not is_agreed) or name in context.client_tools


async def _invoke(request: ToolCallRequest, execute: Execute, context: TurnContext) -> ToolMessage | Command[Any]:
    call = request.tool_call
    tool = context.tools[call["name"]]
    logger.debug("tool %s called with %s", call["name"], call["args"])
    try:
        message = await _in_call(request, execute, context, tool)
    except GraphBubbleUp:
        raise
    except ToolInvocationError as error:
        return _error(request, _explain(error))
    except ToolException as error:
        return _error(request, str(error))
    except Exception as error:
        logger.exception("tool %s failed", call["name"])
        return _error(request, f"The tool failed: {type(error).__name__}: {error}")
    if isinstance(message, ToolMessage):
        message.content = _clean(message.content)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return message


async def _in_call(
    request: ToolCallRequest, execute: Execute, context: TurnContext, tool: BaseTool
) -> ToolMessage | Command[Any]:
    """Run the tool, which can find out what call it is."""
    state: dict[str, Any] = request.state  # pyright: ignore[reportAssignmentType]
    call = CallInProgress(
        id=str(request.tool_call["id"]),
        conversation_id=state["conversation_id"],
        user_id=state["user_id"],
        messages=state["messages"],
        recorder=context.recorder,
        message_id=next((m.id for m in reversed(state["messages"]) if isinstance(m, AIMessage)), None),
    )
    token = current_call.set(call)
    try:
        return await execute(request.override(tool=tool))
    finally:
        current_call.reset(token)


def _result_of(call_id: str | None, messages: list[AnyMessage]) -> ToolMessage | None:
    """The TOOL message that stands behind the last assistant message for `call_id` already."""
    for message in reversed(messages):
        if isinstance(message, AIMessage):
            return None
        if isinstance(message, ToolMessage) and message.tool_call_id == call_id:
            return message
    return None


def _error(request: ToolCallRequest, text: str) -> ToolMessage:
    call = request.tool_call
    return ToolMessage(content=clean_text(text), name=call["name"], tool_call_id=call["id"], status="error")


def _explain(error: ToolInvocationError) -> str:
    """What is wrong with the arguments, in a line each."""
    return "The arguments do not fit the tool. " + _lines(error.filtered_errors or error.source.errors())


def _lines(details: Sequence[Any]) -> str:
    return "; ".join(
        sorted({f"{detail['loc'][0] if detail['loc'] else 'arguments'}: {detail['msg']}" for detail in details})
    )


def _clean(content: Any) -> str | list[Any]:
    return clean_text(content) if isinstance(content, str) else clean_json(content)
