"""What every run log does, for who listens in the process that writes and for who listens in another."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from app.adapters.outbound.run_log.memory import MemoryRunLog
from app.adapters.outbound.run_log.redis import RedisRunLog, connect
from app.core.domain.event import RunEvent
from app.core.domain.ids import new_id
from app.core.ports import IRunFeed, IRunLog


@dataclass
class Logs:
    """The log that is written to, and the one that is read: the same, or another process's."""

    writer: IRunLog
    reader: IRunLog
    run_id: str = field(default_factory=new_id)

    def append(self, seq: int, kind: str = "token") -> None:
        self.writer.append(RunEvent.of(self.run_id, "c", seq, kind, {"content": f"piece {seq}"}))

    async def follow(self, after: int) -> "Listener | None":
        woken = asyncio.Event()
        feed = await self.reader.follow(self.run_id, after, woken.set)
        return Listener(feed, woken) if feed is not None else None

    async def rest(self) -> tuple[int, "Listener"]:
        woken = asyncio.Event()
        begins_after, feed = await self.reader.follow_rest(self.run_id, woken.set)
        return begins_after, Listener(feed, woken)


@dataclass
class Listener:
    feed: IRunFeed
    woken: asyncio.Event

    async def read(self, count: int) -> list[int]:
        """The numbers of the next `count` events."""
        seqs: list[int] = []
        async with asyncio.timeout(10):
            while len(seqs) < count:
                if batch := self.feed.read(count - len(seqs)):
                    seqs += [event.seq for event in batch]
                else:
                    await self.woken.wait()
                    self.woken.clear()
        return seqs


@pytest.fixture(params=["memory", "redis", "redis of another process"])
async def logs(request: pytest.FixtureRequest) -> AsyncIterator[Logs]:
    if request.param == "memory":
        log = MemoryRunLog()
        yield Logs(log, log)
        return
    url = request.getfixturevalue("redis_url")
    writer = RedisRunLog(await connect(url))
    reader = RedisRunLog(await connect(url)) if "another" in request.param else writer
    yield Logs(writer, reader)
    await writer.close()
    if reader is not writer:
        await reader.close()


async def test_a_listener_gets_what_was_and_what_comes(logs: Logs):
    for seq in (1, 2, 3):
        logs.append(seq)
    _, listener = await logs.rest()
    assert await listener.read(3) == [1, 2, 3]
    logs.append(4)
    logs.append(5, "complete")
    assert await listener.read(2) == [4, 5]
    assert listener.feed.ended
    assert listener.feed.read(10) == []
    listener.feed.close()


async def test_listening_again_tells_only_what_follows(logs: Logs):
    _, first = await logs.rest()
    for seq in (1, 2, 3):
        logs.append(seq)
    assert await first.read(3) == [1, 2, 3]
    second = await logs.follow(2)
    assert second is not None
    assert await second.read(1) == [3]
    third = await logs.follow(3)
    assert third is not None
    assert third.feed.read(10) == []
    logs.append(4)
    assert await third.read(1) == [4]
    for listener in (first, second, third):
        listener.feed.close()


async def test_a_run_can_be_waited_for_before_it_tells_anything(logs: Logs):
    begins_after, listener = await logs.rest()
    assert begins_after == 0
    assert listener.feed.read(1) == []
    logs.append(1_000_001, "reset")
    assert await listener.read(1) == [1_000_001]
    listener.feed.close()


async def test_a_run_that_goes_on_elsewhere_is_followed_there(logs: Logs):
    """The process that drove the run lets it go, and the other one, if there is one, goes on with it."""
    logs.append(1)
    _, listener = await logs.rest()
    assert await listener.read(1) == [1]
    logs.writer.release(logs.run_id)
    logs.reader.append(RunEvent.of(logs.run_id, "c", 2, "token", {}))
    logs.reader.append(RunEvent.of(logs.run_id, "c", 3, "complete", {}))
    assert await listener.read(2) == [2, 3]
    listener.feed.close()


async def test_many_events_arrive_in_order(logs: Logs):
    _, listener = await logs.rest()
    for seq in range(1, 5_001):
        logs.append(seq)
    assert await listener.read(5_000) == list(range(1, 5_001))
    listener.feed.close()


async def test_what_a_process_that_died_had_not_written_is_written_for_it(logs: Logs):
    logs.append(1)
    logs.append(2)
    await logs.writer.settle()
    listener = await logs.follow(2)
    assert listener is not None
    stored = [RunEvent.of(logs.run_id, "c", seq, "token", {"content": f"piece {seq}"}) for seq in (1, 2, 3, 4)]
    logs.writer.restore(logs.run_id, stored)
    logs.append(1_000_001, "reset")
    assert await listener.read(3) == [3, 4, 1_000_001]


async def test_what_is_settled_is_read_at_once(logs: Logs):
    logs.append(1)
    await logs.writer.settle()
    listener = await logs.follow(0)
    assert listener is not None
    assert await listener.read(1) == [1]


async def test_a_notice_is_told_until_the_next_event() -> None:
    log = MemoryRunLog()
    logs = Logs(log, log)
    logs.append(1)
    early = await logs.follow(0)
    assert early is not None
    notice = RunEvent.notice(logs.run_id, "c", 1, "waiting_for_storage", {"message": "wait"})
    log.notify(notice)
    late = await logs.follow(1)
    assert late is not None
    assert [event.type for event in early.feed.read(9)] == ["token"]
    assert early.feed.read(9) == late.feed.read(9) == [notice]
    assert early.feed.read(9) == late.feed.read(9) == []
    logs.append(2)
    after = await logs.follow(1)
    assert after is not None
    assert await after.read(1) == await early.read(1) == [2]
    assert after.feed.read(9) == []
    assert "seq" not in notice.data
