"""Two servers on one MongoDB and one Redis serve one conversation as one."""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from app.adapters.outbound.run_log.redis import COMMANDS, MALFORMED, RedisRunLog
from app.core.domain.errors import StorageUnavailable
from app.core.domain.event import RunEvent
from tests.client import Service, Socket, kinds, text_of
from tests.integration.conftest import Start
from tests.servers import free_port, redis_server
from tests.upstream import Upstream, paused


@pytest.fixture
async def pair(start: Start, mongodb_url: str, redis_url: str) -> tuple[Service, Service]:
    shared = {"mongodb_url": mongodb_url, "mongodb_database": f"test_{uuid4().hex}", "redis_url": redis_url}
    return await start(**shared), await start(**shared)


async def attach(socket: Socket, run_id: str, after: int = 0) -> None:
    await socket.send(type="attach", run_id=run_id, after=after)


async def test_a_run_of_one_is_followed_at_the_other(pair: tuple[Service, Service], upstream: Upstream):
    one, two = pair
    upstream.script(paused(gate := asyncio.Event()))
    async with one.socket() as here, two.socket() as there:
        await here.send(type="message", content="Hello")
        seen = await here.until("token")
        await attach(there, seen["run_id"])
        await there.until("token")
        gate.set()
        await asyncio.gather(here.until("complete"), there.until("complete"))
        assert there.frames[1:] == here.frames[1:]
    assert await one.history(seen["conversation_id"]) == await two.history(seen["conversation_id"])


async def test_a_run_of_one_is_stopped_at_the_other(pair: tuple[Service, Service], upstream: Upstream):
    one, two = pair
    upstream.script(paused(asyncio.Event()))
    async with one.socket() as here, two.socket() as there:
        await here.send(type="message", content="Hello")
        seen = await here.until("token")
        await there.send(type="cancel", run_id=seen["run_id"])
        await asyncio.gather(here.until("cancelled"), there.until("cancelled"))
    assert (await two.get(f"/api/runs/{seen['run_id']}"))["status"] == "cancelled"


@pytest.mark.parametrize(
    "garbage", [b"{", b"[]", b"null", b'{"run_id": 1}', b"\xff", b'{"run_id": "x", "kind": "Unknown"}']
)
async def test_garbage_on_the_command_channel_is_skipped(
    pair: tuple[Service, Service], upstream: Upstream, redis_url: str, garbage: bytes
):
    one, two = pair
    upstream.script(paused(asyncio.Event()))
    client = Redis.from_url(redis_url)
    async with client, one.socket() as here, two.socket() as there:
        await here.send(type="message", content="Hello")
        seen = await here.until("token")
        assert await client.publish(COMMANDS, garbage) >= 2
        await there.send(type="cancel", run_id=seen["run_id"])
        await here.until("cancelled")


async def test_garbage_in_the_stream_of_a_run_loses_no_event(
    pair: tuple[Service, Service], upstream: Upstream, redis_url: str
):
    one, two = pair
    upstream.script(paused(gate := asyncio.Event()))
    client = Redis.from_url(redis_url)
    async with client, one.socket() as here, two.http() as http:
        await here.send(type="message", content="Hello")
        seen = await here.until("token")
        counted = MALFORMED._value.get()
        await client.xadd(f"atelier:run:{seen['run_id']}", {"x": "y"}, id=f"{seen['seq']}-5")
        async with http.stream("GET", f"/api/runs/{seen['run_id']}/events") as stream:
            lines = stream.aiter_lines()
            while MALFORMED._value.get() == counted:
                await anext(lines)
            gate.set()
            told = [line async for line in lines if line.startswith("data:")]
        await here.until("complete")
    assert '"type":"complete"' in told[-1]


async def test_messages_at_both_are_answered_one_at_a_time_and_in_order(
    pair: tuple[Service, Service], upstream: Upstream
):
    async with pair[0].socket() as socket:
        conversation_id = (await socket.ask("Hi"))[0]["conversation_id"]

    async def say(service: Service, number: int) -> None:
        async with service.socket() as socket:
            frames = await socket.ask(f"Message {number}", conversation_id=conversation_id, message_id=f"m-{number}")
            assert text_of(frames) == f"You said: Message {number}"
            assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))

    await asyncio.gather(*(say(pair[number % 2], number) for number in range(8)))
    history = await pair[1].history(conversation_id)
    assert [m["seq"] for m in history] == list(range(1, 19))
    for asked, answered in zip(history[::2], history[1::2], strict=True):
        assert answered["content"] == f"You said: {asked['content']}"


async def test_a_queued_run_can_be_stopped_at_the_other(pair: tuple[Service, Service], upstream: Upstream):
    one, two = pair
    upstream.script(paused(gate := asyncio.Event()))
    async with one.socket() as here, two.socket() as there:
        await here.send(type="message", content="First")
        seen = await here.until("token")
        await here.send(type="message", content="Second", conversation_id=seen["conversation_id"])
        queued = await here.until("accepted")
        await there.send(type="cancel", run_id=queued["run_id"])
        await asyncio.gather(here.until("cancelled"), there.until("cancelled"))
        gate.set()
        await here.until("complete")


async def test_an_answer_given_at_the_other_reaches_the_run(pair: tuple[Service, Service], upstream: Upstream):
    one, two = pair
    upstream.calls(("call_1", "draw", "{}"), ("call_2", "draw", "{}"))
    upstream.says("Done.")
    async with one.socket() as here, two.socket() as there:
        await here.send(type="message", content="Go", client_tools=["draw"])
        await here.until("tool_call")
        call = await here.until("tool_call")
        await attach(there, call["run_id"], call["seq"])
        await there.send(type="tool_result", run_id=call["run_id"], tool_call_id="call_1", result="at the other")
        await there.until("tool_result")
        await here.send(type="tool_result", run_id=call["run_id"], tool_call_id="call_2", result="here")
        await asyncio.gather(here.until("complete"), there.until("complete"))
        both = [[f for f in socket.frames[1:] if f.get("seq", 0) > call["seq"]] for socket in (here, there)]
    assert both[0] == both[1]
    assert kinds(both[0]).count("tool_result") == 2


async def test_a_server_that_goes_hands_its_runs_to_the_other(
    pair: tuple[Service, Service], upstream: Upstream, monkeypatch: pytest.MonkeyPatch
):
    one, two = pair
    upstream.script(paused(asyncio.Event()))
    upstream.says("Hello ", "again")
    async with one.socket() as here, two.socket() as there:
        await here.send(type="message", content="Hello")
        seen = await here.until("token")
        await attach(there, seen["run_id"], seen["seq"])
        await one.stop()
        assert await here.closed() == 1001
        await two.app.state.services.runs._driver.look_for_lost_runs()
        await there.until("complete")
        frames = there.frames[1:]
    assert kinds(frames) == ["reset", "token", "message", "complete"]
    assert text_of(frames) == "Hello again"


async def test_redis_may_be_away_for_a_while(start: Start, mongodb_url: str, upstream: Upstream, tmp_path: Path):
    port = free_port()
    shared = {"mongodb_url": mongodb_url, "mongodb_database": f"test_{uuid4().hex}"}
    with redis_server(tmp_path, port) as url:
        one, two = await start(**shared, redis_url=url), await start(**shared, redis_url=url)
        upstream.script(paused(gate := asyncio.Event()))
        here = await here_of(one)
        await here.send(type="message", content="Hello")
        seen = await here.until("token")
    gate.set()
    await here.until("complete")
    with redis_server(tmp_path, port):
        async with two.socket() as there:
            await attach(there, seen["run_id"])
            await there.until("complete")
            assert there.frames[1:] == here.frames[1:]
            again = await there.ask("Again", conversation_id=seen["conversation_id"])
            assert again[-1]["type"] == "complete"
        await here.connection.close()


async def here_of(service: Service) -> Socket:
    """A socket that outlives a block."""
    from websockets.asyncio.client import connect

    socket = Socket(await connect(service.ws_url, additional_headers=service.headers, max_size=None))
    assert (await socket.receive())["type"] == "ready"
    return socket


async def test_a_redis_that_is_not_there_is_told_with_the_setting_to_change(start: Start):
    with pytest.raises(StorageUnavailable, match="REDIS_URL"):
        await start(redis_url="redis://:hunter2@127.0.0.1:1/0")


async def test_what_a_server_had_no_time_to_write_of_a_run_that_waits_is_told_by_the_other(
    pair: tuple[Service, Service], upstream: Upstream, monkeypatch: pytest.MonkeyPatch
):
    one, two = pair

    async def nothing_is_written(log: RedisRunLog, batch: list[RunEvent]) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(RedisRunLog, "_write", nothing_is_written)
    upstream.calls(("c1", "draw", "{}"))
    async with one.socket() as here, two.socket() as there:
        await here.send(type="message", content="Draw", client_tools=["draw"])
        seen = await here.until("tool_call")
        while (await two.get(f"/api/runs/{seen['run_id']}"))["status"] != "waiting":
            pass
        await attach(there, seen["run_id"])
        await there.until("tool_call")
        assert there.frames[1:] == here.frames[1:]
