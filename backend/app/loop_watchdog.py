"""Says what blocks the event loop: a thread that asks the loop for a sign of life, and logs where it stands when none comes."""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import FrameType

from prometheus_client import Histogram

logger = logging.getLogger(__name__)

BLOCKED = Histogram(
    "atelier_loop_blocked_seconds",
    "How long the event loop answered nothing, where that was longer than LOOP_BLOCK_SECONDS",
    buckets=(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
PAUSE = 0.1
"""Seconds between two questions: a block that is longer than the limit by this much is always noticed."""

MAX_FRAMES = 30
_IDLE = ("selectors.py", "runners.py", "base_events.py", "server.py")
"""Where the loop's thread stands when the loop has nothing to do, or is written in C."""


class LoopWatchdog:
    """Watches one loop from a thread of its own.

    Each block is logged once, with the stack of the loop's thread: files, lines and functions, and nothing of what they
    work on. A loop that waits in its selector is not blocked, however long the machine keeps it waiting for a CPU.

    Args:
        limit: seconds without a sign of life that count as a block.
    """

    def __init__(self, limit: float, pause: float = PAUSE) -> None:
        self._limit = limit
        self._pause = pause
        self._stopping = threading.Event()
        self._alive = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watched = 0
        self._thread = threading.Thread(target=self._watch, name="loop-watchdog", daemon=True)

    def start(self) -> None:
        """Watch the running loop, whose thread is this one."""
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopping.set()
        self._alive.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        assert self._loop is not None
        while not self._stopping.wait(self._pause):
            self._alive.clear()
            asked = time.monotonic()
            try:
                self._loop.call_soon_threadsafe(self._alive.set)
            except RuntimeError:  # the loop is closed
                return
            if self._alive.wait(self._limit):
                continue
            is_blocked = self._report(time.monotonic() - asked)
            self._alive.wait()
            if is_blocked and not self._stopping.is_set():
                BLOCKED.observe(time.monotonic() - asked)

    def _report(self, seconds: float) -> bool:
        """Log where the loop's thread stands; whether it is blocked at all."""
        frame = sys._current_frames().get(self._watched)  # pyright: ignore[reportPrivateUsage] - no public function has it
        if frame is None or _is_idle(frame):
            return False
        stack = traceback.StackSummary.extract(traceback.walk_stack(frame), limit=MAX_FRAMES, lookup_lines=False)
        places = [f"{Path(entry.filename).name}:{entry.lineno} {entry.name}" for entry in stack]
        logger.warning(
            "the event loop has been blocked for %.2f seconds, innermost first: %s", seconds, " < ".join(places)
        )
        return True


def _is_idle(frame: FrameType) -> bool:
    return Path(frame.f_code.co_filename).name in _IDLE


@asynccontextmanager
async def watched_loop(limit: float) -> AsyncGenerator[None]:
    """Watch the running loop inside the block; a limit of 0 watches nothing."""
    watchdog = LoopWatchdog(limit) if limit else None
    if watchdog is not None:
        with suppress(RuntimeError):  # no thread can be started: the service does without
            watchdog.start()
    try:
        yield
    finally:
        if watchdog is not None:
            watchdog.stop()
