"""Providers with a wire of their own, over LangChain's package for them: its chunks become pieces and one message."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, InvalidToolCall, ToolCall
from langchain_core.messages.ai import UsageMetadata, add_usage

from app.adapters.outbound.llm_providers.endpoint import Endpoint
from app.adapters.outbound.llm_providers.history import BLOCKS, SIGNATURES, portable
from app.adapters.outbound.llm_providers.openai_answers import NOBODY
from app.adapters.outbound.llm_providers.openai_stream import put_call
from app.core.domain.errors import AtelierError, ProviderRejected
from app.core.domain.text import clean_text
from app.core.ports import IAnswerSink, IFragmentSink, ModelFacts

Explain = Callable[[Exception, Endpoint, str], AtelierError]

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "STOP": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "MAX_TOKENS": "length",
    "model_context_window_exceeded": "length",
}
"""OpenAI's words for the end of an answer; what is none of these was kept back by the provider."""

IGNORED = frozenset({"user", "metadata", "store", "seed", "service_tier", "prompt_cache_key", "safety_identifier", "n"})
"""Parameters of OpenAI's that say nothing about the answer itself: another provider may do without them."""


class LangChainProvider:
    """An `ILLMProvider` over a chat model of LangChain's.

    Args:
        chat: the model.
        bound: what each request carries beside the messages: tools, and options in the package's words.
        explain: turns an error of the package into ours.
        prepare: what is still to be done with each message before it is sent.
    """

    def __init__(
        self,
        chat: BaseChatModel,
        model: str,
        endpoint: Endpoint,
        facts: ModelFacts,
        bound: Mapping[str, Any],
        explain: Explain,
        prepare: Callable[[BaseMessage], BaseMessage] | None = None,
    ) -> None:
        self._chat = chat
        self._name = model
        self._endpoint = endpoint
        self._facts = facts
        self._bound = bound
        self._explain = explain
        self._prepare = prepare

    @property
    def model(self) -> "LangChainProvider":
        """The model itself."""
        return self

    async def ainvoke(self, messages: Any, /) -> AIMessage:
        """The model's answer as one assistant message."""
        return await self.stream(messages, NOBODY)

    def ours(self, messages: Sequence[Any]) -> list[BaseMessage]:
        """`messages` as this provider takes them."""
        provider, takes_images = self._endpoint.provider, self._facts.images is not False
        ours = portable(messages, provider.made_by, provider.ids, takes_images=takes_images)
        return list(map(self._prepare, ours)) if self._prepare is not None else ours

    async def stream(self, messages: Sequence[Any], sink: IAnswerSink) -> AIMessage:
        """Ask the model; its pieces go to `sink`."""
        endpoint, limits = self._endpoint, self._endpoint.limits
        answer = _Answer(sink)
        loop = asyncio.get_running_loop()
        seconds = limits.first
        try:
            async with (
                asyncio.timeout(seconds) as deadline,
                aclosing(cast("Any", self._chat.astream(self.ours(messages), **self._bound))) as chunks,
            ):
                async for chunk in chunks:
                    answer.add(chunk)
                    seconds = limits.between
                    deadline.reschedule(loop.time() + seconds)
        except TimeoutError as error:
            raise endpoint.timed_out(seconds) from error
        except AtelierError:
            raise
        except Exception as error:
            raise self._explain(error, endpoint, self._name) from error
        return answer.message(endpoint, self._name)


class _Answer:
    """An answer while its chunks arrive."""

    def __init__(self, sink: IAnswerSink) -> None:
        self._sink = sink
        self._fragment = sink.fragment if isinstance(sink, IFragmentSink) else None
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._blocks: list[dict[str, Any]] = []
        self._calls: dict[Any, _Call] = {}
        self._signatures: dict[str, Any] = {}
        self._usage: UsageMetadata | None = None
        self._response: dict[str, Any] = {}

    def add(self, chunk: AIMessageChunk) -> None:
        """Take the next chunk, and let its pieces out."""
        content = cast("str | list[Any]", chunk.content)  # pyright: ignore[reportUnknownMemberType]
        for block in [content] if isinstance(content, str) else content:
            self._block({"type": "text", "text": block} if isinstance(block, str) else block)
        for fragment in chunk.tool_call_chunks:
            key = fragment.get("id") if fragment.get("index") is None else fragment["index"]
            self._calls.setdefault(key, _Call()).add(fragment)
            if self._fragment is not None:
                self._fragment(key, fragment.get("id"), fragment.get("name"), fragment.get("args"))
        self._signatures |= chunk.additional_kwargs.get(SIGNATURES) or {}
        if chunk.usage_metadata:
            self._usage = add_usage(self._usage, chunk.usage_metadata)
        self._response |= {key: value for key, value in chunk.response_metadata.items() if value}

    def message(self, endpoint: Endpoint, model: str) -> AIMessage:
        """The whole answer.

        Raises:
            ProviderUnavailable: it was cut off.
            ProviderRejected: the provider did not let the model answer.
        """
        reason = self._response.pop("stop_reason", None) or self._response.pop("finish_reason", None)
        feedback: Any = self._response.pop("prompt_feedback", None) or {}
        if reason is None and feedback.get("block_reason"):
            raise ProviderRejected(f"{endpoint.title} does not answer this: {feedback['block_reason']}.")
        if reason is None:
            raise endpoint.cut_short()
        valid: list[ToolCall] = []
        invalid: list[InvalidToolCall] = []
        for call in self._calls.values():
            put_call(call.id, call.name, "".join(call.arguments), valid, invalid)
        finish = FINISH.get(reason, "content_filter")
        additional: dict[str, Any] = {}
        if self._reasoning:
            additional["reasoning_content"] = "".join(self._reasoning)
        if self._signatures:
            additional[SIGNATURES] = self._signatures
        if any(set(block) - {"type", "text", "index"} for block in self._blocks):
            additional[BLOCKS] = [_without_index(block) for block in self._blocks]
        return AIMessage(
            content="".join(self._text),
            tool_calls=valid,
            invalid_tool_calls=invalid,
            usage_metadata=self._usage,
            additional_kwargs=additional,
            response_metadata={
                "model_provider": endpoint.provider.made_by,
                "model_name": self._response.get("model_name") or model,
                "finish_reason": "tool_calls" if valid and finish == "stop" else finish,
            },
        )

    def _block(self, block: dict[str, Any]) -> None:
        kind = block.get("type")
        if kind not in _KEPT:
            return
        if text := block.get("text"):
            text = clean_text(text)
            self._text.append(text)
            self._sink.text(text)
        if thought := block.get("thinking"):
            thought = clean_text(thought)
            self._reasoning.append(thought)
            self._sink.reasoning(thought)
        last = self._blocks[-1] if self._blocks else None
        if last is None or last["type"] != kind or last.get("index") != block.get("index"):
            if any(block.get(name) for name in _KEPT_FIELDS):
                self._blocks.append(dict(block))
            return
        for name, value in block.items():
            if name in ("text", "thinking"):
                last[name] = last.get(name, "") + value
            elif value is not None:
                last[name] = value


_KEPT = ("text", "thinking", "redacted_thinking")
_KEPT_FIELDS = ("text", "thinking", "signature", "data", "extras")


class _Call:
    """A tool call while its fragments arrive."""

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []

    def add(self, fragment: Any) -> None:
        """Take the next fragment."""
        self.id = self.id or fragment.get("id") or ""
        self.name += fragment.get("name") or ""
        self.arguments.append(fragment.get("args") or "")


def _without_index(block: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in block.items() if key != "index"}


def bound_to(model: Any) -> dict[str, Any]:
    """What a model was bound to with `bind_tools`."""
    return dict(model.kwargs)


def refuse_unknown(options: Mapping[str, Any], known: frozenset[str], title: str) -> None:
    """Refuse what a provider has no counterpart for, where it would change the answer.

    Raises:
        ProviderRejected: `options` hold such a thing.
    """
    for name, value in options.items():
        if name not in known and name not in IGNORED and value not in (None, 0, False, [], {}):
            raise ProviderRejected(f"{title} has no {name!r}. Leave it out, or ask a model of another provider.")


def chosen_tool(choice: Any) -> str | None:
    """The name in a `tool_choice` that names one tool; None for any other."""
    if not isinstance(choice, dict):
        return None
    function: Any = cast("dict[str, Any]", choice).get("function") or {}
    return function.get("name")


def wanted_schema(response_format: Any) -> dict[str, Any] | None:
    """The JSON Schema in a `response_format`; None where it asks for no schema."""
    if not isinstance(response_format, dict):
        return None
    return cast("dict[str, Any]", response_format).get("json_schema", {}).get("schema")
