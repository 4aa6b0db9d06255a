import pytest

from app.adapters.outbound.run_log.memory import MemoryRunLog
from app.adapters.outbound.run_log.redis import _Pending  # pyright: ignore[reportPrivateUsage]
from app.core.domain.event import RunEvent
from app.core.domain.time import utc_now
from app.core.ports.run_log import EventsGone


def event(seq: int, kind: str = "token", run: str = "r") -> RunEvent:
    return RunEvent.of(run, "c", seq, kind, {})


class Wakes:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


async def test_a_listener_gets_what_was_and_what_comes_once():
    log, wakes = MemoryRunLog(), Wakes()
    for seq in (1, 2, 3):
        log.append(event(seq))
    feed = await log.follow("r", 1, wakes)
    assert feed is not None
    assert [e.seq for e in feed.read(10)] == [2, 3]
    assert feed.read(10) == []
    log.append(event(4))
    assert wakes.count == 1
    assert [e.seq for e in feed.read(10)] == [4]


async def test_listening_twice_with_nothing_between_tells_nothing_twice():
    log = MemoryRunLog()
    log.append(event(1))
    first = await log.follow("r", 0, Wakes())
    assert first is not None
    last = first.read(10)[-1].seq
    second = await log.follow("r", last, Wakes())
    assert second is not None
    assert second.read(10) == []


async def test_two_listeners_read_at_their_own_pace():
    log = MemoryRunLog()
    for seq in range(1, 6):
        log.append(event(seq))
    one, two = await log.follow("r", 0, Wakes()), await log.follow("r", 0, Wakes())
    assert one and two
    assert [e.seq for e in one.read(2)] == [1, 2]
    assert [e.seq for e in two.read(10)] == [1, 2, 3, 4, 5]
    assert [e.seq for e in one.read(10)] == [3, 4, 5]


async def test_a_feed_ends_with_the_last_event_read():
    log = MemoryRunLog()
    log.append(event(1))
    log.append(event(2, "complete"))
    feed = await log.follow("r", 0, Wakes())
    assert feed is not None
    assert not feed.ended
    feed.read(1)
    assert not feed.ended
    feed.read(1)
    assert feed.ended


async def test_a_closed_feed_is_not_woken():
    log, wakes = MemoryRunLog(), Wakes()
    log.append(event(1))
    feed = await log.follow("r", 0, wakes)
    assert feed is not None
    feed.close()
    feed.close()
    log.append(event(2))
    assert wakes.count == 0


async def test_a_run_that_is_not_here_has_no_feed():
    assert await MemoryRunLog().follow("r", 0, Wakes()) is None


async def test_a_run_that_another_process_began_is_told_from_where_it_was_taken_over():
    log = MemoryRunLog()
    log.append(event(1_000_000, "reset"))
    assert await log.follow("r", 5, Wakes()) is None
    assert await log.follow("r", 999_999, Wakes()) is not None


async def test_a_long_run_drops_its_oldest_events_and_says_so():
    log = MemoryRunLog(events_a_run=10)
    log.append(event(1))
    late = await log.follow("r", 0, Wakes())
    assert late is not None
    for seq in range(2, 12):
        log.append(event(seq))
    with pytest.raises(EventsGone):
        late.read(10)
    assert await log.follow("r", 0, Wakes()) is None
    feed = await log.follow("r", 5, Wakes())
    assert feed is not None
    assert [e.seq for e in feed.read(100)] == [6, 7, 8, 9, 10, 11]


async def test_ended_runs_are_forgotten_the_oldest_first():
    log = MemoryRunLog(ended_runs=2)
    for run in ("a", "b", "c"):
        log.append(event(1, "complete", run))
    assert await log.follow("a", 0, Wakes()) is None
    assert await log.follow("b", 0, Wakes()) is not None
    assert await log.follow("c", 0, Wakes()) is not None


async def test_the_rest_of_a_run_is_all_that_is_here_and_all_that_comes():
    log = MemoryRunLog(events_a_run=4)
    for seq in range(1, 6):
        log.append(event(seq))
    begins_after, feed = await log.follow_rest("r", Wakes())
    log.append(event(6, "complete"))
    assert [e.seq for e in feed.read(10)] == list(range(begins_after + 1, 7))
    assert feed.ended


async def test_a_run_of_which_nothing_is_here_yet_can_be_waited_for():
    log, wakes = MemoryRunLog(), Wakes()
    begins_after, feed = await log.follow_rest("r", wakes)
    assert (begins_after, feed.read(10), feed.ended) == (0, [], False)
    log.append(event(1_000_001, "reset"))
    assert wakes.count == 1
    assert [e.seq for e in feed.read(10)] == [1_000_001]


KIB = 1024


def large(seq: int, kind: str = "token", run: str = "r", size: int = 100 * KIB) -> RunEvent:
    return RunEvent.of(run, "c", seq, kind, {"content": "x" * size})


async def test_ended_runs_share_a_budget_of_bytes():
    log = MemoryRunLog(budget=1_000 * KIB)
    for number in range(50):
        log.append(large(1, run=f"r{number}"))
        log.append(event(2, "complete", f"r{number}"))
        assert log.size <= 1_000 * KIB
    assert await log.follow("r40", 0, Wakes()) is None
    assert await log.follow("r45", 0, Wakes()) is not None


async def test_a_running_run_over_the_budget_keeps_its_newest_events():
    log = MemoryRunLog(budget=1_000 * KIB)
    log.append(event(1))
    quick = await log.follow("r", 0, Wakes())
    assert quick is not None
    seqs: list[int] = []
    for seq in range(2, 40):
        log.append(large(seq))
        seqs += [one.seq for one in quick.read(10)]
        assert log.size <= 1_000 * KIB
    assert seqs == list(range(1, 40))
    assert await log.follow("r", 0, Wakes()) is None
    begins_after, rest = await log.follow_rest("r", Wakes())
    assert [one.seq for one in rest.read(100)] == list(range(begins_after + 1, 40))


async def test_ended_runs_go_before_events_of_running_ones():
    log = MemoryRunLog(budget=1_000 * KIB)
    log.append(large(1, run="running"))
    for number in range(20):
        log.append(large(1, "complete", f"r{number}"))
    assert await log.follow("running", 0, Wakes()) is not None


async def test_a_listener_that_does_not_read_keeps_nothing_alive():
    log, wakes = MemoryRunLog(budget=1_000 * KIB), Wakes()
    log.append(large(1, run="slow"))
    log.append(large(2, "complete", "slow"))
    slow = await log.follow("slow", 0, wakes)
    assert slow is not None
    for number in range(20):
        log.append(large(1, "complete", f"r{number}"))
    assert wakes.count == 1
    assert not slow.ended
    with pytest.raises(EventsGone):
        slow.read(10)
    assert log.size == sum(ring.size for ring in log._rings.values())  # pyright: ignore[reportPrivateUsage]


async def test_an_event_larger_than_the_budget_is_told():
    log = MemoryRunLog(budget=10 * KIB)
    feed = (await log.follow_rest("r", Wakes()))[1]
    log.append(large(1))
    assert [one.seq for one in feed.read(10)] == [1]
    log.append(large(2))
    assert [one.seq for one in feed.read(10)] == [2]


def test_an_event_in_the_log_is_kept_as_json_alone():
    log, one = MemoryRunLog(), RunEvent.of("r", "c", 1, "token", {"content": "é🎨", "at": utc_now()})
    text = one.json
    log.append(one)
    assert one._data is None  # pyright: ignore[reportPrivateUsage]
    assert one.json == text
    assert one.data["content"] == "é🎨"
    assert (one.run_id, one.seq, one.type, one.ends, one.is_notice) == ("r", 1, "token", False, False)


def test_an_event_that_is_no_json_stays_as_it_is():
    log, one = MemoryRunLog(), RunEvent.of("r", "c", 1, "token", {"content": object()})
    log.append(one)
    assert "content" in one.data
    with pytest.raises(TypeError):
        _ = one.json


def test_events_that_wait_for_redis_have_a_budget():
    pending = _Pending(budget=1_000 * KIB)
    events = [large(seq) for seq in range(1, 31)]
    pending.extend(events)
    assert len(pending) < 10
    first = pending.first(3)
    assert pending.last is events[-1]
    pending.extend([large(seq) for seq in range(31, 41)])  # the batch goes while it is being written
    pending.remove(first)
    assert len(pending) < 10
    while len(pending):
        pending.remove(pending.first(5))
    assert pending._size == 0  # pyright: ignore[reportPrivateUsage]
