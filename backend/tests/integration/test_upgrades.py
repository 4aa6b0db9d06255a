"""Data that an earlier version wrote is kept, and works with this one."""

import sqlite3
from pathlib import Path
from uuid import uuid4

import pytest

from app.adapters.outbound.persistence.mongo import open_mongo
from app.adapters.outbound.persistence.sqlite import open_sqlite
from app.adapters.outbound.persistence.sqlite.migrations import MIGRATIONS
from app.core.domain.conversation import Conversation
from app.core.domain.errors import MessageConflict
from app.core.domain.run import OnBusy, Run, RunStatus
from app.core.ports import Acceptance, Place, Store
from tests.contract.test_runs import accept, answer, finish, lease

BEFORE_IDS_COUNTED_IN_CONVERSATIONS = 3
OLD_ROWS = """
    INSERT INTO conversations (number, id, user_id, title, spans, forks, message_count, last_seq, head_message_id,
                               active_run_id, lease_owner, lease_expires_at, created_at, updated_at)
    VALUES (1, 'c', 'ann', 'Old', '[[1,null]]', '[]', 2, 2, 'a1', 'r2', 'dead', 0, 1, 1);
    INSERT INTO messages (place, conversation, id, role, content, created_at)
    VALUES ((1 << 32) + 1, 1, 'm1', 'user', 'hi', 1), ((1 << 32) + 2, 1, 'a1', 'assistant', 'yes', 2);
    INSERT INTO runs (id, conversation, user_id, message_id, status, place_in_queue, model, answer_id, last_message_id,
                      request, options, last_seq, outline, created_at)
    VALUES ('r1', 1, 'ann', 'm1', 'completed', NULL, 'demo@offline', 'x', 'a1', NULL, NULL, 3,
            '[[1,"accepted",{"queued":false}]]', 1),
           ('r2', 1, 'ann', 'again', 'running', NULL, 'demo@offline', 'y', NULL, NULL, '{"input_id":"m1"}', 1, '[]', 2),
           ('r3', 1, 'ann', 'm2', 'queued', 1, 'demo@offline', 'z', NULL, '{"content":"later"}', NULL, 1,
            '[[1,"accepted",{"queued":true}]]', 3);
"""


async def test_runs_of_an_earlier_sqlite_file_are_kept(tmp_path: Path):
    old = sqlite3.connect(tmp_path / "atelier.sqlite3", isolation_level=None)
    for migration in MIGRATIONS[:BEFORE_IDS_COUNTED_IN_CONVERSATIONS]:
        old.executescript(migration)
    old.execute(f"PRAGMA user_version = {BEFORE_IDS_COUNTED_IN_CONVERSATIONS}")
    old.executescript(OLD_ROWS)
    old.close()
    store = open_sqlite(tmp_path)
    try:
        await _is_kept(store, "c")
    finally:
        await store.close()


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_runs_of_an_earlier_mongodb_database_are_kept(mongodb_url: str, driver: str):
    database = f"test_{uuid4().hex}"
    store = await open_mongo(mongodb_url, database, driver=driver)
    first = (await accept(store, Conversation(id="c", user_id="ann"), message_id="m1")).run
    await finish(store, first, answer(first))
    again = first.model_copy(update={"id": "r2", "message_id": "again", "input_id": "m1", "status": RunStatus.RUNNING})
    await store.runs.accept(_answered_again(again))
    await accept(store, "c", message_id="m2", content="later")
    runs = store.collections.runs
    await runs.update_many({}, {"$unset": {"input_id": "", "takeovers": ""}})
    by_user, by_conversation = [("user_id", 1), ("message_id", 1)], [("conversation_id", 1), ("message_id", 1)]
    for name, index in (await runs.index_information()).items():
        if index["key"] in (by_user, by_conversation):
            await runs.drop_index(name)
    await runs.create_index(by_user, unique=True)
    await store.close()
    for _ in range(2):
        store = await open_mongo(mongodb_url, database, driver=driver)
        indexes = (await store.collections.runs.index_information()).values()
        assert {str(index["key"]): bool(index.get("unique")) for index in indexes}.items() >= {
            (str(by_user), False),
            (str(by_conversation), True),
        }
        await _is_kept(store, "c")
        await store.close()


def _answered_again(run: Run) -> Acceptance:
    return Acceptance(run=run, message=None, on_busy=OnBusy.REJECT, lease=lease("dead", -1), go_on_from=Place(1, "m1"))


async def _is_kept(store: Store, conversation_id: str) -> None:
    """The conversation of an earlier version has its runs, and its ids are no longer taken in others."""
    again = await accept(store, conversation_id, message_id="m1")
    assert (again.is_new, again.run.status) == (False, RunStatus.COMPLETED)
    assert (await accept(store, Conversation(user_id="ann"), message_id="m1")).run.id == again.run.id
    with pytest.raises(MessageConflict):
        await accept(store, conversation_id, message_id="m1", content="ho")
    answering = await store.runs.answering(conversation_id, ["m1"])
    assert [state.id for state in answering] == [again.run.id, "r2"]
    waiting = await accept(store, conversation_id, message_id="m2", content="later")
    assert (waiting.is_new, waiting.run.request) == (False, {"content": "later"})
    other = Conversation(user_id="ann")
    await store.conversations.create(other)
    assert (await accept(store, other.id, message_id="m1", content="ho")).is_new
    await store.conversations.delete(other.id, "ann")
