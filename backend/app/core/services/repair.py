"""Repair of histories: whatever was stored or imported, what a model is sent has every call with its one result."""

from collections.abc import Iterable, Sequence
from typing import Any

from app.core.domain.message import Message, MessageRole

INTERRUPTED = "This call was interrupted before it had a result. Call the tool again if the result is still needed."


def calls_of(message: Message) -> list[dict[str, Any]]:
    """The calls of an assistant message that want an answer: the ones that can run and the malformed ones."""
    return [*message.tool_calls, *message.invalid_tool_calls] if message.role is MessageRole.ASSISTANT else []


def open_calls(history: Sequence[Message]) -> list[dict[str, Any]]:
    """The calls of the last assistant message that have no TOOL message yet."""
    answered: set[str | None] = set()
    for message in reversed(history):
        if message.role is MessageRole.TOOL:
            answered.add(message.tool_call_id)
        elif message.role is MessageRole.ASSISTANT:
            return [call for call in calls_of(message) if call.get("id") not in answered]
        else:
            return []
    return []


def interrupted(conversation_id: str, call: dict[str, Any], reason: str = INTERRUPTED) -> Message:
    """The TOOL message for a call that will have no result."""
    return Message(
        conversation_id=conversation_id,
        role=MessageRole.TOOL,
        content=reason,
        metadata={"tool_call_id": call.get("id"), "name": call.get("name") or "", "status": "error"},
    )


def repair(history: Iterable[Message], *, keep_open: bool = False) -> list[Message]:
    """`history` such that no provider can refuse it for its tool calls.

    Every call gets an id that is unique in its message, and right behind its message exactly one TOOL message, in
    the order of the calls: the first one that names it up to the next assistant message that uses the same id, or
    one that says that the call was interrupted. TOOL messages that answer nothing are left out. Stored messages
    are not changed: where one must differ, a copy stands in for it.

    Args:
        history: messages of one branch, oldest first.
        keep_open: leave the open calls of the last assistant message open, because they are about to run.
    """
    messages = list(history)
    results = _Results(messages)
    repaired: list[Message] = []
    for index, message in enumerate(messages):
        if message.role is MessageRole.TOOL:
            continue
        if message.role is MessageRole.ASSISTANT and calls_of(message):
            message = _with_unique_ids(message, index)
            repaired.append(message)
            last = keep_open and all(later.role is MessageRole.TOOL for later in messages[index + 1 :])
            for call in calls_of(message):
                result = results.take(call.get("id"), index)
                if result is not None:
                    repaired.append(result)
                elif not last:
                    repaired.append(interrupted(message.conversation_id, call))
        else:
            repaired.append(message)
    return repaired


class _Results:
    """The TOOL messages of a history, each to be given to one call that stands before it."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._by_call: dict[str, list[tuple[int, Message]]] = {}
        for index, message in enumerate(messages):
            if message.role is MessageRole.TOOL and message.tool_call_id:
                self._by_call.setdefault(message.tool_call_id, []).append((index, message))
        self._callers: dict[str, list[int]] = {}
        for index, message in enumerate(messages):
            for call in calls_of(message):
                self._callers.setdefault(str(call.get("id")), []).append(index)

    def take(self, call_id: str | None, caller: int) -> Message | None:
        """The first result of the call that stands behind `caller` and before the next message that uses its id."""
        if call_id is None:
            return None
        end = next((index for index in self._callers.get(call_id, ()) if index > caller), None)
        for index, message in self._by_call.get(call_id, ()):
            if index > caller and (end is None or index < end):
                return message
        return None


def _with_unique_ids(message: Message, index: int) -> Message:
    """`message`, or a copy in which calls without an id, or with one used before in it, have one of their own."""
    seen: set[str] = set()
    changed = False
    metadata = dict(message.metadata)
    for key, calls in (("tool_calls", message.tool_calls), ("invalid_tool_calls", message.invalid_tool_calls)):
        fixed: list[dict[str, Any]] = []
        for number, call in enumerate(calls):
            call_id = call.get("id")
            if not isinstance(call_id, str) or not call_id or call_id in seen:
                call = {**call, "id": f"call_{index}_{key[0]}{number}"}
                changed = True
            seen.add(call["id"])
            fixed.append(call)
        if fixed:
            metadata[key] = fixed
    return message.model_copy(update={"metadata": metadata}) if changed else message
