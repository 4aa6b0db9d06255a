"""The lean reader of OpenAI's streaming wire: bytes in, pieces out, one assistant message at the end.

It builds the message that langchain-openai would have built from the same stream (a test compares the two), without
an object for every piece. It differs where langchain-openai guesses or drops: arguments that are not whole JSON make
an invalid call instead of being completed, calls without an id or an index are kept, and so is a refusal, as text.
"""

from collections.abc import Callable, Iterable
from io import StringIO
from typing import Any, ClassVar, cast

import orjson
from langchain_core.messages import AIMessage, InvalidToolCall, ToolCall

from app.adapters.outbound.llm_providers.bounds import LIMITS, LINES, MIB, AnswerMeter, EventBuffer, too_large
from app.adapters.outbound.llm_providers.endpoint import Endpoint
from app.adapters.outbound.llm_providers.errors import in_stream
from app.adapters.outbound.llm_providers.fields import Fields, fields, objects
from app.adapters.outbound.llm_providers.think_tags import ThinkTags
from app.core.domain.errors import ProviderUnavailable
from app.core.domain.ids import new_id
from app.core.domain.text import MAX_DEPTH, clean_json, clean_text, is_deeper_than, load_json
from app.core.ports import IAnswerSink, IFragmentSink

MAX_NAME = 512
_KEPT = {"model": "model_name", "system_fingerprint": "system_fingerprint", "service_tier": "service_tier"}


BROKEN_ENDS = frozenset({"error", "network_error", "abort"})
"""Ends of OpenRouter, BigModel and vLLM that are no end of an answer: the same request may succeed the next time."""

FILTERED_ENDS = {"sensitive": "content_filter"}
"""BigModel's word for its filter."""


class StreamReader:
    """Reads one streamed answer.

    Attributes:
        max_event: how many bytes one event may have.
        events: how many have arrived.
        finished: whether the answer came to its end, and was not cut off.
        done: whether the provider said that nothing follows.
    """

    max_event: ClassVar[int] = LIMITS.line

    def __init__(self, sink: IAnswerSink, endpoint: Endpoint, model: str) -> None:
        self._sink = sink
        self._fragment = sink.fragment if isinstance(sink, IFragmentSink) else None
        self._endpoint = endpoint
        self._model = model
        self._lines = EventBuffer(endpoint.title, ends=LINES, limit=self.max_event)
        self._meter = AnswerMeter(endpoint.title)
        self._text = StringIO()
        self._reasoning = StringIO()
        self._new_text: list[str] = []
        self._new_reasoning: list[str] = []
        self._calls: list[Call] = []
        self._usage: dict[str, Any] | None = None
        self._service_tier: str | None = None
        self._response: dict[str, Any] = {}
        self._details: list[dict[str, Any]] = []
        self._tags = ThinkTags()
        self.events = 0
        self.finished = False
        self.done = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body; whole lines are read at once.

        Raises:
            ProviderUnavailable: the provider sent an error, too much, or something that is not JSON.
        """
        try:
            for line in self._lines.feed(data).split(b"\n"):
                if line.startswith(b"data:"):
                    if len(line) > self.max_event:
                        raise too_large(self._endpoint.title, f"an event of more than {self.max_event // MIB} MiB")
                    self._event(line[5:].strip())
        finally:  # what came before an error is kept
            self._let_out()

    def take(self, body: bytes) -> None:
        """Take a whole answer that was not streamed.

        Raises:
            ProviderUnavailable: it is an error, too much, or not an answer.
        """
        try:
            document: Any = load_json(body)
        except ValueError as error:
            raise self._endpoint.not_json() from error
        self.events += 1
        try:
            self._checked(self._whole, document)
            self._add_tagged(self._tags.rest())
        finally:
            self._let_out()
        if not self.finished:
            raise self._endpoint.not_a_model("application/json that is no answer")

    def close(self) -> None:
        """The body has ended: read what stands in its last line.

        Raises:
            ProviderUnavailable: the answer was cut off.
        """
        self.feed(b"\n")
        self._add_tagged(self._tags.rest())
        self._let_out()
        if not self.finished:
            raise self._endpoint.cut_short()

    def message(self) -> AIMessage:
        """The whole answer."""
        valid: list[ToolCall] = []
        invalid: list[InvalidToolCall] = []
        for call in self._calls:
            put_call(call.id, call.name, call.arguments.getvalue(), valid, invalid)
        additional: dict[str, Any] = {}
        if reasoning := self._reasoning.getvalue():
            additional["reasoning_content"] = reasoning
        if self._details:
            additional["reasoning_details"] = self._details
        return AIMessage(
            content=self._text.getvalue(),
            tool_calls=valid,
            invalid_tool_calls=invalid,
            usage_metadata=self._usage_metadata(),
            additional_kwargs=additional,
            response_metadata={"model_provider": self._endpoint.provider.made_by, **self._response},
        )

    def _event(self, data: bytes) -> None:
        if data == b"[DONE]":
            self.finished = self.done = True
            return
        try:
            chunk: Any = load_json(data)
        except ValueError as error:
            raise self._endpoint.not_json() from error
        self.events += 1
        if isinstance(chunk, dict):
            self._checked(self._chunk, cast("dict[str, Any]", chunk))

    def _checked(self, read: Callable[[Any], None], document: Any) -> None:
        try:
            read(document)
        except (AttributeError, KeyError, TypeError) as error:  # a field of another type than it should be
            raise ProviderUnavailable(
                f"{self._endpoint.title} sent an answer that does not follow the format of its API. Try again."
            ) from error

    def _whole(self, document: Any) -> None:
        """Read an answer that was not streamed."""
        answer = fields(document)
        choices = objects(answer.get("choices"))
        self._chunk({**answer, "choices": [{**choice, "delta": choice.get("message")} for choice in choices[:1]]})
        self.finished = self.done = bool(choices)

    def _chunk(self, chunk: dict[str, Any]) -> None:
        # vLLM's older servers: https://github.com/vllm-project/vllm/blob/v0.10.0/vllm/entrypoints/openai/protocol.py
        if error := chunk.get("error") or (chunk if chunk.get("object") == "error" else None):
            endpoint = self._endpoint
            raise in_stream(
                error,
                provider=endpoint.title,
                model=self._model,
                key_variable=endpoint.provider.key_variable,
                secret=endpoint.secret,
            )
        if usage := chunk.get("usage") or fields(chunk.get("x_groq")).get("usage"):
            self._usage = usage
            self._service_tier = chunk.get("service_tier")
        choices = chunk.get("choices")
        if not choices:
            return
        choice = choices[0]
        if usage := choice.get("usage"):  # Moonshot
            self._usage = usage
        if delta := choice.get("delta"):
            self._delta(delta)
        if reason := choice.get("finish_reason"):
            if reason in BROKEN_ENDS and not self._calls:
                raise ProviderUnavailable(
                    f"{self._endpoint.title} could not finish its answer ({reason}). Try again, or use another model."
                )
            self.finished = True
            self._response["finish_reason"] = FILTERED_ENDS.get(reason, reason)
            for key, name in _KEPT.items():
                if value := chunk.get(key):
                    self._response[name] = value

    def _delta(self, delta: dict[str, Any]) -> None:
        if piece := delta.get("reasoning_content") or delta.get("reasoning"):
            self._add_reasoning(piece)
        # A refusal is what the model says to the user in place of an answer.
        if piece := delta.get("content") or delta.get("refusal"):
            if isinstance(piece, str):
                self._add_tagged(self._tags.split(piece))
            else:
                self._add_content(piece)
        for fragment in map(_with_text, delta.get("tool_calls") or ()):
            call = self._call_for(fragment)
            call.add(fragment, self._meter)
            if self._fragment is not None:
                function: dict[str, Any] = fragment.get("function") or {}
                self._fragment(id(call), fragment.get("id"), function.get("name"), function.get("arguments"))
        for detail in delta.get("reasoning_details") or ():
            self._add_detail(detail)

    def _add_tagged(self, pieces: Iterable[tuple[bool, str]]) -> None:
        for is_reasoning, text in pieces:
            if is_reasoning:
                self._add_reasoning(text)
            else:
                self._add_content(text)

    def _add_content(self, content: Any) -> None:
        """Text; or a list of parts, in which Mistral's thinking models keep their thoughts apart."""
        if isinstance(content, str):
            if self._new_reasoning:
                self._let_out()
            self._meter.text(content)
            self._new_text.append(content)
            return
        for part in cast("list[dict[str, Any]]", content):
            if part.get("type") == "thinking":
                thoughts = part.get("thinking") or ()
                self._add_reasoning(
                    thoughts if isinstance(thoughts, str) else "".join(t.get("text", "") for t in thoughts)
                )
            elif text := part.get("text"):
                self._add_content(text)

    def _add_reasoning(self, piece: str) -> None:
        if self._new_text:
            self._let_out()
        self._meter.text(piece)
        self._new_reasoning.append(piece)

    def _add_detail(self, detail: dict[str, Any]) -> None:
        """A fragment of what OpenRouter wants to see again: those of one index and kind are one."""
        for value in detail.values():
            if isinstance(value, str):
                self._meter.text(value)
        key = ("index", "type")
        last = self._details[-1] if self._details else None
        if last is None or detail.get("index") is None or any(last.get(k) != detail.get(k) for k in key):
            self._details.append(dict(detail))
            return
        for name, value in detail.items():
            if name in ("text", "summary", "data") and isinstance(value, str):
                last[name] = (last.get(name) or "") + value
            elif value is not None:
                last[name] = value

    def _let_out(self) -> None:
        """Hand on what arrived since the last time: pieces that came together leave together."""
        if self._new_text:
            piece = clean_text("".join(self._new_text))
            self._new_text.clear()
            self._text.write(piece)
            self._sink.text(piece)
        if self._new_reasoning:
            piece = clean_text("".join(self._new_reasoning))
            self._new_reasoning.clear()
            self._reasoning.write(piece)
            self._sink.reasoning(piece)

    def _call_for(self, fragment: dict[str, Any]) -> "Call":
        """The call that a fragment belongs to: by index; a new id begins a new call where there is no index."""
        index, call_id = fragment.get("index"), fragment.get("id")
        if index is None:
            if self._calls and (not call_id or call_id == self._calls[-1].id):
                return self._calls[-1]
        else:
            for call in self._calls:
                if call.index == index and (not call_id or not call.id or call_id == call.id):
                    return call
        return self._new_call(index)

    def _new_call(self, index: int | None, call_id: str = "", name: str = "") -> "Call":
        call = Call(index)
        self._calls.append(call)
        self._meter.calls(len(self._calls))
        call.add({"id": call_id, "function": {"name": name}}, self._meter)
        return call

    def _add_arguments(self, call: "Call", piece: str) -> None:
        if piece:
            call.add({"function": {"arguments": piece}}, self._meter)
            if self._fragment is not None:
                self._fragment(id(call), None, None, piece)

    def _usage_metadata(self) -> Any:
        from langchain_openai.chat_models.base import (  # pyright: ignore[reportMissingTypeStubs]
            _create_usage_metadata,  # pyright: ignore[reportPrivateUsage, reportUnknownVariableType]
        )

        return None if self._usage is None else _create_usage_metadata(self._usage, self._service_tier)


def _with_text(fragment: Fields) -> Fields:
    """A fragment whose arguments are text: Mistral's types allow an object too."""
    function = fields(fragment.get("function"))
    if not isinstance(function.get("arguments"), dict):
        return fragment
    return {**fragment, "function": {**function, "arguments": orjson.dumps(function["arguments"]).decode()}}


class Call:
    """A tool call while its fragments arrive."""

    __slots__ = ("arguments", "id", "index", "name")

    def __init__(self, index: int | None) -> None:
        self.index = index
        self.id = ""
        self.name = ""
        self.arguments = StringIO()

    def add(self, fragment: dict[str, Any], meter: AnswerMeter) -> None:
        self.id = self.id or fragment.get("id") or ""
        function: dict[str, Any] = fragment.get("function") or {}
        if name := function.get("name"):
            meter.arguments(name)
            self.name = (self.name + name)[:MAX_NAME]
        if arguments := function.get("arguments"):
            meter.arguments(arguments)
            self.arguments.write(arguments)


def put_call(call_id: str, name: str, text: str, valid: list[ToolCall], invalid: list[InvalidToolCall]) -> None:
    """Put a finished call where it belongs: among those whose arguments are a JSON object, or among the others.

    Arguments that are nested too deeply for a store are not read either: a tool must not get them cut.
    """
    call_id, name = call_id or f"call_{new_id()}", clean_text(name)
    try:
        args: Any = load_json(text) if text.strip() else {}
    except ValueError:
        args = None
    if isinstance(args, dict) and not is_deeper_than(args, MAX_DEPTH):
        valid.append(ToolCall(id=call_id, name=name, args=clean_json(args), type="tool_call"))
    else:
        invalid.append(
            InvalidToolCall(id=call_id, name=name, args=clean_text(text), error=None, type="invalid_tool_call")
        )
