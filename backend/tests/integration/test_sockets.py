"""Many sockets and bad ones: dead peers, slow readers, too many at once."""

import asyncio
import base64
import json
import os
import socket
from typing import Any

import pytest

from app.adapters.inbound import server, websocket_handler
from tests.client import Service
from tests.integration.conftest import Start
from tests.upstream import Answer, Upstream, paused


async def raw_socket(service: Service) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A WebSocket that answers nothing by itself."""
    host, _, port = service.url.removeprefix("http://").partition(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=connection, limit=4_096)
    lines = [
        "GET /ws HTTP/1.1",
        f"Host: {host}:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        "Sec-WebSocket-Version: 13",
        *(f"{name}: {value}" for name, value in service.headers.items()),
    ]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    assert b"101" in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


def frame(**fields: Any) -> bytes:
    """A text frame, masked with zeros."""
    data = json.dumps(fields).encode()
    assert len(data) < 65_536
    return b"\x81\xfe" + len(data).to_bytes(2, "big") + bytes(4) + data


async def until_open(service: Service, count: int) -> None:
    async with asyncio.timeout(20):
        while service.app.state.sockets.open != count:
            await asyncio.sleep(0)


async def test_a_peer_that_is_gone_is_found_by_its_heartbeat(start: Start, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "HEARTBEAT_SECONDS", 0.2)
    service = await start()
    _, writer = await raw_socket(service)
    async with service.socket() as alive:
        await until_open(service, 2)
        await until_open(service, 1)
        assert (await alive.ask("Still there?"))[-1]["type"] == "complete"
    writer.close()


async def test_a_client_that_does_not_read_is_let_go_and_its_run_is_stored(
    start: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(websocket_handler, "SEND_SECONDS", 0.3)
    service = await start()

    async def flood(answer: Answer) -> None:
        for number in range(250):
            await answer.delta(reasoning_content=".")
            await answer.delta(content=f"{number} ".ljust(30_000))
        await answer.done()

    upstream.script(flood)
    _, writer = await raw_socket(service)
    writer.transport.pause_reading()
    writer.write(frame(type="message", content="Flood me", message_id="m-1"))
    await until_open(service, 1)
    async with service.socket() as other:
        await until_open(service, 1)
        assert (await other.ask("And I?"))[-1]["type"] == "complete"
        again = await other.ask("Flood me", message_id="m-1")
    assert again[-1]["type"] == "complete"
    text = "".join(f["content"] for f in again if f["type"] == "token")
    assert text == (await service.history(again[0]["conversation_id"]))[-1]["content"]
    assert len(text) == 250 * 30_000
    writer.transport.abort()


async def test_one_socket_too_many_is_told_to_come_back_later(start: Start):
    service = await start(max_sockets=2)
    async with service.socket(), service.socket() as second:
        _, writer = await raw_socket(service)
        writer.close()
        assert (await second.ask("Hi"))[-1]["type"] == "complete"
        with pytest.raises(Exception, match="1013"):
            async with service.socket():
                pass
    async with service.socket() as again:
        assert (await again.ask("Hi"))[-1]["type"] == "complete"


async def test_one_answer_too_many_is_refused_with_its_code(start: Start, upstream: Upstream):
    service = await start(max_runs=1)
    upstream.script(paused(gate := asyncio.Event()))
    async with service.socket() as client:
        await client.send(type="message", content="One")
        await client.until("token")
        await client.send(type="message", content="Two")
        refused = await client.until("error")
        assert (refused["code"], refused["retryable"]) == ("rate_limited", True)
        gate.set()
        await client.until("complete")
        assert (await client.ask("Two"))[-1]["type"] == "complete"


async def test_one_message_too_many_in_the_queue_is_refused(start: Start, upstream: Upstream):
    service = await start(max_queued=1)
    upstream.script(paused(gate := asyncio.Event()))
    async with service.socket() as client:
        await client.send(type="message", content="One")
        seen = await client.until("token")
        await client.send(type="message", content="Two", conversation_id=seen["conversation_id"])
        await client.until("accepted")
        await client.send(type="message", content="Three", conversation_id=seen["conversation_id"])
        assert (await client.until("error"))["code"] == "rate_limited"
        gate.set()
        await client.until("complete")
        await client.until("complete")
    assert len(await service.history(seen["conversation_id"])) == 4
