"""What the application asks of the place where the events of runs are kept for those who listen."""

from collections.abc import Callable, Sequence
from typing import Protocol

from app.core.domain.event import RunEvent


class IRunFeed(Protocol):
    """The events of one run, as one listener reads them: at its own pace, each exactly once."""

    def read(self, limit: int) -> list[RunEvent]:
        """The next events, at most `limit`; none where the listener is up to date.

        Raises:
            EventsGone: the listener fell so far behind that events it has not read are gone.
        """
        ...

    @property
    def ended(self) -> bool:
        """Whether the run's last event has been read."""
        ...

    def give_up(self) -> None:
        """No more will come into the log: once all that is there has been read, `read` raises `EventsGone`."""
        ...

    def close(self) -> None:
        """Stop listening."""
        ...


class EventsGone(Exception):
    """Events that a listener asks for are no longer in the log."""


class IRunLog(Protocol):
    """Where runs' events are written and read. It is bounded: the stored history, not the log, is what is kept."""

    def append(self, event: RunEvent) -> None:
        """Write the next event of a run. Never waits: whoever reads is woken and reads by itself."""
        ...

    def restore(self, run_id: str, events: Sequence[RunEvent]) -> None:
        """Write what a process that died may not have written any more; events that are there stay as they are."""
        ...

    def notify(self, notice: RunEvent) -> None:
        """Tell those who listen here how things are, until the next event. A notice has no number and is not kept."""
        ...

    async def settle(self) -> None:
        """Wait until other processes can read what was written here; not for ever, where the way to them is cut."""
        ...

    async def follow(self, run_id: str, after: int, wake: Callable[[], None]) -> IRunFeed | None:
        """A feed of the run's events after number `after`; `wake` is called when there is more to read.

        None where the log does not have those events (any more).
        """
        ...

    def release(self, run_id: str) -> None:
        """This process does not drive the run any more, though it has not ended: whoever goes on with it writes its events."""
        ...

    async def follow_rest(self, run_id: str, wake: Callable[[], None]) -> tuple[int, IRunFeed]:
        """A feed of all that the log has of a run that has not ended, and of all that will come.

        Returns:
            The number after which the feed begins, and the feed.
        """
        ...
