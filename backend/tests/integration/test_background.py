"""Tasks in the background: whatever fails in one round, the next round comes."""

import asyncio
from typing import Any

import pytest

from app.core.services import usage as usage_module
from tests.integration.conftest import Start
from tests.upstream import Upstream


class FailsAtFirst:
    """Calls `method`, but for the first times, which fail; `done` is set when it was called once more after that."""

    def __init__(self, method: Any, times: int = 2) -> None:
        self._method = method
        self._left = times
        self.done = asyncio.Event()

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._left -= 1
        if self._left >= 0:
            raise KeyError("content")
        result = await self._method(*args, **kwargs)
        self.done.set()
        return result


async def test_the_lease_keeper_survives_any_exception(start: Start, monkeypatch: pytest.MonkeyPatch):
    service = await start(lease_seconds=1)
    runs = service.app.state.services.store.runs
    claim = FailsAtFirst(runs.claim)
    monkeypatch.setattr(runs, "claim", claim)
    async with asyncio.timeout(20):
        await claim.done.wait()


async def test_tokens_are_counted_after_any_exception(
    start: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(usage_module, "FLUSH_SECONDS", 0.01)
    service = await start()
    usage = service.app.state.services.store.usage
    add = FailsAtFirst(usage.add)
    monkeypatch.setattr(usage, "add", add)
    async with service.socket() as socket:
        await socket.ask("Hello")
    async with asyncio.timeout(20):
        await add.done.wait()
    report = await service.get("/api/usage")
    assert report["total"]["output_tokens"] == 5


@pytest.mark.parametrize("tokens", [10**30, -5, "many", 1.5])
async def test_figures_that_no_answer_can_have_are_not_counted(start: Start, upstream: Upstream, tokens: Any):
    service = await start()
    service.app.state.services.usage.count("local", "m@m", {"input_tokens": tokens, "output_tokens": 3})
    report = await service.get("/api/usage")
    assert (report["total"]["input_tokens"], report["total"]["output_tokens"]) == (0, 3)


async def test_a_queued_run_whose_promotion_failed_is_begun_by_the_keeper(
    start: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
):
    service = await start(lease_seconds=1)
    runs = service.app.state.services.store.runs
    monkeypatch.setattr(runs, "promote", FailsAtFirst(runs.promote, times=1_000))
    gate = asyncio.Event()

    async def wait(answer: Any) -> None:
        await gate.wait()
        await answer.say("First.")

    upstream.script(wait)
    async with service.socket() as socket:
        await socket.send(type="message", content="One")
        seen = await socket.until("accepted")
        await socket.send(type="message", content="Two", conversation_id=seen["conversation_id"])
        await socket.until("accepted")
        gate.set()
        await socket.until("complete")
        await socket.until("complete")
    assert [m["content"] for m in await service.history(seen["conversation_id"])][-1] == "You said: Two"
