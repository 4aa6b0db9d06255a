"""Kills and cuts at random moments: whatever dies on the way, every run comes to its end and nothing is lost or doubled.

`make test` kills the service 50 times; TORTURE=200 (as `make torture` sets it) does so 200 times.
"""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from app.adapters.outbound.persistence.mongo import open_mongo
from app.adapters.outbound.persistence.sqlite import open_sqlite
from app.core.domain.ids import new_id
from app.core.ports import Store
from app.core.services.checker import check_all
from tests.client import Service
from tests.e2e.conftest import Command
from tests.upstream import Answer, Upstream

KILLS = int(os.environ.get("TORTURE", "50"))
SEED = int(os.environ.get("TORTURE_SEED", "0")) or random.SystemRandom().randrange(2**32)
CLIENTS = 4
CUTS = 60
CONVERSATIONS = 100
TOKEN = "crash-token"


class Model(Upstream):
    """A model whose answer depends on the request alone, and which refuses what no provider would take."""

    def __init__(self) -> None:
        super().__init__()
        self.illegal: list[str] = []

    async def answer(self, answer: Answer) -> None:
        messages = answer.body["messages"]
        self.illegal += _illegal(messages)
        if messages[-1]["role"] == "tool":
            await self._say(answer, "The results are in. " * 3)
            return
        question = messages[-1]["content"]
        add = {"a": 1, "b": 2}
        calls = {
            "tools": [("add", add), ("multiply", add), ("divide", {"a": 1, "b": 0})],
            "client": [("draw", {}), ("add", add)],
        }
        kind = question.split()[0]
        if kind in calls:
            await answer.delta(content="Let me see. ")
            numbered = enumerate(calls[kind])
            await answer.call(
                *((f"call_{new_id()}", name, orjson.dumps(args).decode()) for _, (name, args) in numbered)
            )
        else:
            await self._say(answer, f"You asked: {question}. " * 4)

    async def _say(self, answer: Answer, text: str) -> None:
        for word in text.split(" "):
            await answer.delta(content=word + " ")
            await asyncio.sleep(0.004)  # the pace of a model
        await answer.done()


def _illegal(messages: list[dict[str, Any]]) -> list[str]:
    open_: set[str] = set()
    found: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_:
                found.append("a result without its call")
            open_.discard(message["tool_call_id"])
            continue
        if open_:
            found.append("a call without its result")
        open_ = {call["id"] for call in message.get("tool_calls") or ()}
    return found + (["an open call at the end"] if open_ else [])


class Moment:
    """A moment in the middle of turns: when so many events have reached the clients."""

    def __init__(self) -> None:
        self._left = 0
        self._come = asyncio.Event()

    def count(self) -> None:
        self._left -= 1
        if self._left <= 0:
            self._come.set()

    async def after(self, events: int, talking: list[asyncio.Task[None]]) -> None:
        self._left = events
        self._come.clear()
        coming = asyncio.create_task(self._come.wait())
        done, _ = await asyncio.wait([coming, *talking], timeout=60, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        assert coming in done, "nothing happens any more"


class Client:
    """Talks in one conversation, comes back whenever it was cut off, and remembers what it was told."""

    def __init__(self, services: list[Service], number: int, moment: Moment) -> None:
        self.services = services
        self.moment = moment
        self.chance = random.Random(f"{SEED}/{number}")
        self.conversation_id: str | None = None
        self.acknowledged: dict[str, str] = {}
        self.text: dict[str, str] = {}
        self.stored: dict[str, Any] = {}
        self.ends: dict[str, list[str]] = {}
        self.connection: ClientConnection | None = None

    async def talk(self, until: Callable[[], bool]) -> None:
        while not until():
            kind = self.chance.choice(["text", "text", "tools", "client"])
            await self._turn(f"{kind} {self.chance.randrange(1_000)}")

    async def _turn(self, content: str) -> None:
        frame: dict[str, Any] = {
            "type": "message",
            "content": content,
            "message_id": new_id(),
            "client_tools": ["draw"],
        }
        if self.conversation_id:
            frame["conversation_id"] = self.conversation_id
        turn = _Turn(self, frame)
        while not turn.over:
            try:
                headers = {"Authorization": f"Bearer {TOKEN}"}
                service = self.chance.choice(self.services)
                async with connect(service.ws_url, additional_headers=headers, max_size=None) as self.connection:
                    await self.connection.recv()
                    await turn.go_on(self.connection)
            except TimeoutError as error:
                raise AssertionError(f"run {turn.run_id} tells nothing after {turn.seen}") from error
            except (OSError, ConnectionClosed, InvalidHandshake, EOFError):
                await asyncio.sleep(0.02)  # the service is on its way back


class _Turn:
    """One message and what came of it, over as many connections as it takes."""

    def __init__(self, client: Client, frame: dict[str, Any]) -> None:
        self.client = client
        self.frame = frame
        self.run_id: str | None = None
        self.seen = 0
        self.open: set[str] = set()
        self.over = False

    async def go_on(self, connection: ClientConnection) -> None:
        if self.run_id is None:
            await self._send(connection, self.frame)
        else:
            await self._send(connection, {"type": "attach", "run_id": self.run_id, "after": self.seen})
            for call_id in self.open:
                await self._draw(connection, call_id)
        while not self.over:
            async with asyncio.timeout(30):
                event = orjson.loads(await connection.recv())
            if event.get("run_id") is None:
                if self.run_id is None:
                    self.client.conversation_id = self.client.conversation_id or None
                    raise OSError(event["message"])
                continue
            await self._take(connection, event)

    async def _take(self, connection: ClientConnection, event: dict[str, Any]) -> None:
        client, kind = self.client, event["type"]
        assert event["seq"] == self.seen + 1 or (kind == "reset" and event["seq"] > self.seen), (event, self.seen)
        self.run_id, self.seen = event["run_id"], event["seq"]
        client.conversation_id = event["conversation_id"]
        client.moment.count()
        match kind:
            case "accepted":
                client.acknowledged[event["message_id"]] = self.frame["content"]
            case "token":
                client.text[event["message_id"]] = client.text.get(event["message_id"], "") + event["content"]
            case "reset":
                client.text.pop(event["message_id"], None)
            case "message":
                client.stored[event["message"]["id"]] = event["message"]
            case "tool_call" if event["executor"] == "client":
                self.open.add(event["tool_call_id"])
                await self._draw(connection, event["tool_call_id"])
            case "tool_result":
                self.open.discard(event["tool_call_id"])
            case "complete" | "error" | "cancelled":
                client.ends.setdefault(event["run_id"], []).append(kind)
                self.over = True
            case _:
                pass

    async def _draw(self, connection: ClientConnection, call_id: str) -> None:
        result = {"type": "tool_result", "run_id": self.run_id, "tool_call_id": call_id, "result": {"drawn": call_id}}
        await self._send(connection, result)

    async def _send(self, connection: ClientConnection, frame: dict[str, Any]) -> None:
        await connection.send(orjson.dumps(frame).decode())


async def verify(clients: list[Client], model: Model, store: Store) -> None:
    """What was promised to the clients is what lies in the store."""
    assert model.illegal == []
    try:
        assert [violation async for violation in check_all(store)] == []
        for client in clients:
            assert client.conversation_id
            messages = await store.messages.get_by_conversation_id(client.conversation_id)
            by_id = {message.id: message for message in messages}
            asked = [message.id for message in messages if message.role == "user"]
            assert asked == list(client.acknowledged)
            assert all(by_id[key].content == content for key, content in client.acknowledged.items())
            for message_id, text in client.text.items():
                assert by_id[message_id].text == text
            for message_id, told in client.stored.items():
                assert orjson.loads(orjson.dumps(by_id[message_id].to_wire(), option=orjson.OPT_UTC_Z)) == told
            for run_id, ends in client.ends.items():
                run = await store.runs.get(run_id, "local")
                assert run is not None
                assert (ends, run.status) == (["complete"], "completed"), run.error
            results = [m.content for m in messages if m.role == "tool" and m.metadata["name"] == "draw"]
            assert all(result.startswith('{"drawn":') for result in map(str, results))
    finally:
        await store.close()


def start(serve: Callable[..., Command], model: Model, port: str = "0", **more: str) -> tuple[Command, Service]:
    settings = {"ATELIER_TOKEN": TOKEN, "OPENAI_BASE_URL": model.url, "DEFAULT_MODEL": "openai@scripted", **more}
    command = serve("--port", port, **settings)
    return command, command.ready()


@pytest.fixture
async def model() -> Any:
    server = Model()
    server.default = server.answer
    await server.start()
    yield server
    await server.stop()


@pytest.mark.timeout(1_200)
async def test_a_service_that_is_killed_at_random_moments_keeps_every_promise(
    serve: Callable[..., Command], model: Model, tmp_path: Path
):
    print(f"TORTURE_SEED={SEED}")
    chance = random.Random(SEED)
    command, service = start(serve, model)
    port = service.url.rpartition(":")[2]
    done = asyncio.Event()
    moment = Moment()
    clients = [Client([service], number, moment) for number in range(CLIENTS)]
    talking = [asyncio.create_task(client.talk(done.is_set)) for client in clients]
    for _ in range(KILLS):
        if chance.random() < 0.9:
            await moment.after(chance.randrange(1, 150), talking)
        await asyncio.sleep(chance.uniform(0.0, 0.01))  # not only right behind an event
        command.stop(signal.SIGKILL)
        command, _ = await asyncio.to_thread(start, serve, model, port)
    done.set()
    await asyncio.gather(*talking)
    command.stop()
    await verify(clients, model, open_sqlite(tmp_path / "data"))
    assert sum(len(client.acknowledged) for client in clients) >= KILLS / 2


@pytest.mark.timeout(300)
async def test_clients_that_are_cut_off_at_random_moments_miss_nothing(
    serve: Callable[..., Command], model: Model, tmp_path: Path
):
    print(f"TORTURE_SEED={SEED}")
    chance = random.Random(SEED)
    command, service = start(serve, model)
    done = asyncio.Event()
    moment = Moment()
    clients = [Client([service], number, moment) for number in range(CLIENTS)]
    talking = [asyncio.create_task(client.talk(done.is_set)) for client in clients]
    for _ in range(CUTS):
        await moment.after(chance.randrange(1, 40), talking)
        connection = chance.choice(clients).connection
        if connection is not None:
            with contextlib.suppress(AttributeError):
                connection.transport.abort()
    done.set()
    await asyncio.gather(*talking)
    command.stop()
    await verify(clients, model, open_sqlite(tmp_path / "data"))


@pytest.mark.timeout(300)
async def test_two_servers_serve_a_hundred_conversations_and_one_of_them_dies(
    serve: Callable[..., Command], model: Model, mongodb_url: str, redis_url: str
):
    shared = {
        "MONGODB_URL": mongodb_url,
        "MONGODB_DATABASE": f"test_{uuid4().hex}",
        "REDIS_URL": redis_url,
        "LEASE_SECONDS": "5",
    }
    (first, one), (_, two) = start(serve, model, **shared), start(serve, model, **shared)
    moment, turns = Moment(), 2
    services = [one, two]
    clients = [Client(services, number, moment) for number in range(CONVERSATIONS)]
    at_once = asyncio.Semaphore(12)

    async def talk(client: Client) -> None:
        async with at_once:
            await client.talk(lambda: len(client.ends) >= turns)

    talking = [asyncio.create_task(talk(client)) for client in clients]
    await moment.after(CONVERSATIONS * 20, [])
    first.stop(signal.SIGKILL)
    services.remove(one)
    await asyncio.gather(*talking)
    await verify(clients, model, await open_mongo(mongodb_url, shared["MONGODB_DATABASE"], driver="motor"))
