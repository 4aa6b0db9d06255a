"""Connections to other people's MCP servers, with bounds on what a server sends.

The SDK reads lines and answers of any size, and messages as fast as they come. Here a message has a largest size, and
a server that floods us is read slowly, so that it has to wait and not we.
"""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import httpx2
from mcp.client.stdio import get_default_environment
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client  # pyright: ignore[reportPrivateUsage]
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

logger = logging.getLogger(__name__)
# It logs a stack trace for each bad answer; the reason is in the server's status, and logged once.
logging.getLogger("mcp.client.streamable_http").setLevel(logging.CRITICAL)

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MESSAGES_AT_ONCE, MESSAGES_A_SECOND = 500, 200
LOGGED_LINES, LOGGED_CHARACTERS = 100, 500
GRACE_SECONDS = 2.0
PIECE_BYTES = 64 * 1024

Streams = tuple[Any, Any]
"""What the SDK calls a transport's streams: messages that come, messages that go."""


class CommandMissing(Exception):
    """A server's command cannot be started. Its text says which one, and what to do."""


class TooMuch(httpx2.StreamError):
    """A server sends a message that is larger than is taken."""

    def __init__(self) -> None:
        super().__init__(f"It sent a message of more than {MAX_MESSAGE_BYTES:,} bytes.")


class Unreadable(Exception):
    """A server sends a message that is not as messages are."""

    def __init__(self) -> None:
        super().__init__("It sent a message that cannot be read: it is no valid JSON, or nested too deeply.")


@asynccontextmanager
async def over_stdio(command: str, args: list[str], env: Mapping[str, str], cwd: str | None) -> AsyncGenerator[Streams]:
    """A server that is started here, a message a line.

    Raises:
        CommandMissing: it cannot be started.
    """
    process = await _started(command, args, env, cwd)
    come, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, go = anyio.create_memory_object_stream[SessionMessage](0)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_read, process, come)
            tasks.start_soon(_write, process, go, come)
            tasks.start_soon(_log, process, command)
            try:
                yield incoming, outgoing
            finally:
                tasks.cancel_scope.cancel()
    finally:
        for stream in (come, incoming, outgoing, go):
            stream.close()
        with anyio.CancelScope(shield=True):
            await _stop(process)


@asynccontextmanager
async def over_http(url: str, headers: Mapping[str, str]) -> AsyncGenerator[Streams]:
    """A server at an address."""
    client = create_mcp_http_client(headers={"Accept-Encoding": "identity", **headers})
    client.event_hooks["response"].append(_bound)
    async with (
        client,
        streamable_http_client(url, http_client=client, max_sse_event_size=MAX_MESSAGE_BYTES) as (incoming, outgoing),
        _paced(incoming) as paced,
    ):
        yield paced, outgoing


# --- pace


class _Pace:
    """Lets a number of messages through at once, and after that so many a second."""

    def __init__(self) -> None:
        self._left = float(MESSAGES_AT_ONCE)
        self._at = asyncio.get_running_loop().time()

    async def wait(self) -> None:
        now = asyncio.get_running_loop().time()
        self._left = min(self._left + (now - self._at) * MESSAGES_A_SECOND, MESSAGES_AT_ONCE) - 1
        self._at = now
        if self._left < 0:
            await asyncio.sleep(-self._left / MESSAGES_A_SECOND)


@asynccontextmanager
async def _paced(incoming: Any) -> AsyncGenerator[Any]:
    come, paced = anyio.create_memory_object_stream[SessionMessage | Exception](0)

    async def forward() -> None:
        pace = _Pace()
        async with come:
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                async for message in incoming:
                    await pace.wait()
                    await come.send(message)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(forward)
        try:
            yield paced
        finally:
            paced.close()
            tasks.cancel_scope.cancel()


# --- HTTP


async def _bound(response: httpx2.Response) -> None:
    """Bound an answer; an event stream is bounded event by event where it is read."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise httpx2.DecodingError("It sent a compressed answer, though none was asked for.", request=response.request)
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        response.stream = _BoundedStream(response.stream)


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for data in self._stream:
            size += len(data)
            if size > MAX_MESSAGE_BYTES:
                raise TooMuch
            yield data

    async def aclose(self) -> None:
        await self._stream.aclose()


# --- standard input and output


async def _started(
    command: str, args: list[str], env: Mapping[str, str], cwd: str | None
) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            command,
            *args,
            env={**get_default_environment(), **env},
            cwd=cwd,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=MAX_MESSAGE_BYTES,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        if cwd is not None and isinstance(error, OSError) and error.filename == cwd:
            raise CommandMissing(f"Its folder {cwd} is not there. Correct cwd in the list of MCP servers.") from error
        reason = "was not found" if isinstance(error, FileNotFoundError) else f"cannot be started ({error})"
        raise CommandMissing(
            f"The command {command!r} {reason}. Install it, or give its whole path in the list of MCP servers."
        ) from error


async def _read(process: asyncio.subprocess.Process, come: Any) -> None:
    assert process.stdout is not None
    pace, unread = _Pace(), 0
    async with come:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            while True:
                try:
                    line = await process.stdout.readline()
                except ValueError:
                    await come.send(TooMuch())
                    return
                if not line:
                    return
                await pace.wait()
                try:
                    message = SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
                except ValueError:
                    if b'"jsonrpc"' in line:
                        await come.send(Unreadable())
                        return
                    unread += 1
                    if unread <= LOGGED_LINES:
                        logger.debug("an MCP server wrote what is no message: %r", line[:LOGGED_CHARACTERS])
                    continue
                await come.send(message)


async def _write(process: asyncio.subprocess.Process, go: Any, come: Any) -> None:
    assert process.stdin is not None
    try:
        async with go:
            async for message in go:
                text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                process.stdin.write(text.encode() + b"\n")
                await process.stdin.drain()
    except OSError:
        come.close()  # the server has ended: so do the requests that wait for it


async def _log(process: asyncio.subprocess.Process, command: str) -> None:
    """Log the beginning of what the server writes to its standard error; the rest is read and dropped."""
    assert process.stderr is not None
    left = LOGGED_LINES * LOGGED_CHARACTERS
    pace = _Pace()
    while data := await process.stderr.read(PIECE_BYTES):
        await pace.wait()
        if left > 0:
            logger.info("%s: %s", command, data[:left].decode("utf-8", "replace").rstrip())
            left -= len(data)


async def _stop(process: asyncio.subprocess.Process) -> None:
    """As the protocol has it: close its input, and end it and what it has started when it does not go."""
    if process.stdin is not None:
        process.stdin.close()
    for number in (None, signal.SIGTERM, signal.SIGKILL):
        if number is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SECONDS):
                await process.wait()
                break
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
