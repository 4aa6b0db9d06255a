"""One model, asked from a program: `get_completion` and `stream_completion`, and both of them for asyncio.

    from app.completions import get_completion, stream_completion

    reply = get_completion([{"role": "user", "content": "Hello"}], "mistral@mistral-small-latest")
    print(reply.content)
    for delta in stream_completion([{"role": "user", "content": "Hello"}], "openai@gpt-6-luna", tools=[…]):
        print(delta.content or "", end="")

Messages, tools and `tool_choice` are OpenAI's, whoever the provider is. Keys come from the settings (README), or from
`provider_api_key`. Nothing is stored.
"""

import asyncio
import atexit
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from app.adapters.outbound.llm_providers.catalog import ModelCatalog
from app.adapters.outbound.llm_providers.openai_answers import (
    NOBODY,
    Deltas,
    finish_reason,
    openai_calls,
    openai_usage,
)
from app.adapters.outbound.llm_providers.openai_messages import from_openai
from app.settings import Settings

__all__ = [
    "Completion",
    "Delta",
    "aget_completion",
    "astream_completion",
    "get_completion",
    "stream_completion",
]

T = TypeVar("T")
Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]]
ToolChoice = str | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's whole answer.

    Attributes:
        content: its text; None where it only calls tools.
        tool_calls: its calls as OpenAI writes them: `{"id", "type": "function", "function": {"name", "arguments"}}`.
        usage: `prompt_tokens`, `completion_tokens`, `total_tokens`; None where the provider does not say.
        finish_reason: `stop`, `length`, `tool_calls` or `content_filter`.
        reasoning: what the model thought, where the provider tells.
    """

    content: str | None
    tool_calls: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    usage: dict[str, int] | None = None
    finish_reason: str = "stop"
    reasoning: str | None = None

    def __str__(self) -> str:
        return self.content or ""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer: of its text, of its reasoning, or of its calls.

    Attributes:
        tool_calls: fragments as OpenAI streams them: `index` says to which call one belongs, `id` and the name stand
            in its first fragment, and the `arguments` of all of them joined are its JSON.
        finish_reason, usage: stand in the last piece alone.
    """

    content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    reasoning: str | None = None
    finish_reason: str | None = None
    usage: dict[str, int] | None = None

    @property
    def message(self) -> "Delta":
        """The piece itself, for programs that look for it in a message."""
        return self


async def aget_completion(
    messages: Messages,
    provider_model_string: str,
    provider_api_key: str | None = None,
    tools: Tools | None = None,
    tool_choice: ToolChoice | None = None,
    **options: Any,
) -> Completion:
    """Ask a model, and wait for its whole answer.

    Args:
        provider_model_string: `provider@model`.
        provider_api_key: a key in place of the one in the settings.
        options: further parameters of OpenAI's chat completions, such as `temperature` or `response_format`.

    Raises:
        AtelierError: one of the provider errors, in words that help.
    """
    asked = _ask(NOBODY, messages, provider_model_string, provider_api_key, tools, tool_choice, options)
    return await asyncio.wrap_future(_background.submit(asked))


def get_completion(
    messages: Messages,
    provider_model_string: str,
    provider_api_key: str | None = None,
    tools: Tools | None = None,
    tool_choice: ToolChoice | None = None,
    **options: Any,
) -> Completion:
    """As `aget_completion`, for programs without asyncio."""
    asked = _ask(NOBODY, messages, provider_model_string, provider_api_key, tools, tool_choice, options)
    return _background.wait(asked)


async def astream_completion(
    messages: Messages,
    provider_model_string: str,
    provider_api_key: str | None = None,
    tools: Tools | None = None,
    tool_choice: ToolChoice | None = None,
    **options: Any,
) -> AsyncGenerator[Delta]:
    """Ask a model, and have its answer piece by piece. Who stops listening stops the model.

    Args and Raises: as `aget_completion`.
    """
    deltas = _stream(messages, provider_model_string, provider_api_key, tools, tool_choice, options)
    try:
        while (delta := await asyncio.wrap_future(_background.submit(_next(deltas)))) is not None:
            yield delta
    finally:
        await asyncio.wrap_future(_background.submit(deltas.aclose()))


def stream_completion(
    messages: Messages,
    provider_model_string: str,
    provider_api_key: str | None = None,
    tools: Tools | None = None,
    tool_choice: ToolChoice | None = None,
    **options: Any,
) -> Iterator[Delta]:
    """As `astream_completion`, for programs without asyncio."""
    deltas = _stream(messages, provider_model_string, provider_api_key, tools, tool_choice, options)
    try:
        while (delta := _background.wait(_next(deltas))) is not None:
            yield delta
    finally:
        _background.wait(deltas.aclose())


async def _ask(
    sink: Any,
    messages: Messages,
    model: str,
    key: str | None,
    tools: Tools | None,
    tool_choice: ToolChoice | None,
    options: Mapping[str, Any],
) -> Completion:
    given = {**options, **({"tool_choice": tool_choice} if tool_choice is not None and tools else {})}
    provider = _background.catalog().alone(model, list(tools or ()), given, key)
    answer: Any = await provider.stream(from_openai(messages), sink)
    return Completion(
        content=str(answer.text) or None,  # LangChain gives a subclass of str, which orjson does not read
        tool_calls=openai_calls(answer),
        usage=openai_usage(answer.usage_metadata),
        finish_reason=finish_reason(answer),
        reasoning=answer.additional_kwargs.get("reasoning_content"),
    )


async def _stream(
    messages: Messages,
    model: str,
    key: str | None,
    tools: Tools | None,
    tool_choice: ToolChoice | None,
    options: Mapping[str, Any],
) -> AsyncGenerator[Delta]:
    pieces = Deltas()
    asking = asyncio.create_task(_ask(pieces, messages, model, key, tools, tool_choice, options))
    async with aclosing(pieces.until(asking)) as batches:
        async for batch in batches:
            for delta in batch:
                yield Delta(delta.get("content"), delta.get("tool_calls"), delta.get("reasoning_content"))
    whole = await asking
    if whole.tool_calls and not pieces.has_calls:
        yield Delta(tool_calls=[{"index": index, **call} for index, call in enumerate(whole.tool_calls)])
    yield Delta(finish_reason=whole.finish_reason, usage=whole.usage)


async def _next(deltas: AsyncGenerator[Delta]) -> Delta | None:
    return await anext(deltas, None)


class _Background:
    """An event loop in a thread of its own: one pool of connections, whoever asks, from wherever."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._catalog: ModelCatalog | None = None
        self._lock = threading.Lock()

    def submit(self, work: Coroutine[Any, Any, T]) -> Any:
        """Begin `work`; its future."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="completions", daemon=True).start()
                atexit.register(self._close)
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`; who interrupts the waiting stops it."""
        future = self.submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def catalog(self) -> ModelCatalog:
        """The models of the settings as they are now."""
        if self._catalog is None:
            self._catalog = ModelCatalog(Settings())
        return self._catalog

    def _close(self) -> None:
        if self._loop is None or self._catalog is None:
            return
        asyncio.run_coroutine_threadsafe(self._catalog.close(), self._loop).result(timeout=5)
        self._loop.call_soon_threadsafe(self._loop.stop)


_background = _Background()
