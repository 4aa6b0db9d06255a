"""How much of a provider's answer is taken: a provider is not trusted to come to an end."""

import asyncio
from dataclasses import dataclass

import aiohttp

from app.core.domain.errors import AtelierError, ProviderUnavailable

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class AnswerLimits:
    """The largest answer that is taken.

    Attributes:
        line: bytes of one event.
        text: bytes of text, reasoning included.
        arguments: bytes of the arguments of all tool calls.
        calls: tool calls.
        document: bytes of an answer that is not streamed, or of a list of models.
        stream: bytes of a streamed answer with all that stands around its text.
    """

    line: int = MIB
    text: int = 8 * MIB
    arguments: int = 4 * MIB
    calls: int = 128
    document: int = 16 * MIB
    stream: int = 256 * MIB


LIMITS = AnswerLimits()


class AnswerMeter:
    """Counts what arrives of one answer.

    Args:
        title: the provider, for errors.
    """

    def __init__(self, title: str, limits: AnswerLimits = LIMITS) -> None:
        self._title = title
        self._limits = limits
        self._text = 0
        self._arguments = 0

    def text(self, piece: str) -> None:
        """Count a piece of text or reasoning.

        Raises:
            ProviderUnavailable: the answer is too long.
        """
        self._text += _bytes_of(piece)
        if self._text > self._limits.text:
            raise too_large(self._title, f"more than {self._limits.text // MIB} MiB of text")

    def arguments(self, piece: str) -> None:
        """Count a fragment of a call's name or arguments.

        Raises:
            ProviderUnavailable: the arguments are too long.
        """
        self._arguments += _bytes_of(piece)
        if self._arguments > self._limits.arguments:
            raise too_large(self._title, f"more than {self._limits.arguments // MIB} MiB of tool arguments")

    def calls(self, number: int) -> None:
        """Check how many calls there are.

        Raises:
            ProviderUnavailable: there are too many.
        """
        if number > self._limits.calls:
            raise too_large(self._title, f"more than {self._limits.calls} tool calls")


class EventBuffer:
    """Cuts a stream of bytes at its blank lines (or at each line), in linear time, and holds one unfinished event at most.

    Args:
        title: the provider, for errors.
        limit: bytes of an unfinished event.
        ends: what an event ends with.
    """

    def __init__(self, title: str, *, ends: tuple[bytes, ...], limit: int = LIMITS.line) -> None:
        self._title = title
        self._ends = ends
        self._limit = limit
        self._overlap = max(map(len, ends)) - 1
        self._rest = bytearray()
        self._total = 0

    def feed(self, data: bytes) -> bytes:
        """The whole events that there are with `data`.

        Raises:
            ProviderUnavailable: an event, or the whole stream, does not come to an end.
        """
        self._total += len(data)
        if self._total > LIMITS.stream:
            raise too_large(self._title, f"more than {LIMITS.stream // MIB} MiB")
        seen = max(0, len(self._rest) - self._overlap)
        self._rest += data
        end = max(found + len(mark) if (found := self._rest.rfind(mark, seen)) >= 0 else 0 for mark in self._ends)
        whole = bytes(self._rest[:end])
        del self._rest[:end]
        if len(self._rest) > self._limit:
            raise too_large(self._title, f"an event of more than {self._limit // MIB} MiB")
        return whole

    def rest(self) -> bytes:
        """What is left when nothing more comes."""
        rest = bytes(self._rest)
        self._rest.clear()
        return rest


LARGE_PIECE = 16_384
WEB_PAGES = ("text/html", "application/xhtml+xml")
LINES = (b"\n",)
EVENTS = (b"\n\n", b"\r\n\r\n", b"\r\r")


async def let_others_run(data: bytes) -> None:
    """Give way after a large piece: buffered or decompressed pieces can come for long without any wait."""
    if len(data) >= LARGE_PIECE:
        await asyncio.sleep(0)


async def read_document(response: aiohttp.ClientResponse, title: str, limit: int = LIMITS.document) -> bytes:
    """A whole body, counted as it is after decompression.

    Raises:
        ProviderUnavailable: it is larger than `limit`.
    """
    body = bytearray()
    async for data in response.content.iter_any():
        body += data
        if len(body) > limit:
            raise too_large(title, f"an answer of more than {limit // MIB} MiB")
        await let_others_run(data)
    return bytes(body)


def too_large(title: str, what: str) -> AtelierError:
    """The error for an answer that is over a limit; asking again would only cost the same once more."""
    return _final(
        f"{title} sent {what}, so the answer was stopped. What arrived before is kept. "
        "Ask for less at once, or choose another model."
    )


def not_a_model(title: str, media_type: str, setting: str) -> AtelierError:
    """The error for an answer that no model gives, such as a web page."""
    return _final(f"{title} answered with {media_type}, not with a model's answer: check {setting}.")


def _final(message: str) -> AtelierError:
    error = ProviderUnavailable(message)
    error.retryable = False
    return error


def _bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
