import pytest

from app.adapters.outbound.run_log.memory import MemoryRunLog
from app.core.domain.event import RunEvent
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
