"""A run log that counts what passes through it, for monitoring."""

import time
from collections.abc import Callable, Sequence

from prometheus_client import Counter, Gauge, Histogram

from app.core.domain.event import RunEvent
from app.core.ports import IRunFeed, IRunLog

RUNS = Counter("atelier_runs", "Runs that ended", ["status"])
RUNNING = Gauge("atelier_runs_active", "Runs that have begun and not ended")
PIECES = Counter("atelier_pieces", "Pieces of text that were streamed")
TOOL_CALLS = Counter("atelier_tool_calls", "Tool calls that ended", ["tool", "status"])
FIRST_PIECE = Histogram("atelier_first_piece_seconds", "From the start of a run to its first piece of text")

_STATUS = {"complete": "completed", "cancelled": "cancelled", "error": "failed"}


class MeteredRunLog:
    """An `IRunLog` around another one."""

    def __init__(self, log: IRunLog) -> None:
        self._log = log
        self._active: set[str] = set()
        self._started: dict[str, float] = {}

    def append(self, event: RunEvent) -> None:
        """Count the event, and pass it on."""
        kind = event.type
        if kind == "token":
            PIECES.inc()
            if self._started and (began := self._started.pop(event.run_id, None)) is not None:
                FIRST_PIECE.observe(time.monotonic() - began)
        elif kind in ("started", "reset"):
            self._active.add(event.run_id)
            RUNNING.set(len(self._active))
            if kind == "started":
                self._started[event.run_id] = time.monotonic()
        elif kind == "tool_result":
            TOOL_CALLS.labels(event.data["name"], "error" if event.data["is_error"] else "success").inc()
        elif kind in _STATUS:
            self._active.discard(event.run_id)
            RUNNING.set(len(self._active))
            RUNS.labels(_STATUS[kind]).inc()
            self._started.pop(event.run_id, None)
        self._log.append(event)

    def restore(self, run_id: str, events: Sequence[RunEvent]) -> None:
        """Pass on what was counted when it happened."""
        self._log.restore(run_id, events)

    def notify(self, notice: RunEvent) -> None:
        """Pass it on."""
        self._log.notify(notice)

    async def settle(self) -> None:
        """Pass it on."""
        await self._log.settle()

    async def follow(self, run_id: str, after: int, wake: Callable[[], None]) -> IRunFeed | None:
        """What the log within answers."""
        return await self._log.follow(run_id, after, wake)

    def release(self, run_id: str) -> None:
        """Pass it on."""
        self._log.release(run_id)

    async def follow_rest(self, run_id: str, wake: Callable[[], None]) -> tuple[int, IRunFeed]:
        """What the log within answers."""
        return await self._log.follow_rest(run_id, wake)
