"""What benchmarks share: processes that are started on free ports and ended, and clients that take times."""

import asyncio
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import aiohttp
import orjson

ROOT = Path(__file__).parent.parent
WAIT_SECONDS = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def process(command: list[str], port: int, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process that listens on `port`, ended with the block."""
    running = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **(env or {})}, stdout=subprocess.DEVNULL)
    try:
        _wait_for(port, running)
        yield running
    finally:
        running.terminate()
        try:
            running.wait(20)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def _wait_for(port: int, running: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if running.poll() is not None:
            raise SystemExit(f"{running.args} ended with {running.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise SystemExit(f"nothing listens on port {port}")


def python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


@contextmanager
def upstream() -> Iterator[str]:
    """The model server; its base URL."""
    port = free_port()
    with process(python("bench.upstream", str(port)), port):
        yield f"http://127.0.0.1:{port}/v1"


@contextmanager
def relay(base_url: str) -> Iterator[str]:
    """The baseline; its WebSocket's URL."""
    port = free_port()
    with process(python("bench.relay", str(port), base_url), port):
        yield f"ws://127.0.0.1:{port}/ws"


@contextmanager
def mongo() -> Iterator[str]:
    """MongoDB's wire: the server at MONGODB_URL, or one over SQLite that is started here."""
    if url := os.environ.get("MONGODB_URL"):
        yield url
        return
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).parent / "nx-27017"), "--host", "127.0.0.1", "--port", str(port)]
        with process([*command, "--data-dir", folder, "--log-file", f"{folder}/log"], port):
            yield f"mongodb://127.0.0.1:{port}"


@contextmanager
def redis() -> Iterator[str | None]:
    """A Redis that keeps nothing, where the command is installed."""
    command = shutil.which("redis-server")
    if command is None:
        yield None
        return
    port = free_port()
    with process([command, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"], port):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def service(
    base_url: str, *, mongodb_url: str | None = None, data_dir: str | None = None, **settings: str
) -> Iterator[str]:
    """The service with the upstream as its model; its HTTP URL."""
    with service_process(base_url, mongodb_url=mongodb_url, data_dir=data_dir, **settings) as (url, _):
        yield url


@contextmanager
def service_process(
    base_url: str, *, mongodb_url: str | None = None, data_dir: str | None = None, **settings: str
) -> Iterator[tuple[str, int]]:
    """The service with the upstream as its model; its HTTP URL, and the id of its process."""
    port = free_port()
    env = {
        "AUTH_MODE": "none",
        "OPENAI_BASE_URL": base_url,
        "DEFAULT_MODEL": "openai@bench",
        "MONGODB_URL": mongodb_url or "",
        "REDIS_URL": "",
        "SYSTEM_PROMPT": "",
        "MESSAGES_PER_MINUTE": "1000000000",  # counted, and never reached
        **settings,
    }
    with ExitStack() as stack:
        folder = data_dir or stack.enter_context(tempfile.TemporaryDirectory())
        command = [str(Path(sys.executable).parent / "atelier"), "serve", "--port", str(port), "--data-dir", folder]
        running = stack.enter_context(process(command, port, env))
        wait_ready(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}", running.pid


def wait_ready(url: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/api/health/ready", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.02)
    raise SystemExit(f"{url} is not ready")


class Turns:
    """Turns over one WebSocket, with the time to the first piece and to the end of each."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.first: list[float] = []
        self.whole: list[float] = []

    async def run(self, session: aiohttp.ClientSession, count: int, conversation_id: str | None = None) -> None:
        async with session.ws_connect(self.url, max_msg_size=0) as ws:
            await ws.receive()
            for number in range(count):
                frame = {"type": "message", "content": f"question {number}"}
                if conversation_id:
                    frame["conversation_id"] = conversation_id
                await self._turn(ws, orjson.dumps(frame).decode())

    async def _turn(self, ws: aiohttp.ClientWebSocketResponse, frame: str) -> None:
        began = time.perf_counter()
        first = None
        pieces = []
        await ws.send_str(frame)
        while True:
            message = await ws.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                raise SystemExit(f"the socket ended: {message}")
            data = orjson.loads(message.data)
            if data["type"] == "token":
                if first is None:
                    first = time.perf_counter() - began
                pieces.append(data["content"])
            elif data["type"] == "complete":
                break
            elif data["type"] == "error":
                raise SystemExit(f"a turn failed: {data}")
        assert "".join(pieces).count("piece") == 50, "pieces were lost"
        self.first.append(first or 0.0)
        self.whole.append(time.perf_counter() - began)


def measure_turns(url: str, connections: int, turns: int) -> tuple[float, float]:
    """Turns per second over `connections` sockets, and the median time to the first piece in milliseconds."""

    async def run() -> tuple[float, float]:
        async with aiohttp.ClientSession() as session:
            clients = [Turns(url) for _ in range(connections)]
            began = time.perf_counter()
            await asyncio.gather(*(client.run(session, turns // connections) for client in clients))
            seconds = time.perf_counter() - began
            first = [value for client in clients for value in client.first]
            return len(first) / seconds, statistics.median(first) * 1_000

    try:
        import uvloop

        return uvloop.run(run())
    except ImportError:
        return asyncio.run(run())


def ws_url(http_url: str) -> str:
    return http_url.replace("http://", "ws://") + "/ws"
