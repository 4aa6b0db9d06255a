"""The events of runs in this process's memory: as many bytes as the budget allows, those of ended runs as long as there is room."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from app.core.domain.event import RunEvent
from app.core.ports.run_log import EventsGone, IRunFeed

EVENTS_A_RUN = 20_000
ENDED_RUNS = 256
"""Ended runs that stay at hand; older ones are told again from the store."""

BUDGET = 64 * 1024 * 1024
"""Bytes of all events, running and ended."""

EVENT_BYTES = 160
"""What an event takes beside its JSON: the object, its number and its place in a list."""


class MemoryRunLog:
    """An `IRunLog` for one process.

    Over the budget, ended runs go first, the oldest before the others; then the older half of the longest running one.
    Who reads what is gone is told so, and reads it from the store.
    """

    def __init__(self, *, events_a_run: int = EVENTS_A_RUN, ended_runs: int = ENDED_RUNS, budget: int = BUDGET) -> None:
        self._events_a_run = events_a_run
        self._ended_runs = ended_runs
        self._budget = budget
        self._rings: dict[str, _Ring] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes of the events that are here."""
        return self._size

    def append(self, event: RunEvent) -> None:
        """Add the run's next event, and wake who listens."""
        run_id = event.run_id
        ring = self._rings.get(run_id)
        if ring is None:
            ring = self._rings[run_id] = _Ring()
        self._size += ring.append(event)
        if len(ring.events) > self._events_a_run:
            self._size -= ring.drop(self._events_a_run // 2)
        if event.ends:
            self._ended[run_id] = None
        if self._size > self._budget or len(self._ended) > self._ended_runs:
            self._make_room()
        ring.wake()

    def restore(self, run_id: str, events: Sequence[RunEvent]) -> None:
        """Add those of `events` that are newer than what is here."""
        ring = self._rings.get(run_id)
        newest = ring.events[-1].seq if ring is not None and ring.events else 0
        for event in events:
            if event.seq > newest:
                self.append(event)

    def notify(self, notice: RunEvent) -> None:
        """Tell those who listen."""
        if (ring := self._rings.get(notice.run_id)) is not None:
            ring.notify(notice)

    async def settle(self) -> None:
        """Everybody who can read this memory reads it at once."""

    async def follow(self, run_id: str, after: int, wake: Callable[[], None]) -> IRunFeed | None:
        """A feed from `after` on; None where the run is unknown here, or those events are gone."""
        ring = self._rings.get(run_id)
        if ring is None or not ring.reaches(after):
            return None
        return _Feed(ring, after, wake)

    def release(self, run_id: str) -> None:
        """In one process nobody else goes on with a run: what is here stays."""

    def forget(self, run_id: str) -> None:
        """Drop the events of a run; who listens to it keeps what was there."""
        if (ring := self._rings.pop(run_id, None)) is not None:
            self._size -= ring.size
            self._ended.pop(run_id, None)

    def knows(self, run_id: str) -> bool:
        """Whether events of the run are here."""
        return run_id in self._rings

    async def follow_rest(self, run_id: str, wake: Callable[[], None]) -> tuple[int, IRunFeed]:
        """A feed from the first event that is here; a run of which nothing is here yet has its place kept."""
        ring = self._rings.setdefault(run_id, _Ring())
        return ring.lost_seq, _Feed(ring, ring.lost_seq, wake)

    def _make_room(self) -> None:
        while len(self._ended) > self._ended_runs or (self._ended and self._size > self._budget):
            oldest, _ = self._ended.popitem(last=False)
            if (ring := self._rings.pop(oldest, None)) is not None:
                self._size -= ring.drop(len(ring.events))
                ring.wake()
        while self._size > self._budget:
            largest = max(self._rings.values(), key=lambda ring: ring.size if len(ring.events) > 1 else 0)
            if len(largest.events) <= 1:
                return
            self._size -= largest.drop(len(largest.events) // 2)


class _Ring:
    """The events of one run, oldest first; the oldest go when there are too many."""

    def __init__(self) -> None:
        self.events: list[RunEvent] = []
        self.size = 0
        self.dropped = 0
        self.lost_seq = 0
        self.ended = False
        self.notice: RunEvent | None = None
        self.wakes: list[Callable[[], None]] = []

    def append(self, event: RunEvent) -> int:
        """Add an event; how many bytes it takes."""
        events = self.events
        if not events and not self.dropped and event.seq > 1:
            self.lost_seq = event.seq - 1  # a run that another process began
        events.append(event)
        self.notice = None
        self.ended = event.ends
        size = event.compact() + EVENT_BYTES
        self.size += size
        return size

    def drop(self, count: int) -> int:
        """Drop the oldest `count` events; how many bytes that frees."""
        gone = self.events[:count]
        if not gone:
            return 0
        self.lost_seq = gone[-1].seq
        del self.events[:count]
        self.dropped += len(gone)
        freed = sum(event.compact() + EVENT_BYTES for event in gone)
        self.size -= freed
        return freed

    def wake(self) -> None:
        """Wake who listens."""
        for wake in self.wakes:
            wake()

    def notify(self, notice: RunEvent) -> None:
        """Tell `notice` to who has read everything, until the next event."""
        self.notice = notice
        self.wake()

    def reaches(self, after: int) -> bool:
        """Whether every event after number `after` is here."""
        return after >= self.lost_seq

    def index_after(self, seq: int) -> int:
        """The place, counted from the run's first event, of the first event whose number is greater than `seq`."""
        low, high = 0, len(self.events)
        while low < high:
            middle = (low + high) // 2
            if self.events[middle].seq <= seq:
                low = middle + 1
            else:
                high = middle
        return self.dropped + low


class _Feed:
    """One listener's place in a ring."""

    def __init__(self, ring: _Ring, after: int, wake: Callable[[], None]) -> None:
        self._ring = ring
        self._next = ring.index_after(after)
        self._wake = wake
        self._gives_up = False
        self._notice: RunEvent | None = None
        ring.wakes.append(wake)

    def read(self, limit: int) -> list[RunEvent]:
        """The next events, at most `limit`."""
        ring = self._ring
        start = self._next - ring.dropped
        if start < 0:
            raise EventsGone
        batch = ring.events[start : start + limit]
        if not batch and ring.notice is not None and ring.notice is not self._notice:
            self._notice = ring.notice
            return [ring.notice]
        if not batch and self._gives_up:
            raise EventsGone
        self._next += len(batch)
        return batch

    @property
    def ended(self) -> bool:
        """Whether the run's last event has been read."""
        ring = self._ring
        return ring.ended and self._next >= ring.dropped + len(ring.events)

    def give_up(self) -> None:
        """Nothing more will come."""
        self._gives_up = True
        self._wake()

    def close(self) -> None:
        """Stop listening."""
        if self._wake in self._ring.wakes:
            self._ring.wakes.remove(self._wake)
