"""The service on MongoDB's wire: the same, with nothing set but its address."""

from uuid import uuid4

import pytest
from mongomock_motor import AsyncMongoMockClient

from app.adapters.outbound.persistence.mongo import MongoStore, open_mongo, search
from app.core.domain.conversation import Conversation
from app.core.domain.errors import SearchTooBroad, StorageUnavailable
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


async def test_texts_of_earlier_versions_become_searchable(mongodb_url: str):
    database = f"test_{uuid4().hex}"
    store = await open_mongo(mongodb_url, database, driver="pymongo")
    made = await store.conversations.create(Conversation(user_id="ann", title="Garden"))
    await store.messages.create(Message(conversation_id=made.id, role=MessageRole.USER, content="Roses, please"))
    assert store._upgrading is not None
    await store._upgrading
    for collection, text in (
        (store.collections.conversations, " garden"),
        (store.collections.messages, " roses please"),
    ):
        await collection.update_many({}, {"$set": {"search": text}, "$unset": {"words": ""}})
    await store.collections.messages.update_many({}, {"$unset": {"user_id": ""}})
    await store.collections.upgrades.delete_many({})
    await store.close()
    store = await open_mongo(mongodb_url, database, driver="pymongo")
    assert store._upgrading is not None
    await store._upgrading
    for q in ("gard", "ros plea"):
        assert [c.id for c in (await store.conversations.list("ann", limit=5, q=q)).items] == [made.id]
    assert await store.collections.messages.count_documents({"search": {"$exists": True}}) == 0
    await store.close()


async def test_frequent_words_are_found_from_the_newest_on(mongodb_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(search, "_FEW", 3)
    monkeypatch.setattr(search, "_BLOCK", 2)
    store = await open_mongo(mongodb_url, f"test_{uuid4().hex}", driver="pymongo")
    made = [await store.conversations.create(Conversation(user_id="ann", title=f"Number {n}")) for n in range(7)]
    for conversation in made[:5]:
        await store.messages.create(Message(conversation_id=conversation.id, role=MessageRole.USER, content="frequent"))
    await store.conversations.update(made[6].id, "ann", {"title": "Frequent too"})
    first = await store.conversations.list("ann", limit=4, q="freq")
    rest = await store.conversations.list("ann", limit=4, q="freq", cursor=first.next_cursor)
    assert [c.id for c in first.items + rest.items] == [made[n].id for n in (6, 4, 3, 2, 1, 0)]
    await store.close()


async def test_a_search_that_takes_too_long_is_refused(mongodb_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(search, "MAX_SECONDS", 0.0)
    store = await open_mongo(mongodb_url, f"test_{uuid4().hex}", driver="pymongo")
    with pytest.raises(SearchTooBroad):
        await store.conversations.list("ann", limit=4, q="freq")
    await store.close()
