"""Data folders of earlier versions are opened by this one: what is in them stays, and a copy of them too."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app.adapters.outbound.persistence.sqlite import open_sqlite
from app.adapters.outbound.persistence.sqlite.migrations import MIGRATIONS
from app.adapters.outbound.persistence.sqlite.store import FILE
from app.core.domain.errors import StorageUnavailable
from app.core.domain.message import Message, MessageRole
from app.core.services.checker import check_all

VERSIONS = range(1, len(MIGRATIONS) + 1)

CONVERSATION = """
    INSERT INTO conversations (number, id, user_id, title, model, head_message_id, spans, forks, message_count, last_seq,
                               created_at, updated_at)
    VALUES (1, 'c1', 'ann', 'Old garden plans', 'demo@offline', 'm3', '[[1,1],[3,null]]', '[[3,1]]', 3, 3, 10, 20)
"""
MESSAGE = """
    INSERT INTO messages (place, conversation, id, parent_id, role, content, created_at)
    VALUES (4294967296 + ?, 1, ?, ?, ?, ?, 10)
"""
MESSAGES = [
    (1, "m1", None, "user", "Which roses?"),
    (2, "m2", "m1", "assistant", "Red ones."),
    (3, "m3", "m1", "assistant", "White ones."),
]
RUN = """
    INSERT INTO runs (id, conversation, user_id, message_id, status, model, answer_id, last_message_id, last_seq, outline,
                      created_at, started_at, ended_at)
    VALUES (?, 1, 'ann', 'm1', 'completed', 'demo@offline', 'a', ?, ?, ?, 10, 10, 20)
"""
SKILL = """
    INSERT INTO skills (user_id, slug, name, description, instructions, created_at, updated_at)
    VALUES ('ann', 'prune', 'Prune', 'How', 'Cut.', 10, 10)
"""
OUTLINE = (
    '[[1,"accepted",{"message_id":"m1","queued":false}],[2,"started",{"model":"demo@offline"}],[3,"message","m1"],'
    '[4,"message","m2"],[5,"complete",{"message_id":"m2"}]]'
)


def made(folder: Path, version: int) -> None:
    """A data folder as the schema of `version` had it."""
    folder.mkdir()
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for number in range(version):
            connection.executescript(f"BEGIN;{MIGRATIONS[number]}PRAGMA user_version = {number + 1};COMMIT;")
        connection.execute(CONVERSATION)
        connection.executemany(MESSAGE, MESSAGES)
        connection.execute(RUN, ("r1", "m2", 5, OUTLINE))
        if version >= 2:
            connection.execute("INSERT INTO usage VALUES ('ann', '2026-01-01', 'demo@offline', 'c1', 1, 20, 30)")
        if version >= 3:
            connection.execute(SKILL)


@pytest.mark.parametrize("version", VERSIONS)
async def test_earlier_schema_is_opened_whole(tmp_path: Path, version: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    made(tmp_path / "data", version)
    store = open_sqlite(tmp_path / "data")
    try:
        kept = await store.conversations.get("c1", "ann")
        assert kept is not None
        assert (kept.title, kept.forks, kept.message_count) == ("Old garden plans", [(3, 1)], 3)
        assert [message.content for message in await store.messages.get_by_conversation_id("c1")] == [
            "Which roses?",
            "White ones.",
        ]
        for q in ("garden", "roses", "red"):
            assert [c.id for c in (await store.conversations.list("ann", limit=5, q=q)).items] == ["c1"]
        assert [run.id for run in await store.runs.of_conversation("c1")] == ["r1"]
        assert len(await store.skills.list("ann")) == (version >= 3)
        assert len(await store.usage.sums("ann", since="0001-01-01", until="9999-12-31")) == (version >= 2)
        said = await store.messages.create(Message(conversation_id="c1", role=MessageRole.USER, content="And tulips?"))
        await store.conversations.increment_message_count("c1", 1)
        assert (said.seq, said.parent_id) == (4, "m3")
        assert await store.faults() == []
        assert [violation async for violation in check_all(store)] == []
    finally:
        await store.close()
    copies = list((tmp_path / "data").glob("atelier.schema-*.sqlite3"))
    if version == len(MIGRATIONS):
        assert copies == []
        return
    assert [copy.name for copy in copies] == [f"atelier.schema-{version}.sqlite3"]
    assert copies[0].name in caplog.text
    assert copies[0].stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(copies[0])) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (version,)
        assert connection.execute("SELECT count(*) FROM messages").fetchone() == (3,)


async def test_copies_of_the_same_schema_stay_both(tmp_path: Path) -> None:
    for name in ("one", "two"):
        made(tmp_path / name, 1)
        if name == "two":
            (tmp_path / name / "atelier.schema-1.sqlite3").write_text("an older copy")
        await open_sqlite(tmp_path / name).close()
    names = {path.name for path in (tmp_path / "two").glob("*schema*")}
    assert names == {"atelier.schema-1.sqlite3", "atelier.schema-1-2.sqlite3"}
    assert (tmp_path / "two" / "atelier.schema-1.sqlite3").read_text() == "an older copy"


async def test_a_newer_schema_is_refused_untouched(tmp_path: Path) -> None:
    made(tmp_path / "data", len(MIGRATIONS))
    with closing(sqlite3.connect(tmp_path / "data" / FILE)) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(StorageUnavailable, match="or a newer one"):
        open_sqlite(tmp_path / "data")
    assert list((tmp_path / "data").glob("*schema*")) == []
