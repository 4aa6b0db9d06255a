"""Google's Gemini API.

The types are those of the `google-genai` package; the rules for signatures are in
https://ai.google.dev/gemini-api/docs/thought-signatures
"""

from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from typing import Any
from urllib.parse import quote

import orjson
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolMessage

from app.adapters.outbound.llm_providers.content import Part, Takes, Text, parts_of, readable, text_of
from app.adapters.outbound.llm_providers.endpoint import Endpoint
from app.adapters.outbound.llm_providers.fields import Fields, fields, objects
from app.adapters.outbound.llm_providers.history import BLOCKS, SIGNATURES, portable
from app.adapters.outbound.llm_providers.openai_stream import StreamReader
from app.adapters.outbound.llm_providers.options import (
    chosen_tool,
    effort_for,
    output_limit,
    refuse_unknown,
    stops,
    wanted_schema,
)
from app.adapters.outbound.llm_providers.schemas import declarations, inlined
from app.adapters.outbound.llm_providers.wire_provider import Replay, Request, WireProvider
from app.core.domain.errors import ProviderRejected, ProviderUnavailable
from app.core.domain.ids import new_id
from app.core.domain.text import clean_text
from app.core.ports import IAnswerSink, ModelFacts

UNCHECKED = "skip_thought_signature_validator"
"""The signature of a call that another model made: https://ai.google.dev/gemini-api/docs/thought-signatures"""

_SAMPLING = {"temperature": "temperature", "top_p": "topP"}
_SAME = {"seed": "seed", "presence_penalty": "presencePenalty", "frequency_penalty": "frequencyPenalty"}
_KNOWN = frozenset(
    [
        *(*_SAMPLING, *_SAME, "max_tokens", "max_completion_tokens", "tool_choice", "stop", "response_format"),
        *("stream_options", "parallel_tool_calls", "reasoning_effort"),
    ]
)
_LEVELS = {"none": "MINIMAL", "minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM"}
"""https://ai.google.dev/gemini-api/docs/thinking#thinking-levels; higher efforts are HIGH."""
_BUDGETS = {"none": 0, "minimal": 512, "low": 1_024, "medium": 8_192}
"""The same for the models before Gemini 3, in tokens; higher efforts are 24,576."""

_FINISH = {"STOP": "stop", "MAX_TOKENS": "length"}
_BROKEN = frozenset(
    [
        *("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE"),
        *("MALFORMED_RESPONSE", "OTHER", "FINISH_REASON_UNSPECIFIED"),
    ]
)
"""Ends that are no answer and nobody's filter: the same request may succeed the next time."""


def make(
    model: str, endpoint: Endpoint, facts: ModelFacts, tools: Sequence[Any], options: Mapping[str, Any]
) -> WireProvider:
    """The provider for `model`, with `tools` and with `options` in OpenAI's words.

    Raises:
        ProviderRejected: Gemini has no such thing as the options ask for.
    """
    return WireProvider(GeminiWire(model, endpoint, facts, tools, options), endpoint, model)


class GeminiWire:
    """An `IWire` for one model."""

    def __init__(
        self, model: str, endpoint: Endpoint, facts: ModelFacts, tools: Sequence[Any], options: Mapping[str, Any]
    ) -> None:
        self._model = model
        self._endpoint = endpoint
        # An image's address is not passed on: Gemini reads bytes, or files of its own.
        self._takes = Takes(
            images=facts.images is not False,
            image_urls=False,
            pdf=facts.pdf is not False,
            others=("audio/", "video/") if facts.images else (),
        )
        # Only the models of the first generations do without signatures.
        self._signs = not model.startswith(("gemini-1", "gemini-2"))
        self._options: Fields = {}
        if generation := _generation(model, options, facts, endpoint.title):
            self._options["generationConfig"] = generation
        if tools:
            self._options["tools"] = [{"functionDeclarations": [_tool(tool) for tool in declarations(tools)]}]
            if config := _calling(options.get("tool_choice")):
                self._options["toolConfig"] = {"functionCallingConfig": config}

    def request(self, messages: Sequence[Any], replay: Replay) -> Request:
        """The request that asks for the next answer."""
        ours = portable(messages, self._endpoint.provider.made_by, self._endpoint.provider.ids)
        body: Fields = dict(self._options)
        if isinstance(ours[0], SystemMessage):
            body["systemInstruction"] = {"parts": [{"text": ours.pop(0).text}]}
        contents: list[Fields] = []
        for message in ours:
            role = "model" if isinstance(message, AIMessage) else "user"
            parts = list(self._parts(message, replay))
            if contents and contents[-1]["role"] == role:
                contents[-1]["parts"] += parts
            else:
                contents.append({"role": role, "parts": parts})
        body["contents"] = contents
        return Request(f"/models/{quote(self._model, safe='')}:streamGenerateContent?alt=sse", body)

    def reader(self, sink: IAnswerSink) -> "GeminiReader":
        """A reader for one answer."""
        return GeminiReader(sink, self._endpoint, self._model)

    def _parts(self, message: BaseMessage, replay: Replay) -> Iterator[Fields]:
        if isinstance(message, AIMessage):
            yield from self._answer(message, replay)
            return
        parts = readable(parts_of(message.content), self._takes)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        if not isinstance(message, ToolMessage):
            yield from map(_part, parts)
            return
        key = "error" if message.status == "error" else "output"
        response = {"id": message.tool_call_id, "name": message.name or "unknown", "response": {key: text_of(parts)}}
        yield {"functionResponse": response}
        yield from (_part(part) for part in parts if not isinstance(part, Text))

    def _answer(self, message: AIMessage, replay: Replay) -> Iterator[Fields]:
        """An assistant message as the parts that it came as, or as text and calls."""
        calls = {str(call["id"]): call for call in message.tool_calls}
        kept: list[Fields] = message.additional_kwargs.get(BLOCKS) or []
        signatures: Fields = message.additional_kwargs.get(SIGNATURES) or {}
        made: list[Fields] = []
        for block in kept:
            signature = {"thoughtSignature": block["thoughtSignature"]} if block.get("thoughtSignature") else {}
            signature = signature if replay.reasoning else {}
            if "functionCall" in block:
                if (call := calls.pop(str(block["functionCall"]), None)) is not None:
                    made.append({**_call(call), **signature})
            elif signature or str(block.get("text", "")).strip():
                made.append({"text": block.get("text", ""), **signature})
        if not any("text" in part for part in made) and message.text.strip():
            made.insert(0, {"text": message.text})
        for call_id, call in calls.items():
            signature = {"thoughtSignature": signatures[call_id]} if signatures.get(call_id) else {}
            made.append({**_call(call), **(signature if replay.reasoning else {})})
        if self._signs:
            first = next((part for part in made if "functionCall" in part), None)
            if first is not None and "thoughtSignature" not in first:
                first["thoughtSignature"] = UNCHECKED
        yield from made


def _buffer(text: str) -> StringIO:
    buffer = StringIO()
    buffer.write(text)
    return buffer


def _written(arguments: object) -> str:
    """Arguments as the text that other providers send; those that are nested too deeply to be written are no object."""
    try:
        return orjson.dumps(arguments).decode()
    except orjson.JSONEncodeError:
        return "nested too deeply"


def _generation(model: str, options: Mapping[str, Any], facts: ModelFacts, title: str) -> Fields:
    refuse_unknown(options, _KNOWN, title)
    if options.get("parallel_tool_calls") is False:
        raise ProviderRejected(
            f"{title} cannot be kept from calling several tools at once: leave parallel_tool_calls out."
        )
    # Gemini 3.6 and newer ignore sampling parameters, and announce to refuse them:
    # https://ai.google.dev/gemini-api/docs/gemini-3
    names = _SAME if facts.sampling is False else {**_SAMPLING, **_SAME}
    fields: Fields = {theirs: options[ours] for ours, theirs in names.items() if options.get(ours) is not None}
    if (limit := output_limit(options)) is not None:
        fields["maxOutputTokens"] = limit
    if stop := stops(options):
        fields["stopSequences"] = stop
    if (response_format := options.get("response_format")) and response_format.get("type") != "text":
        fields["responseMimeType"] = "application/json"
        if (schema := wanted_schema(response_format)) is not None:
            fields["responseJsonSchema"] = inlined(schema)
    if facts.reasoning:
        fields["thinkingConfig"] = _thinking(model, effort_for(options, facts))
    return fields


def _thinking(model: str, effort: str | None) -> Fields:
    thinking: Fields = {"includeThoughts": True}
    if effort is not None and model.startswith("gemini-2"):
        thinking["thinkingBudget"] = _BUDGETS.get(effort, 24_576)
    elif effort is not None:
        thinking["thinkingLevel"] = _LEVELS.get(effort, "HIGH")
    return thinking


def _calling(choice: Any) -> Fields | None:
    if (name := chosen_tool(choice)) is not None:
        return {"mode": "ANY", "allowedFunctionNames": [name]}
    modes = {"auto": "AUTO", "required": "ANY", "none": "NONE"}
    return {"mode": modes[choice]} if isinstance(choice, str) and choice in modes else None


def _tool(declared: Fields) -> Fields:
    """A declaration with its schema as it is: `parameters` would take a subset of it only."""
    schema = inlined(declared.get("parameters"))
    return {
        "name": declared["name"],
        "description": declared.get("description") or declared["name"],
        "parametersJsonSchema": schema,
    }


def _call(call: Any) -> Fields:
    return {"functionCall": {"id": call["id"], "name": call["name"], "args": call["args"]}}


def _part(part: Part) -> Fields:
    if isinstance(part, Text):
        return {"text": part.text}
    if part.data:
        return {"inlineData": {"mimeType": part.media_type, "data": part.data}}
    return {"fileData": {"mimeType": part.media_type, "fileUri": part.url}}


class GeminiReader(StreamReader):
    """Reads one streamed answer."""

    def __init__(self, sink: IAnswerSink, endpoint: Endpoint, model: str) -> None:
        super().__init__(sink, endpoint, model)
        self._parts: list[Fields] = []
        self._blocked: str | None = None

    def close(self) -> None:
        """The body has ended.

        Raises:
            ProviderRejected: Gemini does not answer this.
            ProviderUnavailable: the answer was cut off.
        """
        if not self.finished and self._blocked is not None:
            raise ProviderRejected(f"{self._endpoint.title} does not answer this: {self._blocked}.")
        super().close()

    def message(self) -> AIMessage:
        """The whole answer; its parts are kept where one of them is signed."""
        answer = super().message()
        if any("thoughtSignature" in part for part in self._parts):
            ids = iter(call.id for call in self._calls)
            answer.additional_kwargs[BLOCKS] = [
                {**part, "functionCall": next(ids)}
                if "functionCall" in part
                else {**part, "text": part["text"].getvalue()}
                for part in self._parts
            ]
        return answer

    def _whole(self, document: Any) -> None:
        chunks = objects(document) or [fields(document)]
        for chunk in chunks:
            self._chunk(chunk)
        if not any(chunk.get("candidates") or chunk.get("promptFeedback") for chunk in chunks):
            super()._whole(document)

    def _chunk(self, chunk: Fields) -> None:
        if usage := chunk.get("usageMetadata"):
            self._usage = usage
        if model := chunk.get("modelVersion"):
            self._response["model_name"] = model
        if reason := fields(chunk.get("promptFeedback")).get("blockReason"):
            self._blocked = reason
        candidates = objects(chunk.get("candidates"))
        if not candidates:
            if chunk.get("error"):
                super()._chunk(chunk)
            return
        candidate = candidates[0]
        for part in objects(fields(candidate.get("content")).get("parts")):
            self._part(part)
        if reason := candidate.get("finishReason"):
            self._end(reason)

    def _part(self, part: Fields) -> None:
        signature = {"thoughtSignature": part["thoughtSignature"]} if part.get("thoughtSignature") else {}
        if "functionCall" in part:
            self._add_call(fields(part["functionCall"]))
            self._parts.append({"functionCall": "", **signature})
        elif part.get("thought"):
            if text := part.get("text"):
                self._add_reasoning(text)
        elif (text := part.get("text")) or signature:
            if text:
                self._add_content(text)
            self._add_part(text or "", signature)

    def _add_part(self, text: str, signature: Fields) -> None:
        """Keep a part of text: unsigned ones that follow one another are one; a signed one must not be merged."""
        last = self._parts[-1] if self._parts else None
        if last is not None and "text" in last and not signature and "thoughtSignature" not in last:
            last["text"].write(clean_text(text))
        else:
            self._parts.append({"text": _buffer(clean_text(text)), **signature})

    def _add_call(self, given: Fields) -> None:
        call = self._new_call(len(self._calls), given.get("id") or f"call_{new_id()}", given.get("name") or "")
        if self._fragment is not None:
            self._fragment(id(call), call.id, call.name, "")
        self._add_arguments(call, _written(given.get("args") or {}))

    def _end(self, reason: str) -> None:
        if reason in _BROKEN and not self._calls:
            raise ProviderUnavailable(
                f"{self._endpoint.title} could not finish its answer ({reason}). Try again, or use another model."
            )
        self.finished = True
        finish = _FINISH.get(reason, "content_filter")
        self._response["finish_reason"] = "tool_calls" if self._calls and finish == "stop" else finish

    def _usage_metadata(self) -> Any:
        usage = self._usage
        if not usage:
            return None
        read = (usage.get("promptTokenCount") or 0) + (usage.get("toolUsePromptTokenCount") or 0)
        thought = usage.get("thoughtsTokenCount") or 0
        written = (usage.get("candidatesTokenCount") or 0) + thought
        return {
            "input_tokens": read,
            "output_tokens": written,
            "total_tokens": read + written,
            "input_token_details": {"cache_read": usage.get("cachedContentTokenCount") or 0},
            "output_token_details": {"reasoning": thought},
        }
