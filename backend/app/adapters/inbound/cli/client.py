"""A client of the service: one turn over the WebSocket, through lost connections, and the lists over REST."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from app.core.domain.ids import new_id
from app.core.domain.program import program

MAX_FRAME = 64 * 1024 * 1024
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
UNAUTHORIZED = 401
POST_SECONDS = 300


class ClientError(Exception):
    """What went wrong, in a sentence for the one at the terminal."""


class Client:
    """Talks to one service."""

    def __init__(self, url: str, token: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ClientError(f"{url!r} is not an address of a service. Try http://127.0.0.1:8000.")
        if (parts.hostname or "").endswith(".localhost"):
            # This machine, whatever its resolver says (RFC 6761): many know no names below localhost.
            parts = parts._replace(netloc=f"127.0.0.1:{parts.port}" if parts.port else "127.0.0.1")
        self.url = urlunsplit(parts).rstrip("/")
        scheme = "wss" if parts.scheme == "https" else "ws"
        self._socket_url = urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + "/ws", "", ""))
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def get(self, path: str, **parameters: Any) -> dict[str, Any]:
        """A document over REST.

        Raises:
            ClientError: the service does not answer, or says no.
        """
        return (await self._request("GET", path, params=parameters)).json()

    async def post(self, path: str, **body: Any) -> dict[str, Any]:
        """What a POST is answered; it may take as long as a model does.

        Raises:
            ClientError: the service does not answer, or says no.
        """
        return (await self._request("POST", path, json=body, timeout=POST_SECONDS)).json()

    async def text(self, path: str, **parameters: Any) -> str:
        """A download.

        Raises:
            ClientError: the service does not answer, or says no.
        """
        return (await self._request("GET", path, params=parameters)).text

    async def _request(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            async with httpx.AsyncClient(headers=self._headers, timeout=10) as http:
                answer = await http.request(method, self.url + path, **more)
        except httpx.HTTPError as error:
            raise ClientError(self._unreachable()) from error
        if answer.status_code == UNAUTHORIZED:
            raise ClientError(_WRONG_TOKEN)
        if answer.is_error:
            raise ClientError(answer.json().get("detail", answer.reason_phrase))
        return answer

    def turn(
        self, content: str, *, conversation_id: str | None = None, model: str | None = None, skill: str | None = None
    ) -> "Turn":
        """A turn to be run."""
        frame = {"type": "message", "content": content, "message_id": new_id()}
        if conversation_id:
            frame["conversation_id"] = conversation_id
        if model:
            frame["model"] = model
        if skill:
            frame["skill"] = skill
        return Turn(self, frame)

    def retry(self, conversation_id: str, message_id: str, *, model: str | None = None) -> "Turn":
        """The turn of a stored user message, to be run again."""
        frame = {"type": "retry", "conversation_id": conversation_id, "message_id": message_id}
        return Turn(self, {**frame, "model": model} if model else frame)

    async def open(self) -> ClientConnection:
        """A new socket, ready.

        Raises:
            ClientError: the token is refused.
            OSError, InvalidHandshake, ConnectionClosed: the service cannot be reached.
        """
        try:
            socket = await connect(
                self._socket_url, additional_headers=self._headers, max_size=MAX_FRAME, compression=None
            )
        except InvalidStatus as error:
            if error.response.status_code == UNAUTHORIZED:
                raise ClientError(_WRONG_TOKEN) from error
            raise
        await socket.recv()
        return socket

    def _unreachable(self) -> str:
        return f"No service answers at {self.url}. Start it with: {program()} serve (or say where it is with --url)."


class Turn:
    """One message and its answer. When the connection is lost it comes back and goes on after what it has seen.

    Attributes:
        run_id: the run, once it is accepted.
        connected: False while the connection is being found again.
    """

    def __init__(self, client: Client, frame: dict[str, Any]) -> None:
        self._client = client
        self._frame = frame
        self._seen = 0
        self._socket: ClientConnection | None = None
        self._cancel_asked = False
        self._decided: dict[str, bool] = {}
        self.run_id: str | None = None
        self.connected = False

    async def events(self) -> AsyncGenerator[dict[str, Any]]:
        """Every event of the turn, once and in order, until the run ends.

        An event of type `reconnecting` stands for a lost connection.

        Raises:
            ClientError: the service refuses the message, or was never there.
        """
        pause = FIRST_PAUSE
        reached = False
        while True:
            try:
                self._socket = await self._client.open()
                async with self._socket as socket:
                    reached, self.connected, pause = True, True, FIRST_PAUSE
                    await self._begin(socket)
                    async for event in self._read(socket):
                        yield event
                        if event["type"] in ("complete", "cancelled", "error"):
                            return
            except (OSError, InvalidHandshake, ConnectionClosed) as error:
                if not reached:
                    raise ClientError(self._client._unreachable()) from error  # pyright: ignore[reportPrivateUsage]
            self._socket, self.connected = None, False
            yield {"type": "reconnecting", "seconds": pause}
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def cancel(self) -> None:
        """Ask for the run to be stopped; its last event tells when it is."""
        self._cancel_asked = True
        if self._socket is not None and self.run_id is not None:
            await self._send(self._socket, {"type": "cancel", "run_id": self.run_id})

    async def decide(self, tool_call_id: str, approved: bool) -> None:
        """Say whether a call may be made; said again after a lost connection, until the call has its result."""
        self._decided[tool_call_id] = approved
        if self._socket is not None:
            await self._say_decision(self._socket, tool_call_id)

    async def _say_decision(self, socket: ClientConnection, tool_call_id: str) -> None:
        frame = {"type": "tool_approval", "run_id": self.run_id, "tool_call_id": tool_call_id}
        await self._send(socket, {**frame, "approved": self._decided[tool_call_id]})

    async def _begin(self, socket: ClientConnection) -> None:
        """Send the message, or ask for what was missed: sending it again runs nothing twice."""
        if self.run_id is None:
            await self._send(socket, self._frame)
        else:
            await self._send(socket, {"type": "attach", "run_id": self.run_id, "after": self._seen})
            for tool_call_id in self._decided:
                await self._say_decision(socket, tool_call_id)
            if self._cancel_asked:
                await self.cancel()

    async def _read(self, socket: ClientConnection) -> AsyncGenerator[dict[str, Any]]:
        async for text in socket:
            event: dict[str, Any] = orjson.loads(text)
            run_id = event.get("run_id")
            if run_id is None:
                if event["type"] == "error" and event.get("in_reply_to") != "tool_approval":
                    raise ClientError(event["message"])
                continue
            if self.run_id is None:
                self.run_id = run_id
                if self._cancel_asked:
                    await self.cancel()
            if run_id == self.run_id and "seq" not in event:
                yield event
            elif run_id == self.run_id and event["seq"] > self._seen:
                self._seen = event["seq"]
                if event["type"] == "tool_result":
                    self._decided.pop(event["tool_call_id"], None)
                yield event
        raise ConnectionClosed(None, None)

    async def _send(self, socket: ClientConnection, frame: dict[str, Any]) -> None:
        await socket.send(orjson.dumps(frame).decode())


_WRONG_TOKEN = (
    "The service does not accept the token. Give the one it printed at its start with --token or ATELIER_TOKEN, "  # noqa: S105
    "or its data folder with --data-dir."
)
