"""Kills and cuts at random moments: whatever dies on the way, every run comes to its end and nothing is lost or doubled.

`make test` kills each kind of service a few times; TORTURE=200 (as `make torture` sets it) does so 200 times.
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

KILLS = int(os.environ.get("TORTURE", "0"))
FEW_KILLS = {"sqlite": 20, "mongodb": 8, "two servers": 8}
SEED = int(os.environ.get("TORTURE_SEED", "0")) or random.SystemRandom().randrange(2**32)
CLIENTS = 4
CUTS = 60
CONVERSATIONS = 100
BEHIND = 0.3
"""How often a second message is sent while the first is still being answered."""

SILENCE = 60.0
ENDINGS = [
    (["complete"], "completed"),
    (["interrupted"], "failed"),  # it was taken over again and again before it could store a step
]
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
        self.turns = self.behind = self.returns = self.resets = 0

    async def talk(self, until: Callable[[], bool]) -> None:
        while not until():
            asked = [self._ask()]
            if self.chance.random() < BEHIND:
                asked.append(self._ask())
                self.behind += 1
            self.turns += len(asked)
            await self._listen(asked)

    def _ask(self) -> "_Turn":
        kind = self.chance.choice(["text", "text", "tools", "client"])
        return _Turn(self, f"{kind} {self.chance.randrange(1_000)}")

    async def _listen(self, turns: "list[_Turn]") -> None:
        """Follow messages that were sent one behind the other, over as many connections as it takes."""
        while not all(turn.over for turn in turns):
            try:
                headers = {"Authorization": f"Bearer {TOKEN}"}
                service = self.chance.choice(self.services)
                # A service that is starting has bound its port already, and answers once it is ready.
                opening = connect(service.ws_url, additional_headers=headers, max_size=None, open_timeout=SILENCE)
                async with opening as self.connection:
                    await self.connection.recv()
                    await self._follow(self.connection, turns)
            except TimeoutError as error:
                raise AssertionError([(turn.run_id, turn.seen) for turn in turns if not turn.over]) from error
            except (OSError, ConnectionClosed, InvalidHandshake, EOFError):
                self.returns += 1
                await asyncio.sleep(0.02)  # the service is on its way back

    async def _follow(self, connection: ClientConnection, turns: "list[_Turn]") -> None:
        for turn in turns:
            turn.is_sent = False
        while pending := [turn for turn in turns if not turn.over]:
            for turn in pending:
                # One message after the other: the second is sent once the first is acknowledged.
                if not turn.is_sent and (turn is pending[0] or pending[0].run_id is not None):
                    await turn.send(connection)
            async with asyncio.timeout(SILENCE):
                event = orjson.loads(await connection.recv())
            if event.get("run_id") is None:
                if any(turn.run_id is None for turn in pending):
                    raise OSError(event["message"])
                continue
            if "seq" in event:
                turn = next((turn for turn in turns if turn.concerns(event)), None)
                if turn is not None and not turn.over:
                    await turn.take(connection, event)


class _Turn:
    """One message and what came of it."""

    def __init__(self, client: Client, content: str) -> None:
        self.client = client
        self.content = content
        self.message_id = new_id()
        self.run_id: str | None = None
        self.seen = 0
        self.open: set[str] = set()
        self.is_sent = False
        self.over = False

    def concerns(self, event: dict[str, Any]) -> bool:
        return event["run_id"] == self.run_id or event.get("message_id") == self.message_id

    async def send(self, connection: ClientConnection) -> None:
        """Send the message, or, once it was acknowledged, ask for what was missed."""
        self.is_sent = True
        if self.run_id is not None:
            await self._send(connection, type="attach", run_id=self.run_id, after=self.seen)
            for call_id in self.open:
                await self._draw(connection, call_id)
            return
        place = {"conversation_id": self.client.conversation_id} if self.client.conversation_id else {}
        message = {"content": self.content, "message_id": self.message_id, "client_tools": ["draw"]}
        await self._send(connection, type="message", **message, **place)

    async def take(self, connection: ClientConnection, event: dict[str, Any]) -> None:
        client, kind = self.client, event["type"]
        if kind == "accepted" and self.seen:
            return  # it was sent again, and is acknowledged again
        assert event["seq"] == self.seen + 1 or (kind == "reset" and event["seq"] > self.seen), (event, self.seen)
        self.run_id, self.seen = event["run_id"], event["seq"]
        client.conversation_id = event["conversation_id"]
        client.moment.count()
        match kind:
            case "accepted":
                client.acknowledged[event["message_id"]] = self.content
            case "token":
                client.text[event["message_id"]] = client.text.get(event["message_id"], "") + event["content"]
            case "reset":
                client.resets += 1
                client.text.pop(event["message_id"], None)
            case "message":
                client.stored[event["message"]["id"]] = event["message"]
            case "tool_call" if event["executor"] == "client":
                self.open.add(event["tool_call_id"])
                await self._draw(connection, event["tool_call_id"])
            case "tool_result":
                self.open.discard(event["tool_call_id"])
            case "complete" | "error" | "cancelled":
                client.ends.setdefault(event["run_id"], []).append(str(event.get("code", kind)))
                self.over = True
            case _:
                pass

    async def _draw(self, connection: ClientConnection, call_id: str) -> None:
        fields = {"run_id": self.run_id, "tool_call_id": call_id, "result": {"drawn": call_id}}
        await self._send(connection, type="tool_result", **fields)

    async def _send(self, connection: ClientConnection, **frame: Any) -> None:
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
                assert (ends, run.status) in ENDINGS, (ends, run)
            assert len(client.ends) == len(client.acknowledged)
            results = [m.content for m in messages if m.role == "tool" and m.metadata["name"] == "draw"]
            was_given_up = ["interrupted"] in client.ends.values()
            assert was_given_up or all(result.startswith('{"drawn":') for result in map(str, results))
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


def shared_store(mode: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """The settings of a kind of service: where it keeps what it is told."""
    if mode == "sqlite":
        return {}
    database = {"MONGODB_DATABASE": f"test_{uuid4().hex}", "LEASE_SECONDS": "2"}
    store = {"MONGODB_URL": request.getfixturevalue("mongodb_url"), **database}
    return store if mode == "mongodb" else {**store, "REDIS_URL": request.getfixturevalue("redis_url")}


async def open_shared(settings: dict[str, str], folder: Path) -> Store:
    if "MONGODB_URL" in settings:
        return await open_mongo(settings["MONGODB_URL"], settings["MONGODB_DATABASE"], driver="motor")
    return open_sqlite(folder)


@pytest.mark.timeout(300 + 30 * KILLS)
@pytest.mark.parametrize("mode", ["sqlite", "mongodb", "two servers"])
async def test_a_service_that_is_killed_at_random_moments_keeps_every_promise(
    serve: Callable[..., Command],
    model: Model,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
    mode: str,
):
    print(f"TORTURE_SEED={SEED}")
    chance = random.Random(SEED)
    settings = shared_store(mode, request)
    kills = KILLS or FEW_KILLS[mode]
    running = [start(serve, model, **settings) for _ in range(2 if mode == "two servers" else 1)]
    commands, services = [command for command, _ in running], [service for _, service in running]
    done = asyncio.Event()
    moment = Moment()
    clients = [Client(services, number, moment) for number in range(CLIENTS)]
    talking = [asyncio.create_task(client.talk(done.is_set)) for client in clients]
    for _ in range(kills):
        if chance.random() < 0.9:
            await moment.after(chance.randrange(1, 150), talking)
        await asyncio.sleep(chance.uniform(0.0, 0.01))  # not only right behind an event
        victim = chance.randrange(len(commands))
        commands[victim].stop(signal.SIGKILL)
        port = services[victim].url.rpartition(":")[2]
        commands[victim], _ = await asyncio.to_thread(start, serve, model, port, **settings)
    done.set()
    await asyncio.gather(*talking)
    for command in commands:
        command.stop()
    await verify(clients, model, await open_shared(settings, tmp_path / "data"))
    ends = [end for client in clients for [end] in client.ends.values()]
    figures = {
        "kills": kills,
        "turns": sum(client.turns for client in clients),
        "sent behind another": sum(client.behind for client in clients),
        "complete": ends.count("complete"),
        "given up": ends.count("interrupted"),
        "reconnects": sum(client.returns for client in clients),
        "resets": sum(client.resets for client in clients),
    }
    said = ", ".join(f"{value} {name}" for name, value in figures.items())
    record_property("figures", f"torture, {mode}, seed {SEED}: {said}, 0 violations")
    assert len(ends) >= kills / 4


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
