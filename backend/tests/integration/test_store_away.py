"""A store that is away in the middle of an answer: listeners are told so, and nothing final that is not stored."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.core.domain.errors import StorageRefused, StorageUnavailable
from app.core.domain.event import ENDS
from app.core.domain.user import User
from app.core.services import turn as turn_module
from app.core.services.listeners import Listeners
from tests.client import Service, Socket, kinds, text_of
from tests.integration.conftest import Start
from tests.upstream import Upstream, paused

NOTICES = ("waiting_for_storage", "suspended")
Refuse = Callable[[], Awaitable[None]]


class Switch:
    """Lets the commits of a service fail, or hang, as long as it is thrown."""

    def __init__(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        self._runs = service.app.state.services.store.runs
        self._commit = self._runs.commit
        self.refuse: Refuse | None = None
        self.refused = asyncio.Event()
        monkeypatch.setattr(self._runs, "commit", self.commit)

    async def commit(self, step: Any) -> bool:
        if self.refuse is not None:
            self.refused.set()
            await self.refuse()
        return await self._commit(step)


async def away() -> None:
    raise StorageUnavailable("The database cannot be reached.")


async def full() -> None:
    raise StorageRefused("The disk is full.")


async def hang() -> None:
    await asyncio.Event().wait()


async def ask_and_lose(socket: Socket, upstream: Upstream, switch: Switch, refuse: Refuse) -> dict[str, Any]:
    """Ask, and let the store go away once the first piece of the answer has arrived; the last notice."""
    upstream.script(paused(gate := asyncio.Event()))
    await socket.send(type="message", content="Hello")
    await socket.until("token")
    switch.refuse = refuse
    gate.set()
    return await socket.until("waiting_for_storage")


def numbered(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [frame for frame in frames if "seq" in frame]


async def test_a_store_that_comes_back_in_time_is_waited_for(
    start: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
):
    service = await start()
    switch = Switch(service, monkeypatch)
    async with service.socket() as socket:
        notice = await ask_and_lose(socket, upstream, switch, away)
        assert "seq" not in notice
        assert notice["message"] == "The database cannot be reached."
        switch.refuse = None
        await socket.until("complete")
        told = numbered(socket.frames[1:])
        assert [frame["seq"] for frame in told] == list(range(1, len(told) + 1))
        assert kinds(told) == ["accepted", "started", "message", "token", "message", "complete"]
        assert len(upstream.requests) == 1
        await socket.send(type="attach", run_id=notice["run_id"])
        again = await socket.until("complete")
    assert not [frame for frame in socket.frames[socket.frames.index(told[-1]) + 1 :] if frame["type"] in NOTICES]
    assert again == told[-1]


@pytest.mark.parametrize("refuse", [away, hang, full])
async def test_a_run_is_suspended_when_patience_ends_and_resumed_later(
    start: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, refuse: Refuse
):
    monkeypatch.setattr(turn_module, "QUIET_SECONDS", 0.05)
    monkeypatch.setattr(turn_module, "REFUSED_SECONDS", 0.3)
    service = await start(lease_seconds=1, store_patience_seconds=600 if refuse is full else 0.3)
    switch = Switch(service, monkeypatch)
    async with service.socket() as socket:
        notice = await ask_and_lose(socket, upstream, switch, refuse)
        suspended = await socket.until("suspended")
        assert (suspended["code"], suspended["retryable"]) == ("storage_unavailable", True)
        assert not any(frame["type"] in ENDS for frame in socket.frames)
        stored = await service.app.state.services.store.runs.get(notice["run_id"], "local")
        assert stored.status == "running"
        upstream.says("Hello ", "again")
        switch.refuse = None
        await socket.until("complete")
        frames = numbered(socket.frames[1:])
        reset = next(frame for frame in frames if frame["type"] == "reset")
        assert text_of([frame for frame in frames if frame["seq"] > reset["seq"]]) == "Hello again"
        assert [frame["type"] for frame in frames if frame["type"] in ENDS] == ["complete"]
    history = await service.history(notice["conversation_id"])
    assert [message["content"] for message in history] == ["Hello", "Hello again"]


async def test_a_run_that_was_stopped_while_the_store_was_away_ends_as_cancelled(
    start: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
):
    service = await start(lease_seconds=1, store_patience_seconds=0.3)
    switch = Switch(service, monkeypatch)
    async with service.socket() as socket:
        upstream.script(paused(asyncio.Event()))
        await socket.send(type="message", content="Hello")
        seen = await socket.until("token")
        switch.refuse = away
        await socket.send(type="cancel", run_id=seen["run_id"])
        await socket.until("suspended")
        switch.refuse = None
        await socket.until("cancelled")
    assert len(upstream.requests) == 1
    assert (await service.get(f"/api/runs/{seen['run_id']}"))["status"] == "cancelled"


async def test_a_step_that_was_stored_after_all_releases_its_listeners(
    start: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(turn_module, "QUIET_SECONDS", 0.05)
    service = await start(lease_seconds=1, store_patience_seconds=0.1)
    runs = service.app.state.services.store.runs
    commit = runs.commit
    late: list[asyncio.Task[bool]] = []

    async def stores_and_never_says_so(step: Any) -> bool:
        late.append(asyncio.create_task(commit(step)))
        await asyncio.Event().wait()
        return False

    async with service.socket() as socket:
        upstream.script(paused(gate := asyncio.Event()))
        await socket.send(type="message", content="Hello")
        seen = await socket.until("token")
        monkeypatch.setattr(runs, "commit", stores_and_never_says_so)
        gate.set()
        await socket.until("suspended")
        monkeypatch.setattr(runs, "commit", commit)
        assert await socket.closed() == 4408
    async with service.socket() as socket:
        await socket.send(type="attach", run_id=seen["run_id"])
        await socket.until("complete")
    assert len(late) == 1
    assert text_of(socket.frames) == "One two."


async def lose_the_store(
    service: Service, upstream: Upstream, switch: Switch, ask: Callable[[], Awaitable[Any]]
) -> Any:
    """What `ask` gives when the store goes away in the middle of its answer."""
    upstream.script(paused(gate := asyncio.Event()))
    asking = asyncio.ensure_future(ask())
    while not upstream.requests:
        await asyncio.sleep(0)
    switch.refuse = away
    gate.set()
    return await asking


async def test_every_wire_tells_of_it_in_its_own_way(start: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch):
    service = await start(store_patience_seconds=0.2)
    switch = Switch(service, monkeypatch)
    body = {"id": "chat-1", "messages": [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}]}
    async with service.http() as http:
        made = (await http.post("/api/conversations", json={})).json()["id"]
        ai_sdk = await lose_the_store(service, upstream, switch, lambda: http.post("/api/chat", json=body))
        switch.refuse = None
        upstream.requests.clear()
        rest = await lose_the_store(
            service,
            upstream,
            switch,
            lambda: http.post(f"/api/conversations/{made}/messages", json={"content": "Hi"}),
        )
        run_id = rest.json()["run_id"]
        switch.refuse = None
        upstream.requests.clear()
        request = {
            "model": "atelier",
            "messages": [{"role": "user", "content": "Hi"}],
            "metadata": {"conversation_id": "agent-1"},
        }
        openai = await lose_the_store(
            service, upstream, switch, lambda: http.post("/v1/chat/completions", json=request)
        )
        events = await http.get(f"/api/runs/{run_id}/events", params={"after": 4})
    chunks = [json.loads(line[6:]) for line in ai_sdk.text.splitlines() if line.startswith("data: {")]
    storage = [chunk for chunk in chunks if chunk["type"] == "data-storage"]
    assert [chunk["data"]["state"] for chunk in storage] == list(NOTICES)
    assert all(chunk["transient"] for chunk in storage)
    assert not {"finish", "error", "abort"} & {chunk["type"] for chunk in chunks}
    assert (rest.status_code, rest.json()["code"]) == (503, "storage_unavailable")
    assert openai.status_code == 503
    lines = [line for line in events.text.splitlines() if line.startswith(("id:", "data:"))]
    assert '"type":"suspended"' in lines[-1]
    assert not lines[-2:][0].startswith("id:") or len(lines) == 1


async def test_a_listener_survives_a_store_that_is_away(
    start: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
):
    service = await start()
    listeners: Listeners = service.app.state.services.runs._listeners

    async def unreachable(*_: Any) -> Any:
        raise StorageUnavailable("The database cannot be reached.")

    monkeypatch.setattr(listeners, "stored", unreachable)
    assert await listeners._waits(User(id="anybody", name=""), "any") is False
