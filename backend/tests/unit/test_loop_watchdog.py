"""The watchdog logs what blocks the event loop, and nothing of a loop that waits."""

import asyncio
import logging
import threading
from collections.abc import Iterator

import pytest

from app.loop_watchdog import LoopWatchdog, watched_loop


def block_the_loop(until: threading.Event) -> None:
    until.wait(10)


class Reports(logging.Handler):
    """What the watchdog logs; `came` is set with the first."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self.came = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
        self.came.set()


@pytest.fixture
def reports() -> Iterator[Reports]:
    logger = logging.getLogger("app.loop_watchdog")
    handler = Reports()
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


async def test_a_block_is_logged_once_with_its_place(reports: Reports):
    async with watched_loop(0.05):
        block_the_loop(reports.came)
    (message,) = reports.messages
    assert "test_loop_watchdog.py" in message
    assert "block_the_loop" in message


async def test_a_loop_that_waits_is_not_blocked(reports: Reports):
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    call_soon = loop.call_soon_threadsafe
    loop.call_soon_threadsafe = lambda *args: (asked.set(), call_soon(*args))[1]  # type: ignore[method-assign]
    watchdog = LoopWatchdog(5, pause=0.01)
    watchdog.start()
    await asked.wait()
    watchdog.stop()
    assert reports.messages == []


async def test_a_limit_of_zero_watches_nothing():
    async with watched_loop(0):
        assert "loop-watchdog" not in {thread.name for thread in threading.enumerate()}
