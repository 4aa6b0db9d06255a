"""Faults: what a turn meets on its way fails, and the run still comes to an end that is true to what is stored."""

import asyncio
import json
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.errors import AutoReconnect

from app.adapters.outbound.persistence.mongo import open_mongo
from app.adapters.outbound.persistence.sqlite import database as sqlite_database
from app.core.domain.time import utc_now
from app.core.services import driver as driver_module
from app.core.services.checker import check
from tests.client import Service, Socket
from tests.integration.conftest import Start, serve, settings_for
from tests.servers import free_port, mongo_server
from tests.upstream import Answer, Upstream

ADD = ("call_1", "add", '{"a": 1, "b": 1}')


async def hang(answer: Answer) -> None:
    await answer.delta(content="Once")
    await asyncio.Event().wait()


async def cut(answer: Answer) -> None:
    await answer.delta(content="Once")
    answer.cut()


FAULTS: dict[str, tuple[Callable[[Answer], Any], str]] = {
    "500": (lambda answer: answer.refuse(500), "provider_unavailable"),
    "429": (lambda answer: answer.refuse(429, None, **{"Retry-After": "1"}), "provider_rate_limited"),
    "hang": (hang, "provider_timeout"),
    "cut": (cut, "provider_unavailable"),
    "broken JSON": (lambda answer: answer.raw(b"data: {broken\n\n"), "provider_unavailable"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("after_a_tool", [False, True])
async def test_a_model_server_that_fails_ends_the_run_and_nothing_else(
    start: Start, upstream: Upstream, fault: str, after_a_tool: bool
):
    service = await start(provider_timeout=0.3)
    script, code = FAULTS[fault]
    if after_a_tool:
        upstream.calls(ADD)
    upstream.script(script)
    async with service.socket() as socket:
        frames = await socket.ask("Go")
        assert (frames[-1]["type"], frames[-1]["code"]) == ("error", code)
        assert frames[-1]["retryable"] is True
        again = await socket.ask("Again", conversation_id=frames[0]["conversation_id"])
    assert again[-1]["type"] == "complete"


async def test_a_database_server_that_is_away_for_a_while_loses_nothing(
    start: Start, upstream: Upstream, tmp_path: Path
):
    port = free_port()
    folder = tmp_path / "mongo"
    folder.mkdir()
    gate = asyncio.Event()

    async def slow(answer: Answer) -> None:
        await answer.delta(content="One ")
        await gate.wait()
        await answer.say("two.")

    upstream.script(slow)
    with mongo_server(folder, port) as url:
        database = f"test_{uuid4().hex}"
        service = await start(mongodb_url=url, mongodb_database=database, checked=False)
        async with service.socket() as socket:
            await socket.send(type="message", content="Hello")
            seen = await socket.until("token")
    gate.set()
    with mongo_server(folder, port):
        async with service.socket() as socket:
            await socket.send(type="attach", run_id=seen["run_id"])
            await socket.until("complete")
            again = await socket.ask("Again", conversation_id=seen["conversation_id"])
            assert again[-1]["type"] == "complete"
        contents = [m["content"] for m in await service.history(seen["conversation_id"])]
        assert contents == ["Hello", "One two.", "Again", "You said: Again"]
        await service.stop()
        store = await open_mongo(url, database, driver="motor")
        assert await check(store, seen["conversation_id"], "local") == []
        await store.close()


class Saboteur:
    """Lets the operation with a certain number fail, before it does anything or after it was done."""

    def __init__(self, number: int, *, afterwards: bool) -> None:
        self.left = number
        self.afterwards = afterwards

    @property
    def strikes(self) -> bool:
        self.left -= 1
        return self.left == 0


async def one_turn_with_a_tool(service: Service, upstream: Upstream) -> bool:
    """Ask, whatever happens; whether the message was acknowledged."""
    upstream.scripts.clear()
    upstream.calls(ADD)
    upstream.says("Two.")
    async with service.socket() as socket:
        await socket.send(type="message", content="What is 1 + 1?")
        first = await socket.until("accepted", "error")
        if first["type"] == "accepted":
            await socket.until("complete", "error")
        return first["type"] == "accepted"


async def test_any_write_to_sqlite_may_fail(start: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch):
    service = await start()
    attempt = sqlite_database._attempt
    saboteur = Saboteur(0, afterwards=False)

    def sabotaged(connection: sqlite3.Connection, task: Any) -> None:
        if saboteur.strikes:

            def fail(connection: sqlite3.Connection) -> None:
                raise sqlite3.OperationalError("disk I/O error")

            task.job = fail
        attempt(connection, task)

    monkeypatch.setattr(sqlite_database, "_attempt", sabotaged)
    await sweep(service, upstream, saboteur, monkeypatch)


@pytest.mark.parametrize("afterwards", [False, True])
async def test_any_call_to_mongodb_may_fail_or_lose_its_answer(
    start: Start, upstream: Upstream, mongodb_url: str, monkeypatch: pytest.MonkeyPatch, afterwards: bool
):
    service = await start(mongodb_url=mongodb_url, mongodb_database=f"test_{uuid4().hex}", mongodb_driver="pymongo")
    saboteur = Saboteur(0, afterwards=afterwards)
    collections = service.app.state.services.store.messages._collections
    for name in ("conversations", "messages", "runs"):
        setattr(collections, name, _Sabotaged(getattr(collections, name), saboteur))
    await sweep(service, upstream, saboteur, monkeypatch)


class _Sabotaged:
    """A collection whose writes and single reads may fail."""

    def __init__(self, collection: Any, saboteur: Saboteur) -> None:
        self._collection = collection
        self._saboteur = saboteur

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._collection, name)
        if not asyncio.iscoroutinefunction(method):
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            strikes = self._saboteur.strikes
            if strikes and not self._saboteur.afterwards:
                raise AutoReconnect("sabotage")
            result = await method(*args, **kwargs)
            if strikes:
                raise AutoReconnect("the answer was lost")
            return result

        return call


async def sweep(service: Service, upstream: Upstream, saboteur: Saboteur, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let operation 1, 2, 3 … fail until a turn passes untouched; afterwards everything that was promised holds."""
    store = service.app.state.services.store
    number = 0
    while True:
        number += 1
        saboteur.left = number
        acknowledged = await one_turn_with_a_tool(service, upstream)
        untouched = saboteur.left > 0
        saboteur.left = 0
        with monkeypatch.context() as later:
            later.setattr(driver_module, "utc_now", lambda: utc_now() + timedelta(hours=1))
            await service.app.state.services.runs._driver.look_for_lost_runs()
        for conversation_id, user_id in await store.conversations.ids(limit=1_000):
            await settle(service, conversation_id)
            assert await check(store, conversation_id, user_id) == [], number
        if untouched:
            break
    assert acknowledged
    assert number > 3


async def settle(service: Service, conversation_id: str) -> None:
    """Wait until nothing runs in a conversation."""
    active = (await service.get(f"/api/conversations/{conversation_id}"))["active_run_id"]
    if active:
        async with service.socket() as socket:
            await socket.send(type="attach", run_id=active)
            await socket.until("complete", "error", "cancelled")


words = st.sampled_from(["One", "Two", "Three"])
clients = st.integers(0, 2)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("message"), clients, words, st.sampled_from(["reject", "queue", "interrupt"])),
        st.tuples(st.just("again"), clients),
        st.tuples(st.just("cancel"), clients),
        st.tuples(st.just("attach"), clients, st.integers(0, 12)),
        st.tuples(st.just("edit"), clients, st.integers(0, 5), words),
        st.tuples(st.just("regenerate"), clients, st.integers(0, 5)),
        st.tuples(st.just("result"), clients, words),
        st.tuples(st.just("garbage"), clients, st.sampled_from(["{", "[]", '{"type": "x"}', '{"type": "message"}'])),
    ),
    min_size=1,
    max_size=12,
)


class ThreeClients:
    """Three sockets on one conversation, and what a client may rely on whatever the others do."""

    def __init__(self, service: Service, sockets: list[Socket], conversation_id: str) -> None:
        self.service = service
        self.sockets = sockets
        self.conversation_id = conversation_id
        self.sent: list[dict[str, Any]] = []
        self.runs: list[str] = []
        self.calls: list[dict[str, Any]] = []

    async def step(self, step: tuple[Any, ...], number: int) -> None:
        socket = self.sockets[step[1]]
        history = await self.service.history(self.conversation_id)
        frame: dict[str, Any] | None = None
        match step:
            case ("message", _, word, on_busy):
                frame = {"type": "message", "content": f"{word} {number}", "on_busy": on_busy, "client_tools": ["draw"]}
                frame |= {
                    "message_id": f"m-{self.conversation_id[-8:]}-{number}",
                    "conversation_id": self.conversation_id,
                }
                self.sent.append(frame)
            case ("again", _) if self.sent:
                frame = self.sent[-1]
            case ("cancel", _) if self.runs:
                frame = {"type": "cancel", "run_id": self.runs[-1]}
            case ("attach", _, after) if self.runs:
                frame = {"type": "attach", "run_id": self.runs[-1], "after": after}
            case ("edit", _, place, word) if history:
                chosen = history[place % len(history)]["id"]
                frame = {"type": "edit", "conversation_id": self.conversation_id, "message_id": chosen, "content": word}
            case ("regenerate", _, place) if history:
                chosen = history[place % len(history)]["id"]
                frame = {"type": "regenerate", "conversation_id": self.conversation_id, "message_id": chosen}
            case ("result", _, word) if self.calls:
                call = self.calls[-1]
                frame = {
                    "type": "tool_result",
                    "run_id": call["run_id"],
                    "tool_call_id": call["tool_call_id"],
                    "result": word,
                }
            case ("garbage", _, text):
                await socket.connection.send(text)
                assert (await self.until(socket, "error"))["code"] in ("invalid_frame", "unknown_type")
            case _:
                return
        if frame is not None:
            await socket.connection.send(json.dumps(frame))
            await socket.send(type="ping", id=number)
            await self.until(socket, "pong")

    async def until(self, socket: Socket, kind: str) -> dict[str, Any]:
        while True:
            frame = await socket.receive()
            if run_id := frame.get("run_id"):
                if run_id not in self.runs:
                    self.runs.append(run_id)
                if frame["type"] == "tool_call":
                    self.calls.append(frame)
            if frame["type"] == kind and (kind != "error" or "run_id" not in frame):
                return frame

    def check_events(self) -> None:
        """On each socket the events of a run rise without a gap, but where it attached anew."""
        for socket in self.sockets:
            seen: dict[str, dict[int, str]] = {}
            for frame in socket.frames:
                if "run_id" in frame:
                    told = seen.setdefault(frame["run_id"], {})
                    assert told.setdefault(frame["seq"], json.dumps(frame)) == json.dumps(frame)


@given(steps)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_random_frames_of_three_clients_break_no_promise(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any]
):
    upstream = Upstream()

    async def answer(script: Answer) -> None:
        if str(script.last["content"]).startswith("Two"):
            await script.call(("call_" + uuid4().hex, "draw", "{}"), ("call_" + uuid4().hex, "add", '{"a": 1, "b": 1}'))
        else:
            await script.say("You said: ", str(script.last["content"]))

    upstream.default = answer
    await upstream.start()
    try:
        async with serve(settings_for(tmp_path_factory.mktemp("three"), upstream)) as service:
            async with service.socket() as one, service.socket() as two, service.socket() as three:
                made = await one.ask("One")
                trio = ThreeClients(service, [one, two, three], made[0]["conversation_id"])
                trio.runs.append(made[0]["run_id"])
                store = service.app.state.services.store
                for number, step in enumerate(steps):
                    await trio.step(step, number)
                    assert await check(store, trio.conversation_id, "local") == []
                trio.check_events()
    finally:
        await upstream.stop()
