"""The WebSocket: frames in, run events out. A socket may follow any number of runs, and may leave at any time."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import Receive, Scope
from starlette.types import Send as AsgiSend

from app import __version__
from app.adapters.inbound.frames import (
    AttachFrame,
    BadFrame,
    CancelFrame,
    ClientFrame,
    EditFrame,
    MessageFrame,
    PingFrame,
    RegenerateFrame,
    RetryFrame,
    ToolApprovalFrame,
    ToolResultFrame,
    parse_frame,
)
from app.core.domain.errors import AtelierError, InvalidFrame, describe
from app.core.domain.event import to_json
from app.core.domain.run import Run
from app.core.domain.text import clean_json
from app.core.domain.user import User
from app.core.ports import EventsGone, IRunFeed
from app.core.services.answers import Answer, ToolApproval, ToolResult
from app.core.services.rate_limits import Limited, RateLimits, Visitor
from app.core.services.runs import RunService, Send

logger = logging.getLogger(__name__)

PROTOCOL = 1
BATCH = 64
"""Events of one run that are sent before another run of the same socket has its turn."""

SEND_SECONDS = 10.0
"""How long a client may take none of what it is sent."""

DROP = "atelier.drop"
"""The extension of the ASGI scope by which the server closes a connection whose client takes nothing."""

GOING_AWAY = 1001
BROKEN = 1011
OVERLOADED = 1013
SIGNED_OUT = 4401
SLOW_READER = 4408
MAX_REPLIES = 1_000


class WebSocketHandler:
    """Serves sockets, and knows which are open so that a shutdown can tell them."""

    def __init__(self, runs: RunService, rates: RateLimits, *, max_sockets: int) -> None:
        self._runs = runs
        self._rates = rates
        self._max_sockets = max_sockets
        self._open: set[_Socket] = set()
        self._is_draining = False

    @property
    def open(self) -> int:
        """Sockets that are open now."""
        return len(self._open)

    async def serve(self, scope: Scope, receive: Receive, send: AsgiSend) -> None:
        """Serve one socket from its handshake to its end. An ASGI application: nothing stands between it and the server."""
        if (await receive())["type"] != "websocket.connect":
            return
        await send({"type": "websocket.accept"})
        if self._is_draining:
            reason = "the service is shutting down; reconnect and attach"
            await send({"type": "websocket.close", "code": GOING_AWAY, "reason": reason})
            return
        if self.open >= self._max_sockets:
            await send(
                {"type": "websocket.close", "code": OVERLOADED, "reason": "too many connections; try again later"}
            )
            return
        extension: dict[str, Any] = scope.get("extensions", {}).get(DROP, {})
        state = scope["state"]
        socket = _Socket(state["user"], state["visitor"], self._runs, self._rates, receive, send, extension.get("drop"))
        self._open.add(socket)
        try:
            await socket.serve()
        finally:
            self._open.discard(socket)

    def drain(self) -> None:
        """The service is shutting down: close each socket as soon as the runs that it follows have ended."""
        self._is_draining = True
        for socket in self._open:
            socket.drain()

    async def close_ended(self, is_valid: Callable[[str], Awaitable[bool]]) -> None:
        """Close the sockets whose session or token is valid no more."""
        credentials = {socket.visitor.credential for socket in self._open}
        ended = {credential for credential in credentials if not await is_valid(credential)}
        if ended:
            stale = [socket for socket in self._open if socket.visitor.credential in ended]
            await asyncio.gather(*(socket.close(SIGNED_OUT) for socket in stale), return_exceptions=True)

    async def close_all(self) -> None:
        """Tell every client that the service is shutting down."""
        await asyncio.gather(*(socket.close(GOING_AWAY) for socket in list(self._open)), return_exceptions=True)


class _Socket:
    """One connection: a reader that handles frames in order, and a sender that pulls what there is to send."""

    def __init__(
        self,
        user: User,
        visitor: Visitor,
        runs: RunService,
        rates: RateLimits,
        receive: Receive,
        send: AsgiSend,
        drop: Callable[[int], None] | None,
    ) -> None:
        self.visitor = visitor
        self._rates = rates
        self._drop = drop
        self._user = user
        self._runs = runs
        self._receive = receive
        self._send = send
        self._closed = False
        self._is_draining = False
        self._is_handling = False
        self._replies: deque[str] = deque()
        self._feeds: dict[str, IRunFeed] = {}
        self._more = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        self._reply(type="ready", protocol=PROTOCOL, user=self._user.id, version=__version__)
        self._sender = asyncio.create_task(self._send_all())
        try:
            while True:
                message = await self._receive()
                if message["type"] == "websocket.disconnect":
                    self._closed = True
                    break
                await self._take(message.get("text"))
        finally:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
            for feed in self._feeds.values():
                feed.close()

    def drain(self) -> None:
        """Close the connection once there is nothing more to send."""
        self._is_draining = True
        self._more.set()

    async def close(self, code: int) -> None:
        """Close the connection from this side."""
        if self._closed:
            return
        self._closed = True
        if self._drop is not None:
            self._drop(code)
        else:
            await self._send({"type": "websocket.close", "code": code})

    # --- in

    async def _take(self, text: str | None) -> None:
        if len(self._replies) > MAX_REPLIES:
            await self.close(SLOW_READER)
            return
        kind: str | None = None
        try:
            if text is None:
                raise BadFrame(InvalidFrame("Frames are text. Send JSON as a text frame."), None)
            frame = parse_frame(text)
            kind = frame.type
            if isinstance(frame, MessageFrame | RegenerateFrame | EditFrame):
                self._rates.count(Limited.MESSAGES, self.visitor)
            self._is_handling = True
            await self._handle(frame)
        except BadFrame as bad:
            self._error(bad.error, bad.in_reply_to)
        except AtelierError as error:
            self._error(error, kind)
        except Exception as error:
            logger.exception("a %s frame could not be handled", kind)
            self._error(describe(error), kind)
        finally:
            self._is_handling = False
            self._more.set()

    async def _handle(self, frame: ClientFrame) -> None:
        match frame:
            case MessageFrame():
                run = await self._runs.send(
                    self._user,
                    Send(
                        content=frame.content,
                        conversation_id=frame.conversation_id,
                        message_id=frame.message_id,
                        model=frame.model,
                        on_busy=frame.on_busy,
                        client_tools=frame.client_tools,
                        skill=frame.skill,
                    ),
                )
                await self._follow_sent(run)
            case RegenerateFrame():
                run = await self._runs.regenerate(self._user, frame.conversation_id, frame.message_id, frame.model)
                await self._follow_sent(run)
            case RetryFrame():
                run = await self._runs.retry(self._user, frame.conversation_id, frame.message_id, frame.model)
                await self._follow_sent(run)
            case EditFrame():
                run = await self._runs.edit(
                    self._user, frame.conversation_id, frame.message_id, frame.content, frame.model
                )
                await self._follow_sent(run)
            case ToolResultFrame():
                result = ToolResult(frame.tool_call_id, frame.result, frame.is_error)
                await self._answer(frame.run_id, result)
            case ToolApprovalFrame():
                await self._answer(frame.run_id, ToolApproval(frame.tool_call_id, frame.approved, frame.reason))
            case AttachFrame():
                await self._follow(frame.run_id, frame.after)
            case CancelFrame():
                run = await self._runs.cancel(self._user, frame.run_id)
                if run.id not in self._feeds:
                    await self._follow(run.id, max(0, run.last_seq - 1))
            case PingFrame():
                self._reply(type="pong", **({} if frame.id is None else {"id": clean_json(frame.id)}))

    async def _answer(self, run_id: str, answer: Answer) -> None:
        """Hand an answer to its run, and follow what comes of it."""
        run = await self._runs.get(self._user, run_id)
        after = run.last_seq
        await self._runs.answer(self._user, run_id, answer)
        if run_id not in self._feeds:
            await self._follow(run_id, after)

    async def _follow_sent(self, run: Run) -> None:
        """Follow a run from its beginning; one that this socket follows already is only acknowledged again."""
        if run.id in self._feeds:
            self._reply(
                type="accepted",
                run_id=run.id,
                conversation_id=run.conversation_id,
                seq=1,
                message_id=run.user_message_id,
                queued=run.was_queued,
            )
            return
        await self._follow(run.id, 0)

    async def _follow(self, run_id: str, after: int) -> None:
        feed = await self._runs.attach(self._user, run_id, after, self._more.set)
        if (earlier := self._feeds.pop(run_id, None)) is not None:
            earlier.close()
        self._feeds[run_id] = feed
        self._more.set()

    # --- out

    def _reply(self, **fields: Any) -> None:
        self._replies.append(to_json(fields))
        self._more.set()

    def _error(self, error: AtelierError, in_reply_to: str | None) -> None:
        reply = {"in_reply_to": in_reply_to} if in_reply_to else {}
        wait = {"retry_after": int(error.retry_after) + 1} if error.retry_after is not None else {}
        self._reply(type="error", **error.to_wire(), **wait, **reply)

    async def _send_all(self) -> None:
        """Send what there is, in order, and wait for more; give a client up that takes nothing."""
        try:
            while True:
                await self._more.wait()
                self._more.clear()
                while self._replies or self._feeds:
                    sent = await self._send_replies()
                    for run_id, feed in list(self._feeds.items()):
                        sent += await self._send_events(run_id, feed)
                    if not sent:
                        break
                if self._is_draining and not (self._feeds or self._replies or self._is_handling):
                    await self.close(GOING_AWAY)
        except TimeoutError:
            logger.info("a client takes nothing any more and is let go")
            await self.close(SLOW_READER)
        except EventsGone:
            await self.close(SLOW_READER)
        except (RuntimeError, OSError) as error:
            logger.debug("a socket ended while it was sent to: %s", error)
        except Exception:
            logger.exception("a socket cannot be sent to any more and is closed")
            await self.close(BROKEN)

    async def _send_replies(self) -> int:
        sent = 0
        while self._replies:
            async with asyncio.timeout(SEND_SECONDS):
                await self._send({"type": "websocket.send", "text": self._replies.popleft()})
            sent += 1
        return sent

    async def _send_events(self, run_id: str, feed: IRunFeed) -> int:
        events = feed.read(BATCH)
        if events:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(SEND_SECONDS) as patience:
                for event in events:
                    await self._send({"type": "websocket.send", "text": event.json})
                    patience.reschedule(loop.time() + SEND_SECONDS)
        if feed.ended and self._feeds.get(run_id) is feed:
            del self._feeds[run_id]
            feed.close()
        return len(events)
