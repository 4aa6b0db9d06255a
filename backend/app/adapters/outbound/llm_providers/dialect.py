"""What OpenAI-shaped providers take differently: a row of data each, and the request put into their words.

A request is a `chat/completions` body, whoever made it: LangChain for the agent, or a caller of `/v1`.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import orjson

from app.core.domain.errors import ProviderRejected

Payload = dict[str, Any]

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_NO_NAME = re.compile(r"[^a-zA-Z0-9_-]")
MAX_NAME = 64
OTHER_REASONING = " "
"""What stands for the reasoning of a message that another provider's model wrote, where some reasoning is asked for."""


@dataclass(frozen=True, slots=True)
class CallIds:
    """The ids of tool calls that a provider takes.

    Attributes:
        pattern: what an id must match as a whole.
        length: how long an id is that is made in the place of another.
    """

    pattern: re.Pattern[str]
    length: int

    def fit(self, call_id: str, turn: int = 0) -> str:
        """`call_id` where it passes, else another one that is always the same for it.

        Args:
            turn: set where the same id was used for another call before: it makes another id of it.
        """
        if not turn and self.pattern.fullmatch(call_id):
            return call_id
        number = int.from_bytes(hashlib.sha256(f"{turn}:{call_id}".encode("utf-8", "replace")).digest())
        made = ""
        for _ in range(self.length):
            number, rest = divmod(number, len(_BASE62))
            made += _BASE62[rest]
        return made


ANY_IDS = CallIds(re.compile(r"[ -~]{1,40}"), 24)
NINE_CHARACTERS = CallIds(re.compile(r"[a-zA-Z0-9]{9}"), 9)
WORDS = CallIds(re.compile(r"[a-zA-Z0-9_-]{1,64}"), 24)


class Renaming:
    """The names that calls get for a provider: every call and its result under one id, no id for two calls."""

    def __init__(self, ids: CallIds) -> None:
        self._ids = ids
        self._used: dict[str, int] = {}
        self._now: dict[str, str] = {}

    def of_calls(self, call_ids: Sequence[str]) -> list[str]:
        """The ids for the calls of the next assistant message."""
        self._now = {}
        fitted: list[str] = []
        for call_id in call_ids:
            turn = self._used.get(call_id, 0)
            self._used[call_id] = turn + 1
            self._now[call_id] = self._ids.fit(call_id, turn)
            fitted.append(self._now[call_id])
        return fitted

    def of_result(self, call_id: str) -> str:
        """The id that a result answers."""
        return self._now.get(call_id) or self._ids.fit(call_id)


def fit_name(name: str) -> str:
    """A tool's name as every provider takes it in a history: a model may have made one up."""
    return _NO_NAME.sub("_", name)[:MAX_NAME] or "unknown"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a provider departs from OpenAI's own wire.

    Attributes:
        title: the provider's name, for errors.
        ids: which ids of tool calls pass.
        takes_null: whether a field may be null; else it is left out.
        required: its word for `tool_choice: "required"`; None where it has no such thing.
        names_a_tool: whether `tool_choice` can name one tool.
        forces_thinkers: whether models that think can be made to call a tool.
        says_none: whether it knows `tool_choice: "none"`; else the tools are left out, which means the same.
        stream_options: whether usage in a stream has to be asked for.
        max_tokens: what it calls the limit of an answer; None where it knows both of OpenAI's names.
        reasoning: the field of an assistant message in which it wants its own reasoning back; it has to be there
            beside tool calls.
        details: the field of an assistant message that has to come back to it as it was sent.
        renames: fields of the request that have another name there.
    """

    title: str
    ids: CallIds = ANY_IDS
    takes_null: bool = True
    required: str | None = "required"
    names_a_tool: bool = True
    forces_thinkers: bool = True
    says_none: bool = True
    stream_options: bool = True
    max_tokens: str | None = None
    reasoning: str | None = None
    details: str | None = None
    renames: Mapping[str, str] | None = None

    def adapt(self, payload: Payload, *, thinks: bool | None = None) -> Payload:
        """The request in this provider's words; `payload` itself is left as it is.

        Args:
            thinks: whether the model is known to think before it answers.

        Raises:
            ProviderRejected: the provider has no such thing as the request asks for.
        """
        adapted = dict(payload)
        adapted["messages"] = self._messages(payload["messages"])
        self._tool_choice(adapted, thinks)
        if not self.stream_options:
            adapted.pop("stream_options", None)
        if self.max_tokens is not None:
            for name in ("max_completion_tokens", "max_tokens"):
                if name != self.max_tokens and (limit := adapted.pop(name, None)) is not None:
                    adapted[self.max_tokens] = limit
        for name, theirs in (self.renames or {}).items():
            if name in adapted:
                adapted[theirs] = adapted.pop(name)
        return adapted if self.takes_null else cast("Payload", _without_nulls(adapted))

    def _tool_choice(self, payload: Payload, thinks: bool | None) -> None:
        choice = payload.get("tool_choice")
        if choice is None or choice == "auto":
            return
        if choice == "none":
            if not self.says_none:
                for name in ("tools", "tool_choice", "parallel_tool_calls"):
                    payload.pop(name, None)
            return
        is_named = isinstance(choice, dict)
        if (is_named and not self.names_a_tool) or (not is_named and self.required is None):
            kind = "a named tool" if is_named else f"{choice!r}"
            raise ProviderRejected(
                f"{self.title} has no tool_choice for {kind}. Use 'auto' or 'none', or a model of another provider."
            )
        if thinks and not self.forces_thinkers:
            raise ProviderRejected(
                f"{self.title} does not let this model be made to call a tool, because it thinks first. "
                "Use tool_choice 'auto', or another model."
            )
        if choice == "required":
            payload["tool_choice"] = self.required

    def _messages(self, messages: Sequence[Any]) -> list[Any]:
        renaming = Renaming(self.ids)
        kept: list[Any] = []
        for message in messages:
            role = message.get("role") if isinstance(message, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            if role == "assistant":
                adapted = self._assistant(cast("Payload", message), renaming)
                if adapted is not None:
                    kept.append(adapted)
            elif role == "tool":
                result = cast("Payload", message)
                kept.append({**result, "tool_call_id": renaming.of_result(str(result.get("tool_call_id") or ""))})
            else:
                kept.append(message)
        return kept

    def _assistant(self, message: Payload, renaming: Renaming) -> Payload | None:
        """An assistant message; None where there is nothing in it that a provider would take."""
        calls = message.get("tool_calls")
        adapted = {key: value for key, value in message.items() if key not in _REASONING}
        if self.details is not None and message.get(self.details):
            adapted[self.details] = message[self.details]
        if not calls:
            adapted.pop("tool_calls", None)
            return adapted if _says_something(message) else None
        ids = renaming.of_calls([str(call.get("id") or "") for call in calls])
        adapted["tool_calls"] = [_call(call, call_id) for call, call_id in zip(calls, ids, strict=True)]
        if self.reasoning is not None:
            adapted[self.reasoning] = message.get("reasoning_content") or OTHER_REASONING
        return adapted


_REASONING = ("reasoning", "reasoning_content", "reasoning_details")


def _says_something(message: Payload) -> bool:
    content = message.get("content")
    if isinstance(content, str):
        return bool(content.strip())
    return bool(content or message.get("refusal") or message.get("audio") or message.get("function_call"))


def _call(call: Payload, call_id: str) -> Payload:
    function: Payload = call.get("function") or {}
    arguments = function.get("arguments")
    return {
        **{key: value for key, value in call.items() if key != "index"},
        "id": call_id,
        "type": "function",
        "function": {
            "name": fit_name(str(function.get("name") or "")),
            "arguments": as_object(arguments if isinstance(arguments, str) else ""),
        },
    }


def as_object(arguments: str) -> str:
    """The text of a call's arguments, which a provider takes only as a JSON object."""
    try:
        if isinstance(orjson.loads(arguments or "{}"), dict):
            return arguments or "{}"
    except orjson.JSONDecodeError:
        pass
    return orjson.dumps({"malformed": arguments}).decode()


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        fields = cast("Payload", value)
        return {key: _without_nulls(item) for key, item in fields.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in cast("list[Any]", value)]
    return value
