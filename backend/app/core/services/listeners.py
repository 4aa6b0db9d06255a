"""Those who listen to runs: whoever drives a run, and wherever its events are."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from datetime import timedelta
from typing import Any
from weakref import WeakSet

from app.core.domain.errors import NotFound, ShuttingDown, StorageUnavailable
from app.core.domain.event import SUSPENDED, RunEvent
from app.core.domain.run import Run, RunStatus
from app.core.domain.time import utc_now
from app.core.domain.user import User
from app.core.ports import EventsGone, IRunFeed, IRunLog, Store
from app.core.services.driven import Driven
from app.core.services.replay import replay

logger = logging.getLogger(__name__)

QUIET_SECONDS = 15.0
REATTACH_SECONDS = 0.1
"""The pause before a listener whose events are gone reads on: the log may lack them still."""

ELSEWHERE_SECONDS = 1.0
"""How often it is looked whether a run that another process drives has come to wait."""


class Listeners:
    """Feeds of runs' events: from the log where it has them, from the store where it does not.

    Args:
        driven: the runs that this process drives, or that wait here for their turn.
        lease: how long a process may be silent before another one takes its runs over.
    """

    def __init__(self, store: Store, log: IRunLog, driven: Mapping[str, Driven], lease: timedelta) -> None:
        self._store = store
        self._log = log
        self._driven = driven
        self._lease = lease
        self._feeds: dict[tuple[str, str], WeakSet[IRunFeed]] = {}
        self._streams: set[asyncio.Event] = set()
        self._is_closing = False

    def drives(self, run_id: str) -> bool:
        """Whether this process drives the run."""
        driven = self._driven.get(run_id)
        return driven is not None and driven.task is not None

    async def find(self, user: User, run_id: str) -> Run:
        """A run of this user, as it is now.

        Raises:
            NotFound: the user has no such run.
        """
        driven = self._driven.get(run_id)
        if driven is not None and driven.task is not None and driven.recorder.run.user_id == user.id:
            return driven.recorder.run
        return await self.stored(user, run_id)

    async def stored(self, user: User, run_id: str) -> Run:
        """A run of this user, as it is stored.

        Raises:
            NotFound: the user has no such run.
        """
        run = await self._store.runs.get(run_id, user.id)
        if run is None:
            raise NotFound("There is no such run.")
        return run

    async def attach(self, user: User, run_id: str, after: int, wake: Callable[[], None]) -> IRunFeed:
        """The events of a run after number `after`, those to come included; `wake` tells when there are more.

        Raises:
            NotFound: the user has no such run.
        """
        run = await self.find(user, run_id)
        is_elsewhere = not self.drives(run_id)
        if is_elsewhere:
            run = await self.stored(user, run_id)
            if run.status.ended:
                return await replay(self._store.messages, run, after)
        # Nobody writes events of a run that waits: what the log does not have of it will not come by itself.
        in_store = run.last_seq if is_elsewhere and run.status is RunStatus.WAITING else 0
        feed = await self._log.follow(run_id, max(after, in_store), wake)
        if feed is None:
            feed = await self._follow_from_store(run, after, wake)
        elif in_store > after:
            feed = await replay(self._store.messages, run, after, rest=(in_store, feed))
        self._feeds.setdefault((run_id, user.id), WeakSet()).add(feed)
        return feed

    async def _follow_from_store(self, run: Run, after: int, wake: Callable[[], None]) -> IRunFeed:
        """What the log does not have any more from the store, and from there on what it has."""
        begins_after, live = await self._log.follow_rest(run.id, wake)
        rest = (begins_after or run.last_seq, live)  # a log that has nothing yet goes on behind what is stored
        driven = self._driven.get(run.id)
        partial = driven.recorder.partial if driven is not None else None
        return await replay(self._store.messages, run, after, partial=partial, rest=rest)

    async def wait(self, user: User, run_id: str) -> list[RunEvent]:
        """All events of a run, once it has ended or waits for the user. Going away while waiting does not stop the run."""
        return [event async for batch in self.stream(user, run_id) for event in batch]

    async def stream(
        self, user: User, run_id: str, after: int = 0, *, until_it_waits: bool = True
    ) -> AsyncGenerator[list[RunEvent]]:
        """The events of a run after number `after` in batches, until it has ended or, with `until_it_waits`, waits for the user.

        An empty batch means that nothing has happened for a while. Notices are among the events. Where a run is
        suspended, the notice of that is the last one: whoever wants to go on listens again.

        Raises:
            NotFound: the user has no such run.
        """
        more = asyncio.Event()
        feed = await self.attach(user, run_id, after, more.set)
        quiet = 0.0
        self._streams.add(more)
        try:
            while not feed.ended:
                try:
                    batch = feed.read(1_000)
                except EventsGone:
                    feed.close()
                    await asyncio.sleep(REATTACH_SECONDS)
                    feed = await self.attach(user, run_id, after, more.set)
                    continue
                if batch:
                    quiet, after = 0.0, batch[-1].seq
                    yield batch
                    if batch[-1].type == SUSPENDED:
                        return
                    continue
                if self._is_closing:
                    yield [_suspended(await self.find(user, run_id), after)]
                    return
                driven = self._driven.get(run_id)
                if until_it_waits and driven is None and await self._waits(user, run_id):
                    if more.is_set():
                        more.clear()
                        continue
                    return
                patience = QUIET_SECONDS if driven is not None or not until_it_waits else ELSEWHERE_SECONDS
                await _first_of(more.wait(), driven.task if driven else None, patience)
                more.clear()
                quiet += patience
                if quiet >= QUIET_SECONDS:
                    quiet = 0.0
                    yield []
        finally:
            self._streams.discard(more)
            feed.close()

    def close(self) -> None:
        """End all streams: nothing is driven here any more."""
        self._is_closing = True
        for more in self._streams:
            more.set()

    async def _waits(self, user: User, run_id: str) -> bool:
        """Whether a run that is not driven here waits for the user; a store that is away does not end the listening."""
        try:
            return (await self.stored(user, run_id)).status is RunStatus.WAITING
        except StorageUnavailable as error:
            logger.info("a listener waits for the store: %s", error.message)
            return False

    async def look_after(self) -> None:
        """Tell those who listen to a run that is not driven here when it has ended and nobody told its last events."""
        for (run_id, user_id), feeds in list(self._feeds.items()):
            if self.drives(run_id):
                continue
            waiting = [feed for feed in feeds if not feed.ended]
            run = await self._store.runs.get(run_id, user_id) if waiting else None
            over = run is None or (run.ended_at is not None and run.ended_at < utc_now() - self._lease)
            if over:
                self._feeds.pop((run_id, user_id), None)
                for feed in waiting:
                    feed.give_up()


def _suspended(run: Run, after: int) -> RunEvent:
    """The notice that the service ends before the run does."""
    return RunEvent.notice(run.id, run.conversation_id, after, SUSPENDED, ShuttingDown().to_wire())


async def _first_of(waiting: Coroutine[Any, Any, Any], other: asyncio.Task[None] | None, patience: float) -> None:
    """Wait for `waiting`, or for `other` where there is one, whichever comes first; at most `patience` seconds."""
    mine = asyncio.ensure_future(waiting)
    try:
        others = [other] if other is not None else []
        await asyncio.wait([mine, *others], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
    finally:
        mine.cancel()
