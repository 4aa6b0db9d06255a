"""A turn that uses a skill uses it to its end, and so do the turns that repeat it."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from tests.client import Service
from tests.integration.conftest import Start
from tests.upstream import Upstream, paused

SKILL = {"name": "Haiku", "description": "Short poems.", "instructions": "Write 5, 7, 5 syllables."}
ADD = ("call_1", "add", '{"a": 1, "b": 1}')


@pytest.fixture(params=["sqlite", "mongodb"])
def stored(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The settings of a service on a store."""
    if request.param == "sqlite":
        return {}
    return {"mongodb_url": request.getfixturevalue("mongodb_url"), "mongodb_database": f"test_{uuid4().hex}"}


async def with_the_skill(start: Start, settings: dict[str, Any]) -> Service:
    service = await start(**settings)
    async with service.http() as http:
        assert (await http.post("/api/skills", json=SKILL)).status_code == 201
    return service


def uses_the_skill(request: dict[str, Any]) -> bool:
    return SKILL["instructions"] in str(request["messages"][0]["content"])


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_turn_keeps_its_skill_after_an_approval(
    start: Start, upstream: Upstream, stored: dict[str, Any], restarts: bool
):
    settings = {**stored, "tool_approval": {"add": "ask"}}
    service = await with_the_skill(start, settings)
    upstream.calls(ADD)
    async with service.socket() as socket:
        await socket.send(type="message", content="About rain", skill="haiku")
        call = await socket.until("tool_call")
        while (await service.get(f"/api/runs/{call['run_id']}"))["status"] != "waiting":
            await asyncio.sleep(0)
    if restarts:
        await service.stop()
        service = await start(**settings)
    async with service.http() as http:
        answer = {"tool_call_id": "call_1", "approved": True}
        assert (await http.post(f"/api/runs/{call['run_id']}/approvals", json=answer)).status_code == 200
    async with service.socket() as socket:
        await socket.send(type="attach", run_id=call["run_id"])
        await socket.until("complete")
    assert [uses_the_skill(request) for request in upstream.requests] == [True, True]


async def test_a_turn_keeps_its_skill_when_it_is_taken_over(start: Start, upstream: Upstream, stored: dict[str, Any]):
    service = await with_the_skill(start, stored)
    upstream.script(paused(asyncio.Event()))
    async with service.socket() as socket:
        await socket.send(type="message", content="About rain", skill="haiku")
        seen = await socket.until("token")
    await service.stop()
    service = await start(**stored)
    async with service.socket() as socket:
        await socket.send(type="attach", run_id=seen["run_id"])
        await socket.until("complete")
    assert [uses_the_skill(request) for request in upstream.requests] == [True, True]


async def test_a_queued_message_keeps_its_skill(start: Start, upstream: Upstream, stored: dict[str, Any]):
    service = await with_the_skill(start, stored)
    upstream.script(paused(gate := asyncio.Event()))
    async with service.socket() as socket:
        await socket.send(type="message", content="Hello")
        conversation_id = (await socket.until("token"))["conversation_id"]
        await socket.send(type="message", content="About rain", conversation_id=conversation_id, skill="haiku")
        assert (await socket.until("accepted"))["queued"] is True
        gate.set()
        for _ in range(2):
            await socket.until("complete")
        *_, user, answer = await service.history(conversation_id)
        assert user["metadata"] == {"skill": "haiku"}
        await socket.send(type="regenerate", conversation_id=conversation_id, message_id=answer["id"])
        await socket.until("complete")
        await socket.send(type="retry", conversation_id=conversation_id, message_id=user["id"])
        await socket.until("complete")
        await socket.send(type="edit", conversation_id=conversation_id, message_id=user["id"], content="About snow")
        await socket.until("complete")
    assert [uses_the_skill(request) for request in upstream.requests] == [False, True, True, True, True]
