"""A provider that is asked again when that can help, and in whose place the next model answers when it cannot."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from app.core.domain.errors import (
    AtelierError,
    ContextTooLong,
    ProviderNotConfigured,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    UnknownModel,
)
from app.core.ports import IAnswerSink, IChatModel, ILLMProvider

logger = logging.getLogger(__name__)

LONGEST_WAIT = 30.0
"""Seconds: who asks to come back later than that is not waited for."""

_backoff = wait_exponential_jitter(initial=0.5, max=8.0, jitter=0.5)
_PASSED_ON = (
    ContextTooLong,
    ProviderNotConfigured,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    UnknownModel,
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may answer, made when it is its turn."""

    model: str
    make: Callable[[], ILLMProvider]


class ResilientProvider:
    """An `ILLMProvider` over the model that was asked for and those that stand in for it.

    Args:
        candidates: the models in their order; the first is the one that was asked for.
        retries: how often one model is asked again after an error that may pass.
    """

    def __init__(self, candidates: Sequence[Candidate], retries: int) -> None:
        self._candidates = candidates
        self._first = candidates[0].make()
        self._retries = retries

    @property
    def model(self) -> IChatModel:
        """The model that was asked for, alone."""
        return self._first.model

    async def stream(self, messages: Sequence[Any], sink: IAnswerSink) -> Any:
        """Ask until one answers.

        Raises:
            AtelierError: none did; it is the error of the model that was asked for.
        """
        try:
            return await self._ask(self._candidates[0].model, self._first, messages, sink)
        except _PASSED_ON as error:
            first = error
        for candidate in self._candidates[1:]:
            logger.warning("%s goes on in place of %s: %s", candidate.model, self._candidates[0].model, first.message)
            sink.restart(candidate.model)
            try:
                return await self._ask(candidate.model, candidate.make(), messages, sink)
            except _PASSED_ON as error:
                logger.warning("%s cannot answer either: %s", candidate.model, error.message)
        raise first

    async def _ask(self, model: str, provider: ILLMProvider, messages: Sequence[Any], sink: IAnswerSink) -> Any:
        try:
            return await _answer(provider, messages, sink)
        except _PASSED_ON as error:
            if not self._retries or not _may_pass(error):
                raise
            first: AtelierError | None = error

        async def ask_again() -> Any:
            nonlocal first
            if first is not None:  # it has failed already: the wait for the next try follows from that
                failed, first = first, None
                raise failed
            logger.info("asking %s again", model)
            sink.restart(model)
            return await _answer(provider, messages, sink)

        again = AsyncRetrying(
            retry=retry_if_exception(_may_pass), wait=_wait, stop=stop_after_attempt(1 + self._retries), reraise=True
        )
        return await again(ask_again)


async def _answer(provider: ILLMProvider, messages: Sequence[Any], sink: IAnswerSink) -> Any:
    """Ask once; the ids of the answer's calls are new in the conversation."""
    from app.adapters.outbound.llm_providers.history import with_unused_ids  # with LangChain, which loads slowly

    return with_unused_ids(await provider.stream(messages, sink), messages)


def _may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
    return (
        isinstance(error, ProviderRateLimited | ProviderUnavailable)
        and error.retryable
        and (error.retry_after or 0.0) <= LONGEST_WAIT
    )


def _wait(state: RetryCallState) -> float:
    """What the provider asks for, and a little more, so that not all come back at the same moment; else longer each time."""
    error = state.outcome.exception() if state.outcome is not None else None
    jittered = _backoff(state)
    asked = error.retry_after if isinstance(error, AtelierError) else None
    return jittered if asked is None else asked + min(jittered, 1.0) / 2
