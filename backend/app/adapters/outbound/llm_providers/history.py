"""A stored history for a provider that did not write it: what only its author understands is left out.

A message says where it comes from in `response_metadata["model_provider"]`. What its provider wants to see again of
it (signatures, reasoning) lies in `additional_kwargs`, and is sent to that provider alone.
"""

from collections.abc import Iterable, Sequence
from typing import Any, cast

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolCall,
    ToolMessage,
)

from app.adapters.outbound.llm_providers.dialect import CallIds, Renaming, fit_name
from app.core.domain.ids import new_id

BLOCKS = "blocks"
"""Where the parts of an answer are kept whose provider wants them back as they were, in their order.

A call is kept as a block that names it: its name and arguments are among the message's calls.
"""

SIGNATURES = "__gemini_function_call_thought_signatures__"
"""Where messages of earlier versions keep Gemini's signatures of calls, by the calls' ids."""

BEGINNING = "(The conversation goes on from here.)"
NOTHING = "(nothing)"


def own_or_plain(messages: Sequence[BaseMessage], made_by: str) -> list[BaseMessage]:
    """`messages` for the provider whose mark is `made_by`: what others wrote is text and calls, and nothing else."""
    return [_own_or_plain(message, made_by) for message in messages]


def _own_or_plain(message: BaseMessage, made_by: str) -> BaseMessage:
    content = cast("str | list[Any]", message.content)  # pyright: ignore[reportUnknownMemberType]
    if isinstance(message, AIMessage):
        if message.response_metadata.get("model_provider") == made_by:
            return message
        if message.additional_kwargs or not isinstance(content, str):
            return message.model_copy(update={"additional_kwargs": {}, "content": _text(content)})
    return message


def portable(messages: Sequence[BaseMessage], made_by: str, ids: CallIds) -> list[BaseMessage]:
    """`messages` for a provider with a wire of its own, whose rules for a conversation are strict.

    The system prompt stands first and alone, a user's message after it; no message is empty; every call has an id
    that the provider takes, a name and an object of arguments, and its result has the same id.
    """
    renaming = Renaming(ids)
    names: dict[str, str] = {}
    kept: list[BaseMessage] = []
    for message in own_or_plain(messages, made_by):
        if isinstance(message, AIMessage):
            if (answer := _answer(message, renaming)) is not None:
                names = {call["id"] or "": call["name"] for call in answer.tool_calls}
                kept.append(answer)
        elif isinstance(message, ToolMessage):
            call_id = renaming.of_result(message.tool_call_id)
            kept.append(message.model_copy(update={"tool_call_id": call_id, "name": names.get(call_id)}))
        elif isinstance(message, SystemMessage):
            _add_system(kept, message)
        else:
            blank = not message.text.strip() and not _has_more_than_text(message)
            kept.append(HumanMessage(NOTHING) if blank else message)
    first = 1 if kept and isinstance(kept[0], SystemMessage) else 0
    if len(kept) <= first or not isinstance(kept[first], HumanMessage):
        kept.insert(first, HumanMessage(BEGINNING))
    return kept


def _answer(message: AIMessage, renaming: Renaming) -> AIMessage | None:
    """An assistant message; None where there is nothing in it."""
    calls = [*message.tool_calls, *map(_as_call, message.invalid_tool_calls)]
    content = _spoken(cast("str | list[Any]", message.content))  # pyright: ignore[reportUnknownMemberType]
    if not calls:
        if not content and not message.additional_kwargs.get(BLOCKS):
            return None
        return message.model_copy(update={"content": content})
    old = [str(call["id"] or "") for call in calls]
    new = renaming.of_calls(old)
    renamed = [
        {**call, "id": call_id, "name": fit_name(call["name"])} for call, call_id in zip(calls, new, strict=True)
    ]
    additional = _renamed(message.additional_kwargs, dict(zip(old, new, strict=True)))
    changes = {"content": content, "tool_calls": renamed, "invalid_tool_calls": [], "additional_kwargs": additional}
    return message.model_copy(update=changes)


def with_unused_ids(answer: Any, messages: Sequence[BaseMessage]) -> Any:
    """`answer`, or a copy of it with new ids for calls whose ids `messages` have used before.

    Some providers number the calls of each answer from 0. Approvals, results and jobs are found by a call's id, so those
    of an earlier call would count for a later one.
    """
    if not isinstance(answer, AIMessage):
        return answer
    used = {call["id"] for message in messages if isinstance(message, AIMessage) for call in _calls_of(message)}
    names = {call["id"]: f"call_{new_id()}" for call in _calls_of(answer) if call["id"] and call["id"] in used}
    if not names:
        return answer
    changes = {
        "tool_calls": [{**call, "id": names.get(call["id"] or "", call["id"])} for call in answer.tool_calls],
        "invalid_tool_calls": [
            {**call, "id": names.get(call["id"] or "", call["id"])} for call in answer.invalid_tool_calls
        ],
        "additional_kwargs": _renamed(answer.additional_kwargs, names),
    }
    return answer.model_copy(update=changes)


def _calls_of(message: AIMessage) -> Sequence[ToolCall | InvalidToolCall]:
    return [*message.tool_calls, *message.invalid_tool_calls]


def _renamed(additional: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """What is kept beside a message, with the new ids of its calls."""
    if signatures := additional.get(SIGNATURES):
        additional = {**additional, SIGNATURES: {names.get(key, key): value for key, value in signatures.items()}}
    if blocks := additional.get(BLOCKS):
        renamed = [
            {**block, **{key: names.get(block[key], block[key]) for key in _CALL_IDS if key in block}}
            for block in blocks
        ]
        additional = {**additional, BLOCKS: renamed}
    return additional


_CALL_IDS = ("call_id", "tool_use_id", "functionCall")
"""Where a kept block names the call whose place it marks."""


def _spoken(content: Any) -> Any:
    """Content without text that is blank."""
    if isinstance(content, str):
        return content if content.strip() else ""
    return [block for block in content or () if block.get("type") != "text" or block.get("text", "").strip()]


def _as_call(call: Any) -> Any:
    """A call whose arguments could not be read, with what there is of them."""
    return {
        "type": "tool_call",
        "id": call["id"],
        "name": call["name"] or "",
        "args": {"malformed": call["args"] or ""},
    }


def _add_system(kept: list[BaseMessage], message: SystemMessage) -> None:
    if not kept:
        kept.append(message)
    elif len(kept) == 1 and isinstance(kept[0], SystemMessage):
        kept[0] = SystemMessage(f"{kept[0].text}\n\n{message.text}")
    elif message.text.strip():
        kept.append(HumanMessage(message.text))


def _text(content: str | Iterable[Any]) -> str:
    """The text of a message's content."""
    if isinstance(content, str):
        return content
    parts: list[Any] = [cast("dict[str, Any]", p).get("text") if isinstance(p, dict) else p for p in content]
    return "\n".join(part for part in parts if isinstance(part, str))


def _has_more_than_text(message: BaseMessage) -> bool:
    content = cast("str | list[Any]", message.content)  # pyright: ignore[reportUnknownMemberType]
    return not isinstance(content, str) and any(
        isinstance(part, dict) and cast("dict[str, Any]", part).get("type") != "text" for part in content
    )
