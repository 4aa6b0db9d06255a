"""The service on MongoDB's wire: the same, with nothing set but its address."""

from uuid import uuid4

import pytest
from mongomock_motor import AsyncMongoMockClient

from app.adapters.outbound.persistence.mongo import MongoStore
from app.core.domain.conversation import Conversation
from app.core.domain.errors import StorageUnavailable
from app.core.domain.message import Message, MessageRole
from app.core.domain.run import OnBusy, Run, RunStatus
from app.core.domain.time import utc_now
from app.core.ports import Acceptance, Lease, Step
from tests.client import kinds, text_of
from tests.integration.conftest import Start
from tests.upstream import Upstream, endless


@pytest.fixture(params=["motor", "pymongo"])
def mongo(request: pytest.FixtureRequest, mongodb_url: str) -> dict[str, str]:
    return {"mongodb_url": mongodb_url, "mongodb_database": f"test_{uuid4().hex}", "mongodb_driver": request.param}


async def test_a_conversation_is_kept_there_and_goes_on_after_a_restart(start: Start, mongo: dict[str, str]):
    demo = {**mongo, "openai_base_url": None, "openai_api_key": None, "default_model": None}
    first = await start(**demo)
    async with first.socket() as socket:
        frames = await socket.ask("What is 12 * 34?")
    assert kinds(frames)[-4:] == ["message", "token", "message", "complete"]
    assert "408" in text_of(frames)
    before = await first.history(frames[0]["conversation_id"])
    assert [(m["seq"], m["role"]) for m in before] == [(1, "user"), (2, "assistant"), (3, "tool"), (4, "assistant")]
    assert before[2]["metadata"]["tool_call_id"] == before[1]["metadata"]["tool_calls"][0]["id"]
    await first.stop()
    second = await start(**demo)
    assert await second.history(frames[0]["conversation_id"]) == before
    async with second.socket() as socket:
        for _ in range(3):
            await socket.ask("What is 2 + 2?", conversation_id=frames[0]["conversation_id"])
        await socket.send(type="attach", run_id=frames[0]["run_id"])
        await socket.until("complete", where=lambda frame: frame["run_id"] == frames[0]["run_id"])
        assert [frame for frame in socket.frames if frame.get("run_id") == frames[0]["run_id"]] == frames
    history = await second.history(frames[0]["conversation_id"])
    assert [m["seq"] for m in history] == list(range(1, 17))
    assert len({m["id"] for m in history}) == 16


async def test_queue_cancel_search_and_export_work_there(start: Start, mongo: dict[str, str], upstream: Upstream):
    service = await start(**mongo)
    upstream.script(endless)
    async with service.socket() as socket, service.http() as http:
        await socket.send(type="message", content="Once upon a time", message_id="m-1")
        seen = await socket.until("token")
        await socket.send(type="message", content="Second", conversation_id=seen["conversation_id"])
        assert (await socket.until("accepted"))["queued"] is True
        await socket.send(type="cancel", run_id=seen["run_id"])
        await socket.until("complete")
        found = (await http.get("/api/conversations", params={"q": "time once"})).json()["items"]
        assert [c["id"] for c in found] == [seen["conversation_id"]]
        document = (await http.get(f"/api/conversations/{seen['conversation_id']}/export")).json()
        assert [m["content"] for m in document["messages"]] == [
            "Once upon a time",
            "One ",
            "Second",
            "You said: Second",
        ]
        assert (await http.delete(f"/api/conversations/{seen['conversation_id']}")).status_code == 204
        back = await http.post("/api/conversations/import", json=document)
        assert await service.history(back.json()["id"]) == document["messages"]


async def test_a_run_whose_process_is_gone_is_taken_over(start: Start, mongo: dict[str, str], upstream: Upstream):
    upstream.script(endless)
    first = await start(**mongo)
    async with first.socket() as socket:
        await socket.send(type="message", content="Hello")
        seen = await socket.until("token")
        await first.stop()
    upstream.says("Hello ", "again")
    second = await start(**mongo)
    async with second.socket() as socket:
        await socket.send(type="attach", run_id=seen["run_id"], after=seen["seq"])
        await socket.until("complete")
        assert kinds(socket.frames[1:]) == ["reset", "token", "message", "complete"]
    assert [m["content"] for m in await second.history(seen["conversation_id"])] == ["Hello", "Hello again"]


async def test_a_server_that_is_not_there_is_told_with_the_setting_to_change(start: Start):
    with pytest.raises(StorageUnavailable, match="MONGODB_URL") as failure:
        await start(mongodb_url="mongodb://user:hunter2@127.0.0.1:1")
    assert "hunter2" not in failure.value.message


async def test_a_process_that_died_while_its_run_came_to_wait_leaves_a_run_that_goes_on():
    async def nothing() -> None:
        pass

    store = MongoStore(AsyncMongoMockClient()["test"], nothing)
    await store.collections.make_indexes()
    fresh, now = Conversation(user_id="ann"), utc_now()
    question = Message(conversation_id=fresh.id, role=MessageRole.USER, content="Draw.")
    run = Run(conversation_id=fresh.id, user_id="ann", model="demo@offline", message_id=question.id)
    await store.runs.accept(
        Acceptance(run=run, message=question, on_busy=OnBusy.REJECT, lease=Lease("dead", now), create=fresh)
    )
    held = (await store.collections.conversations.find_one({"_id": fresh.id}))["active_run"]
    run.status = RunStatus.WAITING
    await store.runs.commit(Step(run=run, owner="dead"))
    # It wrote that the run waits, and died before it gave its lease back.
    await store.collections.conversations.update_one({"_id": fresh.id}, {"$set": {"active_run": held}})
    (claimed,) = await store.runs.claim(Lease("alive", now), now=utc_now())
    assert claimed.run.status is RunStatus.RUNNING
    for _ in range(2):  # the first step must not give the new lease away
        await store.runs.commit(Step(run=claimed.run, owner="alive"))
