"""Tokens and money."""

import json
from pathlib import Path

import pytest

from tests.client import Service
from tests.integration.conftest import Start
from tests.upstream import Upstream


async def test_a_conversation_a_user_and_a_day_have_their_tokens(start: Start, upstream: Upstream, tmp_path: Path):
    prices = {"openai@scripted": {"input_price": 1_000.0, "output_price": 2_000.0}}
    (tmp_path / "models.json").write_text(json.dumps(prices))
    service = await start()
    async with service.socket() as socket:
        first = await socket.ask("One")
        upstream.calls(("c1", "add", '{"a": 1, "b": 2}'))
        await socket.ask("1 + 2?")
    whole = await service.get("/api/usage")
    assert whole["total"] == {
        "requests": 3,
        "input_tokens": 30,
        "output_tokens": 15,
        "cost": 0.06,
        "cost_is_complete": True,
    }
    of_one = await service.get("/api/usage", conversation_id=first[0]["conversation_id"])
    assert (of_one["total"]["requests"], of_one["total"]["input_tokens"]) == (1, 10)
    (item,) = whole["items"]
    assert (await service.get("/api/usage", since=item["day"], until=item["day"]))["items"] == [item]
    assert (await service.get("/api/usage", until="2020-01-01"))["items"] == []
    await service.stop()
    again = await start()
    assert (await again.get("/api/usage")) == whole


async def test_a_model_without_a_price_has_no_cost(service: Service):
    async with service.socket() as socket:
        await socket.ask("Hello")
    report = await service.get("/api/usage")
    assert [item["cost"] for item in report["items"]] == [None]
    assert report["total"]["cost_is_complete"] is False


@pytest.mark.parametrize("day", ["yesterday", "2026-13-01"])
async def test_a_day_that_is_none_is_refused(service: Service, day: str):
    async with service.http() as http:
        assert (await http.get("/api/usage", params={"since": day})).status_code == 422
