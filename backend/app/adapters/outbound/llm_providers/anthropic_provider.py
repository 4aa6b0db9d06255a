"""Anthropic's Messages API, in its version of 2026-10-21.

The types are those of the `anthropic` package; the rules for thinking are in
https://platform.claude.com/docs/en/build-with-claude/preserved-thinking
"""

import hashlib
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

import orjson
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolMessage

from app.adapters.outbound.llm_providers.content import Part, Takes, Text, parts_of, readable
from app.adapters.outbound.llm_providers.endpoint import Endpoint
from app.adapters.outbound.llm_providers.fields import Fields, fields, objects
from app.adapters.outbound.llm_providers.history import BLOCKS, portable
from app.adapters.outbound.llm_providers.openai_stream import Call, StreamReader
from app.adapters.outbound.llm_providers.options import (
    chosen_tool,
    effort_for,
    output_limit,
    refuse_unknown,
    stops,
    wanted_schema,
)
from app.adapters.outbound.llm_providers.schemas import EMPTY, declarations
from app.adapters.outbound.llm_providers.wire_provider import PREFIX, Replay, Request, WireProvider
from app.core.domain.errors import ProviderRejected
from app.core.domain.text import clean_text
from app.core.ports import IAnswerSink, ModelFacts

MAX_TOKENS = 32_000
"""The length of an answer, thinking included, where nobody says otherwise: Anthropic wants to be told."""

UNKNOWN_MAX_TOKENS = 8_192
"""The same for a model of which no limit is known."""

CACHED: Fields = {"type": "ephemeral"}
"""Marks the end of a prefix that is kept (https://platform.claude.com/docs/en/build-with-claude/prompt-caching)."""

_KNOWN = frozenset(
    [
        *("tool_choice", "parallel_tool_calls", "temperature", "top_p", "stop", "max_tokens", "max_completion_tokens"),
        *("response_format", "reasoning_effort", "stream_options"),
    ]
)
_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}


def make(
    model: str, endpoint: Endpoint, facts: ModelFacts, tools: Sequence[Any], options: Mapping[str, Any]
) -> WireProvider:
    """The provider for `model`, with `tools` and with `options` in OpenAI's words.

    Raises:
        ProviderRejected: Anthropic has no such thing as the options ask for.
    """
    return WireProvider(AnthropicWire(model, endpoint, facts, tools, options), endpoint, model)


class AnthropicWire:
    """An `IWire` for one model."""

    def __init__(
        self, model: str, endpoint: Endpoint, facts: ModelFacts, tools: Sequence[Any], options: Mapping[str, Any]
    ) -> None:
        self._model = model
        self._endpoint = endpoint
        self._takes = Takes(images=facts.images is not False, pdf=facts.pdf is not False)
        self._options = _options(options, facts, endpoint.title)
        self._tools = [_tool(declared) for declared in declarations(tools)]
        if self._tools and (choice := _tool_choice(options, facts, endpoint.title)):
            self._options["tool_choice"] = choice

    def request(self, messages: Sequence[Any], replay: Replay) -> Request:
        """The request that asks for the next answer."""
        ours = portable(messages, self._endpoint.provider.made_by, self._endpoint.provider.ids)
        system = ours.pop(0).text if isinstance(ours[0], SystemMessage) else ""
        history = _History(system, self._tools, self._takes, replay)
        for message in ours:
            history.add(message)
        body: Fields = {"model": self._model, "stream": True, **self._options, "messages": history.messages}
        if system:
            body["system"] = [{"type": "text", "text": system, "cache_control": CACHED}]
        if self._tools:
            body["tools"] = [*self._tools[:-1], {**self._tools[-1], "cache_control": CACHED}]
        body["cache_control"] = CACHED  # the newest message ends what the next request has in common with this one
        return Request("/messages", body, prefix=history.prefix())

    def reader(self, sink: IAnswerSink) -> "AnthropicReader":
        """A reader for one answer."""
        return AnthropicReader(sink, self._endpoint, self._model)


class _History:
    """A conversation as Anthropic's messages.

    A thinking block is bound to the system prompt, the tools and every message before it. It is sent back only where
    the hash of all these is the one that was kept beside it; the hash leaves out marks for the cache, as they do.
    """

    def __init__(self, system: str, tools: list[Fields], takes: Takes, replay: Replay) -> None:
        self.messages: list[Fields] = []
        self._hash = hashlib.sha256(orjson.dumps([system, tools]))
        self._hashed = 0
        self._takes = takes
        self._replay = replay

    def add(self, message: BaseMessage) -> None:
        """Add the next message: results of tools and what the user says then are one message."""
        if isinstance(message, AIMessage):
            if answer := self._answer(message):
                self.messages.append({"role": "assistant", "content": answer})
            return
        blocks = self._result(message) if isinstance(message, ToolMessage) else self._blocks(message)
        if self.messages[self._hashed :] and self.messages[-1]["role"] == "user":
            self.messages[-1]["content"] += blocks
        else:
            self.messages.append({"role": "user", "content": blocks})

    def prefix(self) -> str:
        """The hash of everything so far."""
        for message in self.messages[self._hashed :]:
            self._hash.update(orjson.dumps(message))
        self._hashed = len(self.messages)
        return self._hash.hexdigest()[:32]

    def _answer(self, message: AIMessage) -> list[Fields]:
        kept: list[Fields] = message.additional_kwargs.get(BLOCKS) or []
        calls = {str(call["id"]): _call(call) for call in message.tool_calls}
        # The prefix is always computed here: everything before this message is complete now.
        thinks = self.prefix() == message.additional_kwargs.get(PREFIX) and self._replay.reasoning
        blocks: list[Fields] = []
        for block in kept:
            match block.get("type"):
                case "thinking" | "redacted_thinking" if thinks:
                    blocks.append(block)
                case "text" if str(block.get("text", "")).strip():
                    blocks.append({"type": "text", "text": block["text"]})
                case "tool_use" if (call := calls.pop(str(block.get("tool_use_id")), None)) is not None:
                    blocks.append(call)
                case _:
                    pass
        if not any(block["type"] == "text" for block in blocks) and (text := message.text).strip():
            blocks.append({"type": "text", "text": text})
        return [*blocks, *calls.values()]

    def _blocks(self, message: BaseMessage) -> list[Fields]:
        parts = readable(parts_of(message.content), self._takes)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        return [block for part in parts if (block := _block(part)) is not None]

    def _result(self, message: ToolMessage) -> list[Fields]:
        blocks = self._blocks(message)
        result: Fields = {"type": "tool_result", "tool_use_id": message.tool_call_id}
        if blocks:
            result["content"] = blocks
        if message.status == "error":
            result["is_error"] = True
        return [result]


def _options(options: Mapping[str, Any], facts: ModelFacts, title: str) -> Fields:
    refuse_unknown(options, _KNOWN, title)
    # `temperature` and `top_p` are refused since this version, also at their defaults:
    # https://platform.claude.com/docs/en/api/migration-2026-10-21. They are hints, so they are left out.
    longest = min(MAX_TOKENS, facts.output_tokens) if facts.output_tokens else UNKNOWN_MAX_TOKENS
    fields: Fields = {"max_tokens": output_limit(options) or longest}
    if stop := stops(options):
        fields["stop_sequences"] = stop
    if facts.adaptive_thinking:
        # Newer models show no thinking unless it is asked for:
        # https://platform.claude.com/docs/en/build-with-claude/thinking#controlling-thinking-display
        fields["thinking"] = {"type": "adaptive", "display": "summarized"}
    config: Fields = {}
    if facts.efforts and (effort := effort_for(options, facts)):
        config["effort"] = effort
    if response_format := options.get("response_format"):
        schema = wanted_schema(response_format)
        if schema is not None:
            config["format"] = {"type": "json_schema", "schema": schema}
        elif response_format.get("type") == "json_object":
            raise ProviderRejected(
                f"{title} writes JSON by a schema only. Use a response_format of type 'json_schema'."
            )
    if config:
        fields["output_config"] = config
    return fields


def _tool_choice(options: Mapping[str, Any], facts: ModelFacts, title: str) -> Fields | None:
    choice = options.get("tool_choice")
    name = chosen_tool(choice)
    if (name is not None or choice == "required") and facts.forced_tools is False:
        # https://platform.claude.com/docs/en/about-claude/models: always-on thinking excludes forced tool use.
        raise ProviderRejected(
            f"{title} does not let this model be made to call a tool, because it thinks first. "
            "Use tool_choice 'auto', or another model."
        )
    kinds = {"auto": "auto", "required": "any", "none": "none"}
    made: Fields | None = {"type": "tool", "name": name} if name is not None else None
    if made is None and isinstance(choice, str) and choice in kinds:
        made = {"type": kinds[choice]}
    if (parallel := options.get("parallel_tool_calls")) is not None:
        made = made or {"type": "auto"}
        if made["type"] != "none":
            made["disable_parallel_tool_use"] = not parallel
    return made


def _tool(declared: Fields) -> Fields:
    tool: Fields = {"name": declared["name"], "input_schema": declared.get("parameters") or dict(EMPTY)}
    tool["input_schema"] = {"type": "object", **tool["input_schema"]}
    return tool | ({"description": declared["description"]} if declared.get("description") else {})


def _call(call: Any) -> Fields:
    return {"type": "tool_use", "id": call["id"], "name": call["name"], "input": call["args"]}


def _block(part: Part) -> Fields | None:
    """A part as a block; None for blank text, which is refused."""
    if isinstance(part, Text):
        return {"type": "text", "text": part.text} if part.text.strip() else None
    given: Fields = {"type": "base64", "media_type": part.media_type, "data": part.data}
    source = given if part.data else {"type": "url", "url": part.url}
    if part.is_image:
        return {"type": "image", "source": source}
    return {"type": "document", "source": source, **({"title": part.name} if part.name else {})}


class AnthropicReader(StreamReader):
    """Reads one streamed answer."""

    def __init__(self, sink: IAnswerSink, endpoint: Endpoint, model: str) -> None:
        super().__init__(sink, endpoint, model)
        self._blocks: dict[int, Fields] = {}
        self._pieces: dict[int, StringIO] = {}
        self._by_index: dict[int, Call] = {}
        self._counted: Fields = {}

    def message(self) -> AIMessage:
        """The whole answer, with its blocks where there is more to them than text before calls."""
        answer = super().message()
        blocks = [self._finished_block(index) for index in sorted(self._blocks)]
        kinds = [block["type"] for block in blocks]
        if any("thinking" in kind for kind in kinds) or kinds != sorted(kinds):
            answer.additional_kwargs[BLOCKS] = blocks
        return answer

    def _finished_block(self, index: int) -> Fields:
        if index in self._by_index:
            return {"type": "tool_use", "tool_use_id": self._by_index[index].id}
        if (pieces := self._pieces.get(index)) is None:
            return self._blocks[index]
        name = "thinking" if self._blocks[index]["type"] == "thinking" else "text"
        return {**self._blocks[index], name: pieces.getvalue()}

    def _whole(self, document: Any) -> None:
        answer = fields(document)
        if answer.get("type") != "message":
            super()._whole(document)
            return
        self._chunk({"type": "message_start", "message": answer})
        for index, block in enumerate(objects(answer.get("content"))):
            self._begin(index, block)
        self._chunk({"type": "message_delta", "delta": {"stop_reason": answer.get("stop_reason")}})

    def _chunk(self, chunk: Fields) -> None:
        index = chunk.get("index", 0)
        match chunk.get("type"):
            case "message_start":
                message = fields(chunk.get("message"))
                self._counted |= fields(message.get("usage"))
                if message.get("model"):
                    self._response["model_name"] = message["model"]
            case "content_block_start":
                self._begin(index, fields(chunk.get("content_block")))
            case "content_block_delta":
                self._add(index, fields(chunk.get("delta")))
            case "message_delta":
                self._counted |= {key: value for key, value in fields(chunk.get("usage")).items() if value is not None}
                if reason := fields(chunk.get("delta")).get("stop_reason"):
                    self.finished = True
                    self._response["finish_reason"] = _FINISH.get(reason, "content_filter")
            case "message_stop":
                self.done = True
            case _:
                super()._chunk(chunk)  # an error

    def _begin(self, index: int, block: Fields) -> None:
        match block.get("type"):
            case "text":
                self._blocks[index] = {"type": "text", "text": ""}
                self._add_text(index, block.get("text") or "")
            case "thinking":
                self._blocks[index] = {"type": "thinking", "thinking": "", "signature": block.get("signature") or ""}
                self._add_thinking(index, block.get("thinking") or "")
            case "redacted_thinking":
                self._blocks[index] = {"type": "redacted_thinking", "data": block.get("data") or ""}
            case "tool_use":
                call = self._new_call(index, block.get("id") or "", block.get("name") or "")
                self._by_index[index] = call
                self._blocks[index] = {"type": "tool_use"}
                if self._fragment is not None:
                    self._fragment(id(call), call.id, call.name, "")
                if given := block.get("input"):
                    self._add_arguments(call, orjson.dumps(given).decode())
            case _:  # what a tool of theirs wrote, and kinds that are newer than this reader
                pass

    def _add(self, index: int, delta: Fields) -> None:
        if index not in self._blocks:
            return
        match delta.get("type"):
            case "text_delta":
                self._add_text(index, delta.get("text") or "")
            case "thinking_delta":
                self._add_thinking(index, delta.get("thinking") or "")
            case "signature_delta":
                self._blocks[index]["signature"] = delta.get("signature") or ""
            case "input_json_delta" if index in self._by_index:
                self._add_arguments(self._by_index[index], delta.get("partial_json") or "")
            case _:
                pass

    def _add_text(self, index: int, piece: str) -> None:
        if piece:
            self._pieces.setdefault(index, StringIO()).write(clean_text(piece))
            self._add_content(piece)

    def _add_thinking(self, index: int, piece: str) -> None:
        if piece:
            self._pieces.setdefault(index, StringIO()).write(clean_text(piece))
            self._add_reasoning(piece)

    def _usage_metadata(self) -> Any:
        if not self._counted:
            return None
        fresh, written = self._counted.get("input_tokens") or 0, self._counted.get("output_tokens") or 0
        read = self._counted.get("cache_read_input_tokens") or 0
        created = self._counted.get("cache_creation_input_tokens") or 0
        return {
            "input_tokens": fresh + read + created,
            "output_tokens": written,
            "total_tokens": fresh + read + created + written,
            "input_token_details": {"cache_read": read, "cache_creation": created},
        }
