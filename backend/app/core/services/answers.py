"""Answers to open calls: what a tool of the client returned, and whether the user agrees to a call."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from app.core.domain.errors import InvalidFrame, NotFound
from app.core.domain.event import to_json
from app.core.domain.message import Message, MessageRole
from app.core.domain.run import Run
from app.core.domain.text import clean_json
from app.core.domain.tool import Approval, ApprovalPolicy


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answered that the user's client ran."""

    tool_call_id: str
    result: Any
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class ToolApproval:
    """Whether the user agrees to a call."""

    tool_call_id: str
    approved: bool
    reason: str | None = None


Answer = ToolResult | ToolApproval

_NO_OPEN_CALL = "The run has no such call that waits for an answer. It may have one already."


def check_answer(
    run: Run, open_: Mapping[str, dict[str, Any]], policy: ApprovalPolicy, answer: Answer
) -> dict[str, Any]:
    """The open call that `answer` is for.

    Raises:
        NotFound: it is not open.
        InvalidFrame: it does not want an answer of this kind.
    """
    call = open_.get(answer.tool_call_id)
    if call is None or run.status.ended:
        raise NotFound(_NO_OPEN_CALL)
    asks = _needs_approval(run, call, policy)
    said = run.approvals.get(answer.tool_call_id)
    if isinstance(answer, ToolApproval):
        if said is not None:
            raise NotFound("That call has been decided on already.")
        if not asks and call["name"] in run.client_tools:
            raise InvalidFrame("That call needs no approval.")
    elif call["name"] not in run.client_tools:
        raise InvalidFrame("That tool runs on the server; its result cannot come from a client.")
    elif asks and not (said and said["approved"]):
        raise InvalidFrame("That call waits for the user's approval. Send a tool_approval first.")
    return call


def _needs_approval(run: Run, call: Mapping[str, Any], policy: ApprovalPolicy) -> bool:
    """Whether the call needs approval: what clients were told of it counts, also after the policy has changed."""
    told = run.was_told_to_need_approval(call["id"])
    return policy.of(call["name"]) is Approval.ASK if told is None else told


def as_command(answer: Answer) -> dict[str, Any]:
    """An answer as a command to another process."""
    return {"kind": type(answer).__name__, "answer": asdict(answer)}


def from_command(command: dict[str, Any]) -> Answer:
    """The answer in a command of another process."""
    kind = ToolResult if command["kind"] == ToolResult.__name__ else ToolApproval
    return kind(**command["answer"])


def tool_message(run: Run, call: Mapping[str, Any], result: Any, *, is_error: bool) -> Message:
    """The TOOL message of a call that was answered from outside."""
    return Message(
        conversation_id=run.conversation_id,
        role=MessageRole.TOOL,
        content=result if isinstance(result, str) else to_json(clean_json(result)),
        metadata={
            "tool_call_id": call["id"],
            "name": call["name"],
            "status": "error" if is_error else "success",
        },
    )
