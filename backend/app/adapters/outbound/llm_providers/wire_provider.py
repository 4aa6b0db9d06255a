"""A provider whose requests and answers have a shape of their own: a builder of requests and a reader of answers."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson
from langchain_core.messages import AIMessage

from app.adapters.outbound.llm_providers.endpoint import Endpoint
from app.adapters.outbound.llm_providers.errors import ReasoningRefused, SummaryRefused
from app.adapters.outbound.llm_providers.history import BLOCKS
from app.adapters.outbound.llm_providers.openai_answers import NOBODY
from app.adapters.outbound.llm_providers.openai_stream import StreamReader
from app.adapters.outbound.llm_providers.streaming import read_answer
from app.core.ports import IAnswerSink

logger = logging.getLogger(__name__)

PREFIX = "prefix"
"""Where the hash is kept of everything that was sent before an answer."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What a request gives back and asks for.

    Attributes:
        reasoning: whether the model's own reasoning is given back.
        summary: whether a summary of its reasoning is asked for.
    """

    reasoning: bool = True
    summary: bool = True


@dataclass(frozen=True, slots=True)
class Request:
    """A request that is ready to leave.

    Attributes:
        prefix: the hash of what it holds, where the provider binds reasoning to that.
    """

    path: str
    body: Mapping[str, Any]
    prefix: str = ""


class IWire(Protocol):
    """Builds requests for one model, and reads its answers."""

    def request(self, messages: Sequence[Any], replay: Replay) -> Request:
        """The request that asks the model for its next answer."""
        ...

    def reader(self, sink: IAnswerSink) -> StreamReader:
        """A reader for one answer."""
        ...


class WireProvider:
    """An `ILLMProvider` over a wire of its own.

    A request that the provider refuses because of reasoning that it gave out itself is sent again without it: a
    conversation must not fail for good because an account, a key or a model has changed.
    """

    def __init__(self, wire: IWire, endpoint: Endpoint, model: str) -> None:
        self._wire = wire
        self._endpoint = endpoint
        self._name = model

    @property
    def model(self) -> "WireProvider":
        """The model itself."""
        return self

    async def ainvoke(self, messages: Any, /) -> AIMessage:
        """The model's answer as one assistant message."""
        return await self.stream(messages, NOBODY)

    async def stream(self, messages: Sequence[Any], sink: IAnswerSink) -> AIMessage:
        """Ask the model; its pieces go to `sink`."""
        replay = Replay(summary=not self._endpoint.keep(self._name, _Learned).no_summary)
        while True:
            try:
                return await self._ask(messages, sink, replay)
            except ReasoningRefused as error:
                if not replay.reasoning:
                    raise
                logger.info("%s refuses its own reasoning; asking again without it: %s", self._name, error.message)
                replay = replace(replay, reasoning=False)
            except SummaryRefused as error:
                if not replay.summary:
                    raise
                logger.info("%s gives no summaries of its reasoning here: %s", self._name, error.message)
                self._endpoint.keep(self._name, _Learned).no_summary = True
                replay = replace(replay, summary=False)

    async def _ask(self, messages: Sequence[Any], sink: IAnswerSink, replay: Replay) -> AIMessage:
        if not self._endpoint.provider.takes_addresses:
            messages = await self._endpoint.pool.pictures.in_messages(messages)
        request = self._wire.request(messages, replay)
        reader = self._wire.reader(sink)
        logger.debug("asking %s for %s with %d messages", self._endpoint.title, self._name, len(messages))
        await read_answer(self._endpoint, self._name, request.path, orjson.dumps(request.body), reader)
        answer = reader.message()
        if request.prefix and BLOCKS in answer.additional_kwargs:
            answer.additional_kwargs[PREFIX] = request.prefix
        return answer


@dataclass
class _Learned:
    """What an endpoint has refused before."""

    no_summary: bool = False
