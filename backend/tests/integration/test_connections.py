"""Clients that send too much, too slowly or nothing at all, on raw sockets."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest

from app.adapters.inbound import connections
from app.adapters.inbound.connections import ConnectionLimits
from tests.client import Service
from tests.integration.conftest import Start

PATIENCE = 20
SHORT = ConnectionLimits(head_seconds=0.5, body_seconds=0.5, write_seconds=0.5)


@asynccontextmanager
async def raw(service: Service) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = service.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer_to(reader: asyncio.StreamReader) -> bytes:
    """All that the service sends up to the end of the connection."""
    async with asyncio.timeout(PATIENCE):
        return await reader.read()


def head(service: Service, *lines: str, method: str = "GET", path: str = "/api/health/live") -> bytes:
    host = service.url.removeprefix("http://")
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode()


def problem_of(answer: bytes) -> tuple[int, bytes]:
    """The status of an answer, and its body; it has to say that the connection ends."""
    first, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in first
    assert b"x-content-type-options: nosniff" in first
    return int(first.split()[1]), body


@pytest.mark.parametrize(
    "attack",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000,
        b"GET /" + b"a" * 100_000,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 2_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 66_000 + b"\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: " + b"a" * 100_000,
    ],
    ids=["header", "url", "headers", "whole-head", "handshake"],
)
async def test_a_large_head_is_refused(service: Service, attack: bytes):
    async with raw(service) as (reader, writer):
        writer.write(attack)
        status, body = problem_of(await answer_to(reader))
    assert status == 431
    assert b"larger than the service takes" in body


async def test_trailers_count_as_headers(service: Service):
    request = head(service, "Transfer-Encoding: chunked", "Content-Type: application/json", method="POST")
    async with raw(service) as (reader, writer):
        writer.write(request + b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 20_000)
        assert b"431" in await answer_to(reader)


async def test_the_largest_ordinary_head_is_taken(service: Service):
    lines = [f"X-{number}: {'a' * 600}" for number in range(100)]
    async with raw(service) as (reader, writer):
        writer.write(head(service, *lines))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")


async def test_a_slow_head_is_refused(start: Start):
    service = await start(limits=SHORT)
    async with raw(service) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: loc")
        status, body = problem_of(await answer_to(reader))
    assert status == 408
    assert b"took too long" in body


async def test_a_second_head_has_its_own_time(start: Start):
    service = await start(limits=SHORT)
    async with raw(service) as (reader, writer):
        writer.write(head(service))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        await reader.readuntil(b"}")
        writer.write(b"GET / HTT")
        assert b"408" in await answer_to(reader)


@pytest.mark.parametrize("path", ["/api/auth/login", "/api/conversations", "/v1/chat/completions", "/mcp"])
async def test_a_body_that_stalls_is_refused(start: Start, path: str):
    service = await start(limits=SHORT)
    credential = [f"{name}: {value}" for name, value in service.headers.items()]
    request = head(
        service, "Content-Type: application/json", "Content-Length: 100", *credential, method="POST", path=path
    )
    async with raw(service) as (reader, writer):
        writer.write(request + b"{")
        status, body = problem_of(await answer_to(reader))
    assert status == 408
    assert b"body took too long" in body


async def test_a_body_that_trickles_is_refused(start: Start, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connections, "BODY_GRACE_SECONDS", 0.5)
    service = await start(limits=ConnectionLimits(body_rate=1_000_000))
    request = head(service, "Content-Length: 100000", method="POST", path="/api/auth/login")

    async def trickle(writer: asyncio.StreamWriter) -> None:
        for _ in range(100_000):
            writer.write(b"a")
            await asyncio.sleep(0.05)

    async with raw(service) as (reader, writer):
        writer.write(request)
        trickling = asyncio.create_task(trickle(writer))
        assert b"408" in await answer_to(reader)
        trickling.cancel()


async def test_a_body_after_its_refusal_does_not_hold_the_connection(start: Start):
    service = await start(limits=SHORT)
    async with raw(service) as (reader, writer):
        writer.write(head(service, "Content-Length: 100", method="POST", path="/api/conversations"))
        answer = await answer_to(reader)
    assert answer.startswith(b"HTTP/1.1 401")


async def test_silent_connections_are_closed(start: Start):
    service = await start(limits=SHORT)
    async with raw(service) as (reader, _):
        assert await answer_to(reader) == b""


async def test_idle_connections_are_closed_after_an_answer(start: Start):
    service = await start(limits=SHORT)
    async with raw(service) as (reader, writer):
        writer.write(head(service))
        assert (await answer_to(reader)).startswith(b"HTTP/1.1 200")


async def test_a_client_that_takes_no_answer_is_let_go(start: Start):
    service = await start(limits=SHORT)
    async with service.http() as http:
        long = [{"role": "user", "content": "x" * 1_000_000}] * 40
        made = (await http.post("/api/conversations/import", json={"messages": long})).json()
    credential = [f"{name}: {value}" for name, value in service.headers.items()]
    path = f"/api/conversations/{made['id']}/export?format=json"
    host, _, port = service.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head(service, *credential, path=path))
        client = connection.getsockname()
        await until_known(client)
        async with asyncio.timeout(PATIENCE):
            while is_known(client):
                await asyncio.sleep(0.05)


def is_known(client: tuple[str, int]) -> bool:
    """Whether the service has a socket open for `client`."""
    return any(tuple(c.raddr or ()) == client for c in psutil.Process().net_connections("tcp"))


async def until_known(client: tuple[str, int]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not is_known(client):
            await asyncio.sleep(0.01)


async def test_an_open_socket_is_left_alone(start: Start):
    service = await start(limits=SHORT)
    async with service.socket() as client, raw(service) as (reader, _):
        assert await answer_to(reader) == b""  # the sweep that closed this one has passed the socket by
        await client.nothing_waits()


async def test_a_handshake_that_cannot_be_read_is_refused(service: Service):
    upgrade = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    credential = [f"{name}: {value}" for name, value in service.headers.items()]
    async with raw(service) as (reader, writer):
        writer.write(head(service, *upgrade, *credential, f"Cookie: {'a' * 10_000}", path="/ws"))
        status, body = problem_of(await answer_to(reader))
    assert status == 400
    assert b"handshake cannot be read" in body


async def test_a_refused_handshake_is_no_error_in_the_log(service: Service, caplog: pytest.LogCaptureFixture):
    upgrade = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    with caplog.at_level(logging.WARNING):
        async with raw(service) as (reader, writer):
            writer.write(head(service, *upgrade, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", path="/ws"))
            answer = await answer_to(reader)
    assert answer.startswith(b"HTTP/1.1 401")
    assert b"x-frame-options: DENY" in answer
    assert not caplog.records


async def test_connections_from_one_address_are_limited(start: Start, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connections, "counted_as", lambda client, proxies: "192.0.2.1")
    service = await start(limits=ConnectionLimits(per_address=3))
    async with service.socket(), raw(service), raw(service):
        async with raw(service) as (reader, _):
            status, body = problem_of(await answer_to(reader))
        assert status == 429
        assert b"too many connections" in body
    async with service.http() as http:
        await http.get("/api/conversations")


async def test_one_connection_too_many_takes_the_place_of_a_silent_one(start: Start):
    service = await start(limits=ConnectionLimits(total=3))
    async with raw(service) as (oldest, _), raw(service), raw(service), service.http() as http:
        assert (await http.get("/api/health/live")).status_code == 200
        assert await answer_to(oldest) == b""


async def test_where_all_are_busy_a_new_connection_is_refused(start: Start):
    service = await start(limits=ConnectionLimits(total=2))
    async with service.socket(), service.socket(), raw(service) as (reader, _):
        status, body = problem_of(await answer_to(reader))
    assert status == 503
    assert b"as many connections as it can hold" in body
