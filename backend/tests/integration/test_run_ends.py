"""The history says which messages have no complete answer, and why."""

import asyncio
from uuid import uuid4

import pytest

from tests.client import Service
from tests.integration.conftest import Start
from tests.upstream import Answer, Upstream, endless


@pytest.fixture(params=["sqlite", "mongodb"])
async def service(request: pytest.FixtureRequest, start: Start) -> Service:
    if request.param == "sqlite":
        return await start()
    url = request.getfixturevalue("mongodb_url")
    return await start(mongodb_url=url, mongodb_database=f"test_{uuid4().hex}")


async def refuse(answer: Answer) -> None:
    await answer.refuse(500)


async def break_off(answer: Answer) -> None:
    await answer.delta(content="Half an ")
    answer.cut()


async def page(service: Service, conversation_id: str, **parameters: int) -> dict[str, dict[str, object]]:
    return (await service.get(f"/api/conversations/{conversation_id}/messages", **parameters)).get("runs", {})


async def test_the_reason_of_a_failed_turn_is_in_the_history(service: Service, upstream: Upstream):
    upstream.script(refuse)
    async with service.socket() as socket:
        failed = await socket.ask("One")
        conversation_id, run_id = failed[0]["conversation_id"], failed[0]["run_id"]
        [user] = await service.history(conversation_id)
        [(message_id, run)] = (await page(service, conversation_id)).items()
        assert message_id == user["id"]
        error = {key: failed[-1][key] for key in ("code", "message", "retryable")}
        assert (run["id"], run["status"], run["error"]) == (run_id, "failed", error)
        assert (run["model"], run["last_message_id"]) == ("openai@scripted", None)
        assert run["ended_at"] is not None

        await socket.ask("Two", conversation_id=conversation_id)
        assert list(await page(service, conversation_id)) == [message_id]
        assert list(await page(service, conversation_id, limit=1)) == []
        assert list(await page(service, conversation_id, before=2)) == [message_id]
        assert list(await page(service, conversation_id, after=1)) == []


async def test_a_retry_that_succeeds_clears_the_failure(service: Service, upstream: Upstream):
    upstream.script(break_off)
    async with service.socket() as socket:
        failed = await socket.ask("One")
        conversation_id = failed[0]["conversation_id"]
        user, partial = await service.history(conversation_id)
        run = (await page(service, conversation_id))[user["id"]]
        assert (run["status"], run["last_message_id"]) == ("failed", partial["id"])

        await socket.send(type="regenerate", conversation_id=conversation_id, message_id=partial["id"])
        await socket.until("complete")
        assert await page(service, conversation_id) == {}
    async with service.http() as http:
        await http.put(f"/api/conversations/{conversation_id}/head", json={"message_id": partial["id"]})
    assert (await page(service, conversation_id))[user["id"]]["id"] == run["id"]


async def test_a_failed_retry_does_not_hide_the_earlier_answer(service: Service, upstream: Upstream):
    async with service.socket() as socket:
        first = await socket.ask("One")
        conversation_id = first[0]["conversation_id"]
        user, answer = await service.history(conversation_id)
        upstream.script(refuse)
        await socket.send(type="regenerate", conversation_id=conversation_id, message_id=answer["id"])
        failed = await socket.until("error")
    assert (await page(service, conversation_id))[user["id"]]["id"] == failed["run_id"]
    async with service.http() as http:
        await http.put(f"/api/conversations/{conversation_id}/head", json={"message_id": answer["id"]})
    assert await page(service, conversation_id) == {}


async def test_a_failed_turn_is_run_again_from_its_message(service: Service, upstream: Upstream):
    upstream.script(refuse)
    async with service.socket() as socket, service.http() as http:
        failed = await socket.ask("One")
        conversation_id = failed[0]["conversation_id"]
        [user] = await service.history(conversation_id)
        exported = (await http.get(f"/api/conversations/{conversation_id}/export?format=markdown")).text
        assert failed[-1]["message"] in exported

        await socket.send(type="retry", conversation_id=conversation_id, message_id=user["id"])
        await socket.until("complete")
        assert await page(service, conversation_id) == {}
        [_, answer] = await service.history(conversation_id)
        await socket.send(type="retry", conversation_id=conversation_id, message_id=answer["id"])
        assert (await socket.until("error"))["code"] == "invalid_frame"

        chat = {"id": conversation_id, "trigger": "regenerate-message", "messageId": user["id"]}
        await http.post("/api/chat", json=chat)
    [_, other] = await service.history(conversation_id)
    assert (other["parent_id"], other["id"] != answer["id"]) == (user["id"], True)


async def test_running_waiting_and_cancelled_turns_are_in_the_history(service: Service, upstream: Upstream):
    async with service.socket() as socket:
        upstream.script(endless)
        await socket.send(type="message", content="One")
        running = await socket.until("token")
        conversation_id = running["conversation_id"]
        [run] = (await page(service, conversation_id)).values()
        assert (run["id"], run["status"], run["error"], run["ended_at"]) == (running["run_id"], "running", None, None)
        await socket.send(type="cancel", run_id=running["run_id"])
        await socket.until("cancelled")
        [run] = (await page(service, conversation_id)).values()
        assert (run["id"], run["status"], run["error"]) == (running["run_id"], "cancelled", None)

        upstream.calls(("call_1", "draw", "{}"))
        await socket.send(type="message", content="Two", conversation_id=conversation_id, client_tools=["draw"])
        called = await socket.until("tool_call")
        await _waits(service, called["run_id"])
        runs = await page(service, conversation_id)
        assert [run["status"] for run in runs.values()] == ["cancelled", "waiting"]
        await socket.send(type="tool_result", run_id=called["run_id"], tool_call_id="call_1", result="done")
        await socket.until("complete")
        assert [run["status"] for run in (await page(service, conversation_id)).values()] == ["cancelled"]


async def _waits(service: Service, run_id: str) -> None:
    while (await service.get(f"/api/runs/{run_id}"))["status"] != "waiting":
        await asyncio.sleep(0)
