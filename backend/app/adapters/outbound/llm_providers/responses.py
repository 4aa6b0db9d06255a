"""OpenAI's Responses API, without state on their side: nothing is stored there, reasoning travels encrypted.

https://developers.openai.com/api/docs/guides/reasoning and the types of the `openai` package.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolMessage

from app.adapters.outbound.llm_providers.bounds import MIB
from app.adapters.outbound.llm_providers.content import Part, Takes, Text, parts_of, readable, text_of
from app.adapters.outbound.llm_providers.endpoint import Endpoint
from app.adapters.outbound.llm_providers.errors import in_stream
from app.adapters.outbound.llm_providers.fields import Fields, fields, objects
from app.adapters.outbound.llm_providers.history import BLOCKS, portable
from app.adapters.outbound.llm_providers.openai_stream import Call, StreamReader
from app.adapters.outbound.llm_providers.options import chosen_tool, effort_for, output_limit, refuse_unknown
from app.adapters.outbound.llm_providers.schemas import declarations
from app.adapters.outbound.llm_providers.wire_provider import Replay, Request, WireProvider
from app.core.ports import IAnswerSink, ModelFacts

MIN_OUTPUT_TOKENS = 16
_KNOWN = frozenset(
    [
        *("tool_choice", "parallel_tool_calls", "temperature", "top_p", "max_tokens", "max_completion_tokens"),
        *("response_format", "reasoning_effort", "verbosity", "stream_options", "stop"),
    ]
)
_PASSED_ON = ("parallel_tool_calls", "service_tier", "prompt_cache_key", "safety_identifier")
_FINISH = {"max_output_tokens": "length", "content_filter": "content_filter"}


def make(
    model: str, endpoint: Endpoint, facts: ModelFacts, tools: Sequence[Any], options: Mapping[str, Any]
) -> WireProvider:
    """The provider for `model`, with `tools` and with `options` in the words of chat completions.

    Raises:
        ProviderRejected: the API has no such thing as the options ask for.
    """
    return WireProvider(ResponsesWire(model, endpoint, facts, tools, options), endpoint, model)


class ResponsesWire:
    """An `IWire` for one model."""

    def __init__(
        self, model: str, endpoint: Endpoint, facts: ModelFacts, tools: Sequence[Any], options: Mapping[str, Any]
    ) -> None:
        refuse_unknown(options, _KNOWN, endpoint.title)
        self._model = model
        self._endpoint = endpoint
        self._takes = Takes(images=facts.images is not False, pdf=facts.pdf is not False)
        # Models that do not reason refuse `include: reasoning.encrypted_content` and `reasoning`.
        self._reasons = facts.reasoning is True
        self._effort = effort_for(options, facts) if self._reasons else None
        self._options = self._fields(options, facts)
        if tools:
            self._options["tools"] = [_tool(declared) for declared in declarations(tools)]

    def request(self, messages: Sequence[Any], replay: Replay) -> Request:
        """The request that asks for the next answer."""
        provider = self._endpoint.provider
        ours = portable(messages, provider.made_by, provider.dialect.ids)
        body: Fields = {"model": self._model, "stream": True, "store": False, **self._options}
        if isinstance(ours[0], SystemMessage):
            body["instructions"] = ours.pop(0).text
        body["input"] = [item for message in ours for item in self._items(message, replay)]
        if self._reasons:
            body["include"] = ["reasoning.encrypted_content"]
            reasoning: Fields = {"summary": "auto"} if replay.summary and self._effort != "none" else {}
            if self._effort is not None:
                reasoning["effort"] = self._effort
            if reasoning:
                body["reasoning"] = reasoning
        return Request("/responses", body)

    def reader(self, sink: IAnswerSink) -> "ResponsesReader":
        """A reader for one answer."""
        return ResponsesReader(sink, self._endpoint, self._model)

    def _fields(self, options: Mapping[str, Any], facts: ModelFacts) -> Fields:
        fields: Fields = {name: options[name] for name in _PASSED_ON if options.get(name) is not None}
        if (limit := output_limit(options)) is not None:
            fields["max_output_tokens"] = max(limit, MIN_OUTPUT_TOKENS)
        # "temperature or top_p returns 400 unless effort is none":
        # https://developers.openai.com/api/docs/guides/latest-model
        if facts.sampling is not False and (not self._reasons or self._effort == "none"):
            fields |= {name: options[name] for name in ("temperature", "top_p") if options.get(name) is not None}
        if (choice := options.get("tool_choice")) is not None:
            name = chosen_tool(choice)
            fields["tool_choice"] = choice if name is None else {"type": "function", "name": name}
        text: Fields = {}
        if verbosity := options.get("verbosity"):
            text["verbosity"] = verbosity
        if response_format := options.get("response_format"):
            text["format"] = _format(response_format)
        if text:
            fields["text"] = text
        return fields

    def _items(self, message: BaseMessage, replay: Replay) -> Iterator[Fields]:
        if isinstance(message, AIMessage):
            yield from self._answer(message, replay)
            return
        parts = readable(parts_of(message.content), self._takes)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        if isinstance(message, ToolMessage):
            only_text = all(isinstance(part, Text) for part in parts)
            output = text_of(parts) if only_text else list(map(_part, parts))
            yield {"type": "function_call_output", "call_id": message.tool_call_id, "output": output}
        else:
            yield {"role": "user", "content": list(map(_part, parts))}

    def _answer(self, message: AIMessage, replay: Replay) -> Iterator[Fields]:
        """An assistant message as the items that it came as, or as text and calls."""
        calls = {str(call["id"]): _call(call) for call in message.tool_calls}
        blocks: list[Fields] = message.additional_kwargs.get(BLOCKS) or []
        if not blocks:
            if text := message.text:
                yield {"role": "assistant", "content": text}
            yield from calls.values()
            return
        own_model = message.response_metadata.get("asked_model") == self._model
        for block in blocks:
            match block.get("type"):
                case "reasoning" if replay.reasoning and own_model and self._reasons:
                    yield block
                case "message":
                    yield {key: value for key, value in block.items() if key != "type"}
                case "function_call" if (call := calls.pop(str(block.get("call_id")), None)) is not None:
                    yield call
                case _:
                    pass
        yield from calls.values()


def _tool(declared: Fields) -> Fields:
    tool: Fields = {
        "type": "function",
        "name": declared["name"],
        "parameters": declared.get("parameters") or {"type": "object", "properties": {}},
        "strict": bool(declared.get("strict")),
    }
    return tool | ({"description": declared["description"]} if declared.get("description") else {})


def _call(call: Any) -> Fields:
    arguments = orjson.dumps(call["args"]).decode()
    return {"type": "function_call", "call_id": call["id"], "name": call["name"], "arguments": arguments}


def _part(part: Part) -> Fields:
    if isinstance(part, Text):
        return {"type": "input_text", "text": part.text}
    if part.is_image:
        return {"type": "input_image", "image_url": part.data_url, "detail": "auto"}
    if part.url:
        return {"type": "input_file", "file_url": part.url}
    return {"type": "input_file", "filename": part.name or "file.pdf", "file_data": part.data_url}


def _format(response_format: Fields) -> Fields:
    wanted = fields(response_format.get("json_schema"))
    if not wanted:
        return {"type": response_format.get("type", "text")}
    kept = ("name", "schema", "strict", "description")
    return {"type": "json_schema", **{key: wanted[key] for key in kept if wanted.get(key) is not None}}


class ResponsesReader(StreamReader):
    """Reads one streamed response, whose last event repeats all of it."""

    max_event = 16 * MIB

    def __init__(self, sink: IAnswerSink, endpoint: Endpoint, model: str) -> None:
        super().__init__(sink, endpoint, model)
        self._items: dict[int, Fields] = {}
        self._by_index: dict[int, Call] = {}
        self._has_text: set[int] = set()
        self._summary: tuple[int, int] | None = None

    def message(self) -> AIMessage:
        """The whole answer."""
        answer = super().message()
        blocks = [self._items[index] for index in sorted(self._items)]
        if any(block["type"] == "reasoning" or "phase" in block for block in blocks):
            answer.additional_kwargs[BLOCKS] = blocks
        answer.response_metadata["asked_model"] = self._model
        return answer

    def _chunk(self, chunk: Fields) -> None:
        index = chunk.get("output_index", 0)
        match chunk.get("type"):
            case "response.output_text.delta" | "response.refusal.delta":
                self._add_item_text(index, chunk.get("delta") or "")
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                self._add_summary((index, chunk.get("summary_index") or 0), chunk.get("delta") or "")
            case "response.output_item.added":
                self._begin_item(index, fields(chunk.get("item")))
            case "response.function_call_arguments.delta" if call := self._by_index.get(index):
                self._add_arguments(call, chunk.get("delta") or "")
            case "response.output_item.done":
                self._end_item(index, fields(chunk.get("item")))
            case "response.completed" | "response.incomplete":
                self._end(fields(chunk.get("response")))
            case "response.failed":
                raise self._failed(fields(chunk.get("response")).get("error"))
            case "error":
                raise self._failed(chunk.get("error") or chunk)
            case None:
                super()._chunk(chunk)
            case _:
                pass

    def _whole(self, document: Any) -> None:
        answer = fields(document)
        if answer.get("object") != "response":
            super()._whole(document)
            return
        for index, item in enumerate(objects(answer.get("output"))):
            self._end_item(index, item)
        self._end(answer)

    def _add_item_text(self, index: int, piece: str) -> None:
        """Text of a message; a further message in the same answer begins a paragraph of its own."""
        if index not in self._has_text:
            if self._has_text:
                self._add_content("\n\n")
            self._has_text.add(index)
        self._add_content(piece)

    def _add_summary(self, place: tuple[int, int], piece: str) -> None:
        if self._summary is not None and place != self._summary:
            self._add_reasoning("\n\n")
        self._summary = place
        self._add_reasoning(piece)

    def _begin_item(self, index: int, item: Fields) -> None:
        if item.get("type") == "function_call":
            call = self._new_call(index, item.get("call_id") or "", item.get("name") or "")
            self._by_index[index] = call
            if self._fragment is not None:
                self._fragment(id(call), call.id, call.name, "")

    def _end_item(self, index: int, item: Fields) -> None:
        """An item is whole: what came of it in pieces is checked against it, what a turn gives back is kept."""
        match item.get("type"):
            case "reasoning":
                kept = ("type", "id", "summary", "content", "encrypted_content")
                self._items[index] = {key: item[key] for key in kept if item.get(key) is not None}
            case "message":
                text = "".join(part.get("text") or part.get("refusal") or "" for part in objects(item.get("content")))
                if index not in self._has_text and text:
                    self._add_item_text(index, text)
                self._items[index] = {"type": "message", "role": "assistant", "content": text}
                if item.get("phase"):
                    self._items[index]["phase"] = item["phase"]
            case "function_call":
                if index not in self._by_index:
                    self._begin_item(index, item)
                call = self._by_index[index]
                if not call.arguments.tell():
                    self._add_arguments(call, item.get("arguments") or "")
                self._items[index] = {"type": "function_call", "call_id": call.id}
            case _:
                pass

    def _end(self, response: Fields) -> None:
        self.finished = self.done = True
        reason = fields(response.get("incomplete_details")).get("reason")
        usual = "tool_calls" if self._calls else "stop"
        self._response["finish_reason"] = _FINISH.get(reason, usual) if reason else usual
        for key, name in (("model", "model_name"), ("service_tier", "service_tier")):
            if response.get(key):
                self._response[name] = response[key]
        self._usage = fields(response.get("usage")) or None

    def _failed(self, error: object) -> Exception:
        endpoint = self._endpoint
        return in_stream(
            error,
            provider=endpoint.title,
            model=self._model,
            key_variable=endpoint.provider.key_variable,
            secret=endpoint.secret,
        )

    def _usage_metadata(self) -> Any:
        usage = self._usage
        if not usage:
            return None
        read, written = usage.get("input_tokens") or 0, usage.get("output_tokens") or 0
        cached = fields(usage.get("input_tokens_details")).get("cached_tokens") or 0
        reasoning = fields(usage.get("output_tokens_details")).get("reasoning_tokens") or 0
        return {
            "input_tokens": read,
            "output_tokens": written,
            "total_tokens": read + written,
            "input_token_details": {"cache_read": cached},
            "output_token_details": {"reasoning": reasoning},
        }
