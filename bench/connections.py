"""Many sockets, many runs, and clients that stop reading: `python -m bench.connections`.

First idle sockets, each with its token checked, and what one of them costs. Then runs at 40 pieces a second each: from the
question to the first piece, and how far the pauses between pieces stray from those of the model. Then the same with
clients beside them that ask and never read, against as many beside them that do read (the load of the model server and of
this program is the same then): memory, the others' figures, and whether the silent clients' runs are stored.
"""

import argparse
import asyncio
import resource
import socket
import statistics
import sys
import time
from contextlib import ExitStack
from itertools import chain, pairwise

import aiohttp
import orjson
import psutil
import uvloop

from bench import rig
from bench.upstream import PACED_PIECES

LIMIT_SOCKET_KIB = 45
LIMIT_FIRST_MS = 100
LIMIT_BETWEEN_MS = 25
LIMIT_GROWTH_MIB = 64
LIMIT_CHANGE = 0.20
APART = 0.01
"""Seconds between the beginnings of two runs: clients do not all come in the same moment."""

SETTLE = 0.5
"""Seconds until the burst is over in which the silent clients ask."""

NOISE_MS = 5.0
"""A change below this is the machine's, whatever share of a small figure it is."""

LARGE = "openai@paced-1000"
TOKEN = "bench-token"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def idle(url: str, count: int, process: psutil.Process) -> float:
    """KiB of the service's memory that one of `count` idle sockets takes."""
    before = process.memory_info().rss
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=HEADERS) as session:
        batches = [range(start, min(start + 200, count)) for start in range(0, count, 200)]
        opened = [await asyncio.gather(*(session.ws_connect(url) for _ in batch)) for batch in batches]
        sockets = [*chain.from_iterable(opened)]
        for one in sockets:
            assert orjson.loads((await one.receive()).data)["type"] == "ready"
        await asyncio.sleep(1)
        taken = process.memory_info().rss - before
        await asyncio.gather(*(one.close() for one in sockets))
    return taken / count / 1024


async def ask(
    session: aiohttp.ClientSession, url: str, delay: float, model: str | None = None
) -> tuple[float, list[float]]:
    """Milliseconds to the first piece, and how far each pause strays from the model's."""
    await asyncio.sleep(delay)
    async with session.ws_connect(url) as ws:
        await ws.receive()
        began = time.monotonic()
        question = {"type": "message", "content": "go", **({"model": model} if model else {})}
        await ws.send_str(orjson.dumps(question).decode())
        seen: list[tuple[float, float]] = []
        while True:
            frame = orjson.loads((await ws.receive()).data)
            if frame["type"] == "token":
                now = time.monotonic()
                seen += [(float(part.partition("]")[0]), now) for part in frame["content"].split("[")[1:]]
            elif frame["type"] == "complete":
                break
            elif frame["type"] == "error":
                raise SystemExit(f"a turn failed: {frame}")
        assert len(seen) == PACED_PIECES, "pieces were lost"
        strays = [abs((b[1] - a[1]) - (b[0] - a[0])) * 1_000 for a, b in pairwise(seen)]
        return (seen[0][1] - began) * 1_000, strays


async def runs(url: str, count: int, beside: int = 0) -> tuple[float, float]:
    """The 99th percentiles of the time to the first piece and of the pauses, in milliseconds.

    `beside` more clients ask first, for larger pieces, and are not counted.
    """
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=HEADERS) as session:
        others = [asyncio.create_task(ask(session, url, 0, LARGE)) for _ in range(beside)]
        await asyncio.sleep(SETTLE if beside else 0)
        figures = await asyncio.gather(*(ask(session, url, number * APART) for number in range(count)))
        await asyncio.gather(*others)
    strays = [stray for _, of_run in figures for stray in of_run]
    return percentile([first for first, _ in figures], 0.99), percentile(strays, 0.99)


def silent(host: str, port: int, model: str) -> socket.socket:
    """A client that asks, and never reads."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.connect((host, port))
    handshake = (
        f"GET /ws HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    )
    connection.sendall(handshake.encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(512)
    frame = orjson.dumps({"type": "message", "content": "silent", "model": model})
    connection.sendall(bytes([0x81, 0x80 | len(frame), 0, 0, 0, 0]) + frame)
    return connection


async def stored(http_url: str, count: int) -> int:
    """How many conversations of silent clients have their answer, once nothing is under way any more."""
    path = f"{http_url}/api/conversations?q=silent&limit={min(count, 200)}"
    count = min(count, 200)
    async with aiohttp.ClientSession(headers=HEADERS) as session:
        deadline = time.monotonic() + 30
        while True:
            async with session.get(path) as answer:
                items = (await answer.json())["items"]
            whole = sum(item["message_count"] == 2 and item["active_run_id"] is None for item in items)
            if whole == count or time.monotonic() > deadline:
                return whole
            await asyncio.sleep(0.5)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=5_000)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--silent", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.sockets > hard - 500:
        raise SystemExit(f"{options.sockets} sockets need a higher limit of open files than {hard} (it was {soft})")
    with ExitStack() as stack:
        base_url = stack.enter_context(rig.upstream())
        settings = {"AUTH_MODE": "local", "ATELIER_TOKEN": TOKEN, "DEFAULT_MODEL": "openai@paced-24"}
        http_url = stack.enter_context(rig.service(base_url, **settings))
        url = rig.ws_url(http_url)
        port = int(http_url.rpartition(":")[2])
        process = next(p for p in psutil.Process().children() if any(c.laddr.port == port for c in p.net_connections()))
        uvloop.run(runs(url, 10))

        kib = uvloop.run(idle(url, options.sockets, process))
        print(f"{options.sockets} idle sockets: {kib:.1f} KiB each (at most {LIMIT_SOCKET_KIB})")

        alone = [uvloop.run(runs(url, options.runs)) for _ in range(options.rounds)]
        first, between = (statistics.median(figures) for figures in zip(*alone, strict=True))
        print(f"{options.runs} runs: first piece p99 {first:.1f} ms (at most {LIMIT_FIRST_MS}), ", end="")
        print(f"between pieces p99 {between:.1f} ms (at most {LIMIT_BETWEEN_MS})")

        before = process.memory_info().rss
        reading: list[tuple[float, float]] = []
        unread: list[tuple[float, float]] = []
        asked = 0
        for _ in range(options.rounds):
            reading.append(uvloop.run(runs(url, options.runs, options.silent)))
            connections = [silent("127.0.0.1", port, LARGE) for _ in range(options.silent)]
            asked += len(connections)
            time.sleep(SETTLE)
            unread.append(uvloop.run(runs(url, options.runs)))
            for connection in connections:
                connection.close()
        growth = (process.memory_info().rss - before) / 2**20
        whole = uvloop.run(stored(http_url, asked))
    then, now = ([statistics.median(column) for column in zip(*rows, strict=True)] for rows in (reading, unread))
    for what, (first_piece, pauses) in (("read", then), ("never read", now)):
        print(f"with {options.silent} beside them that {what}: first piece p99 {first_piece:.1f} ms, ", end="")
        print(f"between pieces p99 {pauses:.1f} ms")
    print(
        f"memory grew by {growth:.1f} MiB (at most {LIMIT_GROWTH_MIB}); {whole} of {asked} silent clients' runs are stored"
    )
    worse = max((b - a) / a if b - a > NOISE_MS else 0.0 for a, b in zip(then, now, strict=True))
    missed = (
        kib > LIMIT_SOCKET_KIB
        or first > LIMIT_FIRST_MS
        or between > LIMIT_BETWEEN_MS
        or growth > LIMIT_GROWTH_MIB
        or worse > LIMIT_CHANGE
        or whole < min(asked, 200)
    )
    print(f"the others' figures changed by {worse:.0%} (at most {LIMIT_CHANGE:.0%})")
    print(f"limits: {'MISSED' if missed else 'kept'}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
