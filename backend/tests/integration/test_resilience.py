"""A provider that fails is asked again, and where that does not help the next model goes on."""

import asyncio
import logging
from typing import Any

import pytest

from app.adapters.outbound.llm_providers import resilience
from tests.client import kinds, text_of
from tests.integration.conftest import Start
from tests.upstream import Answer, Upstream


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What would have been waited, in seconds; nothing is."""
    waited: list[float] = []
    wait = resilience._wait

    def at_once(state: Any) -> float:
        waited.append(wait(state))
        return 0.0

    monkeypatch.setattr(resilience, "_wait", at_once)
    return waited


async def cut(answer: Answer) -> None:
    await answer.delta(content="Half ")
    await answer.delta(content="an answer")
    answer.cut()


async def test_it_is_asked_again_when_it_asks_to_come_back(start: Start, upstream: Upstream, waits: list[float]):
    service = await start(provider_retries=2)
    upstream.refuses(429, **{"Retry-After": "3"})
    upstream.refuses(500)
    upstream.says("Here I am.")
    async with service.socket() as socket:
        frames = await socket.ask("Hello")
    assert kinds(frames) == ["accepted", "started", "message", "token", "message", "complete"]
    assert text_of(frames) == "Here I am."
    assert 3.0 <= waits[0] <= 3.5
    assert 0.0 < waits[1] <= 2.0


async def test_who_asks_for_too_much_patience_is_told_on(start: Start, upstream: Upstream, waits: list[float]):
    service = await start(provider_retries=2)
    upstream.refuses(429, **{"Retry-After": "600"})
    async with service.socket() as socket:
        frames = await socket.ask("Hello")
    assert (frames[-1]["code"], frames[-1]["retryable"]) == ("provider_rate_limited", True)
    assert "600 seconds" in frames[-1]["message"]
    assert (len(upstream.requests), waits) == (1, [])


@pytest.mark.parametrize("status", [400, 401, 404])
async def test_what_would_fail_again_is_not_asked_again(start: Start, upstream: Upstream, status: int):
    service = await start(provider_retries=2)
    upstream.refuses(status)
    async with service.socket() as socket:
        assert (await socket.ask("Hello"))[-1]["type"] == "error"
    assert len(upstream.requests) == 1


async def test_the_tries_have_an_end(start: Start, upstream: Upstream):
    service = await start(provider_retries=2)
    for _ in range(3):
        upstream.refuses(500)
    async with service.socket() as socket:
        assert (await socket.ask("Hello"))[-1]["code"] == "provider_unavailable"
    assert len(upstream.requests) == 3


async def test_an_answer_that_was_cut_begins_anew_under_a_reset(start: Start, upstream: Upstream):
    service = await start(provider_retries=1)
    upstream.script(cut)
    upstream.says("A whole ", "answer.")
    async with service.socket() as socket:
        frames = await socket.ask("Hello")
        reset = next(f for f in frames if f["type"] == "reset")
        assert [f["seq"] for f in frames] == list(range(1, len(frames) + 1))
        after = [f for f in frames if f["seq"] > reset["seq"]]
        assert text_of(after) == "A whole answer."
        assert reset["message_id"] == frames[-1]["message_id"]
    history = await service.history(frames[0]["conversation_id"])
    assert [m["content"] for m in history] == ["Hello", "A whole answer."]


async def test_the_next_model_goes_on(start: Start, upstream: Upstream, caplog: pytest.LogCaptureFixture):
    service = await start(model_fallbacks=["openai@second", "openai@third"])
    upstream.script(cut)
    upstream.refuses(503)
    upstream.says("I am the third.")
    with caplog.at_level(logging.WARNING):
        async with service.socket() as socket:
            frames = await socket.ask("Hello")
    assert [body["model"] for body in upstream.requests] == ["scripted", "second", "third"]
    reset = next(f for f in frames if f["type"] == "reset")
    assert text_of([f for f in frames if f["seq"] > reset["seq"]]) == "I am the third."
    answer = (await service.history(frames[0]["conversation_id"]))[-1]
    assert (answer["content"], answer["metadata"]["model"]) == ("I am the third.", "openai@third")
    assert "openai@second goes on in place of openai@scripted" in caplog.text


async def test_a_turn_with_tools_falls_back_in_the_middle(start: Start, upstream: Upstream):
    service = await start(model_fallbacks=["openai@second"])
    upstream.calls(("c1", "add", '{"a": 1, "b": 2}'))
    upstream.refuses(500)
    upstream.says("Three.")
    async with service.socket() as socket:
        frames = await socket.ask("1 + 2?")
    assert text_of(frames) == "Three."
    assert "reset" not in kinds(frames)  # nothing had been told
    models = [m["metadata"].get("model") for m in await service.history(frames[0]["conversation_id"])]
    assert models == [None, "openai@scripted", None, "openai@second"]


async def test_where_none_answers_the_error_is_that_of_the_model_that_was_asked(start: Start, upstream: Upstream):
    service = await start(model_fallbacks=["openai@second"])
    upstream.refuses(429, **{"Retry-After": "5"})
    upstream.refuses(500)
    async with service.socket() as socket:
        assert (await socket.ask("Hello"))[-1]["code"] == "provider_rate_limited"


async def test_a_fallback_that_cannot_be_asked_is_told_at_the_start(start: Start):
    with pytest.raises(Exception, match="MISTRAL_API_KEY"):
        await start(model_fallbacks=["mistral@mistral-small-latest"])


async def test_an_account_that_is_used_up_is_not_asked_again(start: Start, upstream: Upstream):
    service = await start(provider_retries=2)
    upstream.refuses(429, {"message": "You exceeded your current quota", "code": "insufficient_quota"})
    async with service.socket() as socket:
        frames = await socket.ask("Hello")
    assert (frames[-1]["code"], frames[-1]["retryable"]) == ("provider_rate_limited", False)
    assert "billing" in frames[-1]["message"]
    assert len(upstream.requests) == 1


async def test_the_time_to_the_first_piece_and_between_pieces_is_bounded(start: Start, upstream: Upstream):
    service = await start(provider_first_timeout=0.3, provider_timeout=0.2)

    async def comments_only(answer: Answer) -> None:
        while True:
            await answer.raw(b": PROCESSING\n\n")
            await asyncio.sleep(0.01)  # as OpenRouter keeps a connection open

    async def then_silent(answer: Answer) -> None:
        await answer.delta(content="One ")
        await asyncio.Event().wait()

    upstream.script(comments_only, then_silent)
    async with service.socket() as socket:
        first = await socket.ask("Hello")
        second = await socket.ask("Hello")
    assert (first[-1]["code"], "0.3 seconds" in first[-1]["message"]) == ("provider_timeout", True)
    assert (second[-1]["code"], "0.2 seconds" in second[-1]["message"]) == ("provider_timeout", True)
    assert text_of(second) == "One "
