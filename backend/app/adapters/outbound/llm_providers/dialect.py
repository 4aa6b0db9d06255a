"""What OpenAI-shaped providers take differently: a row of data each, and the request put into their words.

A request is a `chat/completions` body, whoever made it: LangChain for the agent, or a caller of `/v1`.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import orjson

from app.adapters.outbound.llm_providers.content import Takes, Text, parts_of, readable
from app.adapters.outbound.llm_providers.options import effort_for, refuse_unknown
from app.adapters.outbound.llm_providers.schemas import inlined, typed
from app.core.domain.errors import ProviderRejected
from app.core.ports import ModelFacts

Payload = dict[str, Any]

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_NO_NAME = re.compile(r"[^a-zA-Z0-9_-]")
MAX_NAME = 64
MISTRAL = re.compile(r"(?:^|[/-])(?:mi[sx]tral|ministral|magistral|devstral|codestral|pixtral)", re.IGNORECASE)
"""Models whose chat template wants an assistant between a tool and a user, whoever serves them."""

BRIDGE: Payload = {"role": "assistant", "content": "(The turn was stopped here.)"}
"""Stands there. "Unexpected role 'user' after role 'tool'", code 3230: https://github.com/zed-industries/zed/pull/31736"""

UNKNOWN = ModelFacts()
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
        reasoning: the field of an assistant message in which it wants its own reasoning back, beside tool calls.
        needs_reasoning: whether that field has to be there.
        details: the field of an assistant message that has to come back to it as it was sent.
        renames: fields of the request that have another name there.
        fields: the fields of a request that it knows, under its own names; None where unknown ones do no harm. What is
            not among them is left out if it says nothing about the answer, and refused in words otherwise.
        names_speakers: whether messages of users may have a `name`.
        developer: whether it knows the role `developer`; else that is a system message.
        bridges_tools: whether it wants an assistant message between a tool's result and a user's message.
        image_urls: whether it fetches images; else it takes their bytes only.
        pdf: whether it takes PDF files.
        fixed_sampling: models that accept no other `temperature` or `top_p` than their own, by their names.
        effort: where it wants the reasoning effort: its own field, or the object `thinking`; None where it has none.
        plain_schemas: whether schemas of tools must have no references, and a type everywhere.
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
    needs_reasoning: bool = False
    details: str | None = None
    renames: Mapping[str, str] | None = None
    fields: frozenset[str] | None = None
    names_speakers: bool = True
    developer: bool = False
    bridges_tools: bool = False
    image_urls: bool = True
    pdf: bool = False
    fixed_sampling: re.Pattern[str] | None = None
    effort: Literal["reasoning_effort", "thinking"] | None = "reasoning_effort"
    plain_schemas: bool = False

    def adapt(self, payload: Payload, facts: ModelFacts = UNKNOWN) -> Payload:
        """The request in this provider's words; `payload` itself is left as it is.

        Args:
            facts: what is known of the model.

        Raises:
            ProviderRejected: the provider has no such thing as the request asks for.
        """
        adapted = dict(payload)
        model = str(payload.get("model") or "")
        takes = Takes(images=facts.images is not False, image_urls=self.image_urls, pdf=self.pdf)
        adapted["messages"] = self._messages(payload["messages"], takes, model)
        self._tool_choice(adapted, facts.reasoning)
        self._sampling(adapted, model, facts)
        self._effort(adapted, facts)
        if self.plain_schemas and payload.get("tools"):
            adapted["tools"] = [_plain_tool(tool) for tool in payload["tools"]]
        if not self.stream_options:
            adapted.pop("stream_options", None)
        if self.max_tokens is not None:
            for name in ("max_completion_tokens", "max_tokens"):
                if name != self.max_tokens and (limit := adapted.pop(name, None)) is not None:
                    adapted[self.max_tokens] = limit
        for name, theirs in (self.renames or {}).items():
            if name in adapted:
                adapted[theirs] = adapted.pop(name)
        self._known_fields(adapted)
        return adapted if self.takes_null else cast("Payload", _without_nulls(adapted))

    def _known_fields(self, payload: Payload) -> None:
        for name in [name for name in payload if self.fields is not None and name not in self.fields]:
            value = payload.pop(name)
            refuse_unknown({name: value}, frozenset(), self.title)

    def _sampling(self, payload: Payload, model: str, facts: ModelFacts) -> None:
        """Leave out hints that the model refuses: its answers do not depend on them."""
        if facts.sampling is False or (self.fixed_sampling is not None and self.fixed_sampling.search(model)):
            for name in ("temperature", "top_p"):
                payload.pop(name, None)

    def _effort(self, payload: Payload, facts: ModelFacts) -> None:
        effort = effort_for(payload, facts)
        payload.pop("reasoning_effort", None)
        if effort is None or facts.reasoning is False or self.effort is None:
            return
        if self.effort == "thinking":
            payload.setdefault("thinking", {"type": "disabled" if effort == "none" else "enabled"})
        else:
            payload["reasoning_effort"] = effort

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

    def _messages(self, messages: Sequence[Any], takes: Takes, model: str) -> list[Any]:
        renaming = Renaming(self.ids)
        kept: list[Any] = []
        bridges = self.bridges_tools or MISTRAL.search(model) is not None
        for message in messages:
            role = message.get("role") if isinstance(message, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            if role == "assistant":
                adapted = self._assistant(cast("Payload", message), renaming)
                if adapted is not None:
                    kept.append(adapted)
            elif role == "tool":
                result = cast("Payload", message)
                result = {**result, "tool_call_id": renaming.of_result(str(result.get("tool_call_id") or ""))}
                kept.append(_with_content(result, takes))
            elif isinstance(message, dict):
                if bridges and role == "user" and kept and kept[-1].get("role") == "tool":
                    kept.append(dict(BRIDGE))
                kept.append(self._other(cast("Payload", message), takes))
            else:
                kept.append(message)
        return kept

    def _other(self, message: Payload, takes: Takes) -> Payload:
        """A message of a user, or of the system."""
        adapted = _with_content(message, takes)
        if not self.names_speakers:
            adapted.pop("name", None)
        if adapted.get("role") == "developer" and not self.developer:
            adapted["role"] = "system"
        return adapted

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
        own = message.get("reasoning_content") or message.get("reasoning")
        if self.reasoning is not None and (own or self.needs_reasoning):
            adapted[self.reasoning] = own or OTHER_REASONING
        return adapted


def _with_content(message: Payload, takes: Takes) -> Payload:
    """A message of which the model reads every part: what it cannot read became text."""
    content = message.get("content")
    if not isinstance(content, list):
        return dict(message)
    return {**message, "content": [_part(part, takes) for part in cast("list[Any]", content)]}


def _part(part: Any, takes: Takes) -> Any:
    known = parts_of([part])
    if len(known) != 1 or isinstance(known[0], Text):
        return part
    (seen,) = readable(known, takes)
    return {"type": "text", "text": seen.text} if isinstance(seen, Text) else part


def _plain_tool(tool: Payload) -> Payload:
    function: Payload = tool.get("function") or {}
    return {**tool, "function": {**function, "parameters": typed(inlined(function.get("parameters")))}}


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
