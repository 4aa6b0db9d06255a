"""Limits on connections that uvicorn does not have: heads, bodies, silence, and how many there are.

Every connection is in at most one of a few tables, and the server sweeps these tables twice a second: no connection
has a timer of its own. A WebSocket that is open is in none of them.
"""

import asyncio
import resource
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from app.adapters.inbound.addresses import NO_PROXIES, TrustedProxies, counted_as
from app.adapters.inbound.problems import problem
from app.adapters.inbound.security_headers import DEFAULTS
from app.adapters.inbound.websocket_handler import DROP
from app.core.domain.errors import AtelierError, InvalidFrame, RateLimited, RequestTimeout, TooLarge

LINGER_SECONDS = 2.0
"""How long a refused client has to read why, before its connection is closed."""
LINGER_BYTES = 8 * 1024 * 1024
BODY_GRACE_SECONDS = 20.0
"""From when on a body must keep to the minimum rate."""
CHUNK_OVERHEAD = 7
"""Bytes on the wire for a byte of a body that is sent in chunks of one byte."""
MANY_FILES = 1_048_576
"""What a process may open where there is no limit."""
CLOSE_SECONDS = 10.0
"""How long a client that takes nothing may take for what was written before its close frame."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a client has to go."""

    status: HTTPStatus
    error: AtelierError


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What a client may take.

    Attributes:
        head_bytes: the largest request head, URL and headers together.
        headers: the most headers.
        head_seconds: how long a head may take, and a connection may be silent before it.
        body_seconds: how long a body may make no progress.
        body_rate: bytes a second that a body makes at least.
        write_seconds: how long a client may take nothing of an answer.
        total: connections at once; None for what the limit of open files allows.
        per_address: connections from one address at once; None for any number.
        proxies: who may have any number of connections.
    """

    head_bytes: int = 65_536
    headers: int = 128
    head_seconds: float = 15.0
    body_seconds: float = 15.0
    body_rate: int = 500
    write_seconds: float = 60.0
    total: int | None = None
    per_address: int | None = None
    proxies: TrustedProxies = NO_PROXIES


class Connection(Protocol):
    """A connection as the tables know it."""

    transport: asyncio.Transport

    @property
    def address(self) -> str | None:
        """Whom it counts for; None where nobody is counted."""
        ...

    @property
    def is_quiet(self) -> bool:
        """Whether no request is being answered, and no WebSocket is open."""
        ...

    def expire(self) -> None:
        """Its head did not come in time."""
        ...


class Connections:
    """All connections of a server, and what each of them owes."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.open = 0
        self._by_address: dict[str, int] = {}
        # In the order of their deadlines: each table has one waiting time, so what is added last ends last.
        self._waiting: dict[Connection, float] = {}
        self._stalled: dict[HttpProtocol, float] = {}
        self._leaving: dict[HttpProtocol, float] = {}
        self._receiving: set[HttpProtocol] = set()
        files = raise_file_limit()
        self._reserve = max(32, min(files // 8, 1_024))
        self._files = files - self._reserve

    @property
    def backlog(self) -> int:
        """Connections that may wait to be accepted: no more than there are files for in one go."""
        return min(2_048, max(16, self._reserve // 2))

    def enter(self, connection: Connection) -> None:
        """A connection is made, or becomes a WebSocket."""
        self.open += 1
        if (address := connection.address) is not None:
            self._by_address[address] = self._by_address.get(address, 0) + 1
        self.wait(connection)

    def leave(self, connection: Connection) -> None:
        """A connection is lost, or goes on as a WebSocket."""
        self.open -= 1
        if (address := connection.address) is not None:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]
        self._waiting.pop(connection, None)
        if isinstance(connection, HttpProtocol):
            self._stalled.pop(connection, None)
            self._leaving.pop(connection, None)
            self._receiving.discard(connection)

    def refusal(self, connection: Connection) -> Refusal | None:
        """Why a new connection cannot stay; None where it can. Near the limit an old quiet one makes room for it."""
        limits = self.limits
        if limits.per_address is not None and self._by_address.get(connection.address or "", 0) > limits.per_address:
            error = RateLimited("This address has too many connections open. Close some and try again.", retry_after=1)
            return Refusal(HTTPStatus.TOO_MANY_REQUESTS, error)
        file: int = connection.transport.get_extra_info("socket").fileno()
        is_full = file >= self._files or (limits.total is not None and self.open > limits.total)
        if is_full and not self._make_room(connection):
            error = RateLimited(
                "The service has as many connections as it can hold. Try again in a moment.", retry_after=1
            )
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, error)
        return None

    def _make_room(self, newest: Connection) -> bool:
        for connection in self._waiting:
            if connection is newest:
                return False
            if connection.is_quiet:
                del self._waiting[connection]
                connection.transport.abort()
                return True
        return False

    # --- what a connection owes

    def wait(self, connection: Connection) -> None:
        """A head is to come."""
        self._waiting.pop(connection, None)
        self._waiting[connection] = time.monotonic() + self.limits.head_seconds

    def heard(self, connection: Connection) -> None:
        """The head is there."""
        self._waiting.pop(connection, None)

    def receive(self, connection: "HttpProtocol") -> None:
        """A body is to come."""
        if connection not in self._receiving:
            self._receiving.add(connection)
            connection.restart_body_clock(time.monotonic())

    def received(self, connection: "HttpProtocol") -> None:
        """The body is there."""
        self._receiving.discard(connection)

    def stall(self, connection: "HttpProtocol") -> None:
        """The client takes nothing of its answer for now."""
        self._stalled[connection] = time.monotonic() + self.limits.write_seconds

    def flow(self, connection: "HttpProtocol") -> None:
        """The client takes its answer again."""
        self._stalled.pop(connection, None)

    def leave_soon(self, connection: "HttpProtocol") -> None:
        """The client was told to go."""
        self._waiting.pop(connection, None)
        self._receiving.discard(connection)
        self._leaving[connection] = time.monotonic() + LINGER_SECONDS
        if len(self._leaving) > self._reserve // 2:
            oldest = next(iter(self._leaving))
            del self._leaving[oldest]
            oldest.transport.abort()

    # --- sweeping

    def sweep(self) -> None:
        """Close what is overdue."""
        now = time.monotonic()
        for connection in _overdue(self._waiting, now):
            connection.expire()
        for table in (self._stalled, self._leaving):
            for connection in _overdue(table, now):
                connection.transport.abort()
        for connection in list(self._receiving):
            connection.check_body(now)


def _overdue(table: dict[T, float], now: float) -> list[T]:
    found: list[T] = []
    for item, deadline in table.items():
        if deadline > now:
            break
        found.append(item)
    for item in found:
        del table[item]
    return found


def raise_file_limit() -> int:
    """How many files this process may have open, after asking for as many as it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (ValueError, OSError):
            pass  # some systems name a hard limit that they do not grant
    return MANY_FILES if soft == resource.RLIM_INFINITY else soft


class HttpProtocol(HttpToolsProtocol):
    """Uvicorn's HTTP protocol with bounds on what a client may send, and on how long it may take for it."""

    def __init__(self, connections: Connections, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.address: str | None = None
        self._connections = connections
        self._limits = connections.limits
        self._refusal: Refusal | None = None
        self._has_left = False
        self._received = 0  # of the message that is arriving: bytes on the wire, of its head, and of its body
        self._head_size = 0
        self._header_count = 0
        self._body_size = 0
        self._body_counted = 0
        self._body_seen = 0
        self._body_began = 0.0
        self._body_moved = 0.0
        self._body_is_due = False
        self._discarded = 0

    @property
    def _current(self) -> RequestResponseCycle | None:
        """The newest request, which uvicorn's own annotation says there always is."""
        return self.cycle

    @property
    def is_quiet(self) -> bool:
        return self._current is None or self._current.response_complete

    # --- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let the connection in, or say why not."""
        super().connection_made(transport)
        self.address = counted_as(self.client, self._limits.proxies)
        self._connections.enter(self)
        if (refusal := self._connections.refusal(self)) is not None:
            self.refuse(refusal)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._connections.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what arrives, and read it."""
        if self._has_left:
            self._discard(len(data))
            return
        self._received += len(data)
        super().data_received(data)
        if self._has_left:
            return
        if self._received - CHUNK_OVERHEAD * self._body_size > self._limits.head_bytes:
            self.refuse(_HEAD_TOO_LARGE)
        elif self._body_is_due:
            self._connections.receive(self)

    def pause_writing(self) -> None:
        """The client takes nothing for now."""
        super().pause_writing()
        self._connections.stall(self)

    def resume_writing(self) -> None:
        """The client takes its answer again."""
        super().resume_writing()
        self._connections.flow(self)

    def handle_websocket_upgrade(self) -> None:
        """Go on as a WebSocket; a handshake that is not read by then never will be."""
        super().handle_websocket_upgrade()
        self._has_left = True
        self._connections.leave(self)
        protocol = self.transport.get_protocol()
        if isinstance(protocol, SocketProtocol) and not protocol.handshake_initiated:
            self.transport.write(_response(_BAD_HANDSHAKE))
            self.transport.close()

    # --- what the parser finds

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._head_size = self._header_count = self._body_size = 0
        self._connections.wait(self)

    def on_url(self, url: bytes) -> None:
        """A part of the URL."""
        self._head_size += len(url)
        if self._head_size > self._limits.head_bytes:
            self._stop_reading(_HEAD_TOO_LARGE)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer behind the body."""
        self._head_size += len(name) + len(value) + 4
        self._header_count += 1
        if self._head_size > self._limits.head_bytes or self._header_count > self._limits.headers:
            self._stop_reading(_HEAD_TOO_LARGE)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._connections.heard(self)
        self._body_is_due = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body_size += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is there."""
        self._body_is_due = False
        self._received = self._body_size = 0
        self._connections.received(self)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The request is answered; the next one may come."""
        super().on_response_complete()
        if self.is_quiet and not self.transport.is_closing():
            self._connections.wait(self)

    # --- who has to go

    def expire(self) -> None:
        """The head did not come in time; who said nothing is told nothing."""
        if not self.is_quiet:
            self._connections.wait(self)
        elif self._received and not self._body_is_due:
            self.refuse(_HEAD_TOO_SLOW)
        else:
            self.transport.close()

    def restart_body_clock(self, now: float) -> None:
        """Count the body's rate from now on."""
        self._body_began = self._body_moved = now
        self._body_counted = self._body_seen = self._body_size

    def check_body(self, now: float) -> None:
        """Refuse a body that makes no progress, or too little of it; what the application holds up is not counted."""
        if self.flow.read_paused:
            self.restart_body_clock(now)
            return
        if self._body_size != self._body_seen:
            self._body_seen, self._body_moved = self._body_size, now
        arrived = self._body_size - self._body_counted
        took = now - self._body_began
        is_slow = took > BODY_GRACE_SECONDS and arrived < took * self._limits.body_rate
        if is_slow or now - self._body_moved > self._limits.body_seconds:
            self.refuse(_BODY_TOO_SLOW)

    def refuse(self, refusal: Refusal) -> None:
        """Say why, as far as an answer can still be given, and close the connection once that is read."""
        if self._has_left or self.transport.is_closing():
            return
        self._has_left = True
        cycle = None if self.is_quiet else self.cycle
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        if self.pipeline or (cycle is not None and cycle.response_started):
            self.transport.abort()
            return
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        self.transport.write(_response(refusal))
        self.transport.write_eof()
        self._connections.leave_soon(self)

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser refused."""
        self.refuse(self._refusal or _NOT_HTTP)

    def _stop_reading(self, refusal: Refusal) -> None:
        """Leave the parser; uvicorn then calls `send_400_response`."""
        self._refusal = refusal
        raise ValueError(refusal.error.message)

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > LINGER_BYTES:
            self.transport.abort()


class SocketProtocol(WebSocketsSansIOProtocol):
    """Uvicorn's WebSocket protocol, which can also close a connection whose client takes nothing.

    Uvicorn sends a close frame, as every other one, only when the client has room for it. Through `drop` in the scope's
    extensions it is put behind what waits, and where that does not go away the connection is broken.
    """

    def __init__(self, connections: Connections, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.address: str | None = None
        self._connections = connections

    @property
    def is_quiet(self) -> bool:
        return not self.handshake_complete

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection over that was HTTP until now."""
        super().connection_made(transport)
        self.address = counted_as(self.client, self._connections.limits.proxies)
        self._connections.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._connections.leave(self)
        super().connection_lost(exc)

    def expire(self) -> None:
        """The handshake was not finished in time."""
        if not self.handshake_complete:
            self.transport.abort()

    async def run_asgi(self) -> None:
        """Run the application for this connection."""
        self.scope.setdefault("extensions", {})[DROP] = {"drop": self._drop}  # pyright: ignore[reportArgumentType, reportUnknownMemberType]
        self.app = self._run(self.app)
        await super().run_asgi()

    def _run(self, app: Any) -> Any:
        """The application; an answer that refuses the handshake completes it, which uvicorn calls an error."""

        async def run(scope: Scope, receive: Receive, send: Send) -> None:
            await app(scope, receive, send)
            if self.initial_response is not None and self.close_sent:
                self.handshake_complete = True

        return run

    def _drop(self, code: int) -> None:
        """Close with `code`, at once for the application, for the client when it has read what it was sent before."""
        if self.close_sent or self.transport.is_closing():
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": ""})
        self.conn.send_close(code)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.transport.close()
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)


_HEAD_TOO_LARGE = Refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    TooLarge("The request's head is larger than the service takes. Send fewer or shorter headers, and a shorter URL."),
)
_HEAD_TOO_SLOW = Refusal(
    HTTPStatus.REQUEST_TIMEOUT, RequestTimeout("The request's head took too long to arrive. Send it again.")
)
_BODY_TOO_SLOW = Refusal(
    HTTPStatus.REQUEST_TIMEOUT, RequestTimeout("The request's body took too long to arrive. Send it again.")
)
_NOT_HTTP = Refusal(HTTPStatus.BAD_REQUEST, InvalidFrame("The request is not valid HTTP."))
_BAD_HANDSHAKE = Refusal(
    HTTPStatus.BAD_REQUEST, InvalidFrame("The WebSocket handshake cannot be read. Send fewer or shorter headers.")
)


def _response(refusal: Refusal) -> bytes:
    """A refusal as the bytes of an answer."""
    answer = problem(refusal.error, status=refusal.status.value)
    lines = [f"HTTP/1.1 {refusal.status.value} {refusal.status.phrase}".encode()]
    lines += [name + b": " + value for name, value in (*answer.raw_headers, *DEFAULTS, (b"connection", b"close"))]
    return b"\r\n".join(lines) + b"\r\n\r\n" + bytes(answer.body)
