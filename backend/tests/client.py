"""A client for tests: the WebSocket and REST of a running service."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

ENDS = ("complete", "cancelled", "error")
PATIENCE = 20


class Socket:
    """One WebSocket, and every frame that came over it."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.frames: list[dict[str, Any]] = []

    async def send(self, **frame: Any) -> None:
        await self.connection.send(orjson.dumps(frame).decode())

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            frame = orjson.loads(await self.connection.recv())
        self.frames.append(frame)
        return frame

    async def until(self, *kinds: str, where: Callable[[dict[str, Any]], bool] = lambda frame: True) -> dict[str, Any]:
        """Receive up to the first frame of one of `kinds`."""
        while True:
            frame = await self.receive()
            if frame["type"] in kinds and where(frame):
                return frame

    async def ask(self, content: Any, **fields: Any) -> list[dict[str, Any]]:
        """Send a message; the frames up to the end of its run."""
        start = len(self.frames)
        await self.send(type="message", content=content, **fields)
        await self.until(*ENDS)
        return self.frames[start:]

    async def closed(self) -> int | None:
        """Receive up to the end of the connection; its close code."""
        with suppress(ConnectionClosed):
            while True:
                await self.receive()
        return self.connection.close_code

    async def nothing_waits(self) -> None:
        """Nothing has been sent that was not received: a ping is answered at once."""
        await self.send(type="ping", id="now")
        frame = await self.receive()
        assert frame == {"type": "pong", "id": "now"}


class Service:
    """A running service, as its clients see it."""

    def __init__(
        self, url: str, token: str | None, stop: Callable[[], Awaitable[None]] | None = None, app: Any = None
    ) -> None:
        self.url = url
        self._stop = stop
        self.app = app
        self.ws_url = url.replace("http://", "ws://") + "/ws"
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def stop(self) -> None:
        """End it, as a signal would."""
        assert self._stop is not None
        await self._stop()

    @asynccontextmanager
    async def socket(self, **headers: str) -> AsyncIterator[Socket]:
        async with connect(self.ws_url, additional_headers={**self.headers, **headers}, max_size=None) as connection:
            socket = Socket(connection)
            assert (await socket.receive())["type"] == "ready"
            yield socket

    def http(self, **options: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, **{"timeout": PATIENCE, "headers": self.headers, **options})

    async def get(self, path: str, **parameters: Any) -> Any:
        async with self.http() as http:
            answer = await http.get(path, params=parameters)
        answer.raise_for_status()
        return answer.json()

    async def history(self, conversation_id: str) -> list[dict[str, Any]]:
        return (await self.get(f"/api/conversations/{conversation_id}/messages", limit=200))["items"]


def text_of(frames: list[dict[str, Any]]) -> str:
    """The pieces of an answer, joined."""
    return "".join(frame["content"] for frame in frames if frame["type"] == "token")


def kinds(frames: list[dict[str, Any]]) -> list[str]:
    """The types of frames, pieces of text in a row as one."""
    found: list[str] = []
    for frame in frames:
        if not (found and frame["type"] == "token" == found[-1]):
            found.append(frame["type"])
    return found
