"""Damaged SQLite files: pages are zeroed, bytes flipped, files cut, and the service says what is true."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from app.adapters.inbound.cli import check as check_command
from app.adapters.outbound.persistence.sqlite import SqliteStore, open_sqlite
from app.adapters.outbound.persistence.sqlite import database as sqlite_database
from app.adapters.outbound.persistence.sqlite.search_index import NAME
from app.adapters.outbound.persistence.sqlite.store import FILE
from app.core.domain.conversation import Conversation
from app.core.domain.errors import StorageDamaged
from app.core.domain.message import Message, MessageRole
from app.core.services.checker import check_all

PAGE = 4_096
MESSAGES = 400


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[SqliteStore]:
    store = await asyncio.to_thread(open_sqlite, folder)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """A data folder with a conversation, closed cleanly."""
    async with opened(tmp_path / "data") as store:
        conversation = Conversation(user_id="ann", title="Plans for the garden", message_count=MESSAGES)
        messages = [
            Message(
                conversation_id=conversation.id,
                id=f"m{seq}",
                seq=seq,
                parent_id=f"m{seq - 1}" if seq > 1 else None,
                role=MessageRole.USER if seq % 2 else MessageRole.ASSISTANT,
                content=f"Message {seq} " + " ".join(f"word{(seq * n) % 5_003}" for n in range(1, 60)),
            )
            for seq in range(1, MESSAGES + 1)
        ]
        conversation.head_message_id = f"m{MESSAGES}"
        await store.conversations.restore(conversation, messages)
    return tmp_path / "data"


def pages_of(folder: Path, table: str) -> list[int]:
    """The numbers of a table's pages, its root first."""
    copy = folder.parent / "looked-at.sqlite3"
    shutil.copy(folder / FILE, copy)
    with closing(sqlite3.connect(copy)) as connection:
        rows = connection.execute("SELECT pageno FROM dbstat WHERE name = ? ORDER BY path", (table,)).fetchall()
    return [number for (number,) in rows]


def zero(folder: Path, page: int) -> None:
    with (folder / FILE).open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(bytes(PAGE))


def flip(folder: Path, page: int) -> None:
    """Turn over the bytes of a page behind its header."""
    with (folder / FILE).open("r+b") as file:
        file.seek((page - 1) * PAGE + 200)
        data = file.read(2_000)
        file.seek((page - 1) * PAGE + 200)
        file.write(bytes(255 - byte for byte in data))


async def say(store: SqliteStore, text: str) -> None:
    [(conversation_id, _)] = await store.conversations.ids(limit=2)
    await store.messages.create(Message(conversation_id=conversation_id, role=MessageRole.USER, content=text))
    await store.conversations.increment_message_count(conversation_id, 1)


async def found(store: SqliteStore, q: str) -> int:
    return len((await store.conversations.list("ann", limit=5, q=q)).items)


async def whole(store: SqliteStore, messages: int) -> None:
    """Everything is there, searchable, and sound in the eyes of SQLite and of the checker."""
    [(conversation_id, _)] = await store.conversations.ids(limit=2)
    assert len(await store.messages.get_by_conversation_id(conversation_id)) == messages
    assert await found(store, "garden") == await found(store, "word49") == 1
    assert await store.faults() == []
    assert [violation async for violation in check_all(store)] == []


SHADOWS = [f"{NAME}_{part}" for part in ("data", "idx", "docsize", "config")]


@pytest.mark.parametrize("damage", [zero, flip])
@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("table", SHADOWS)
async def test_damaged_index_is_rebuilt_at_start(folder: Path, table: str, place: int, damage) -> None:
    damage(folder, pages_of(folder, table)[place])
    async with opened(folder) as store:
        await say(store, "Nothing is lost")
        assert await found(store, "lost") == 1
        await whole(store, MESSAGES + 1)


@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("table", SHADOWS)
async def test_index_damaged_while_running_is_rebuilt(
    folder: Path, table: str, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    zero(folder, pages_of(folder, table)[place])
    monkeypatch.setattr(sqlite_database, "take_mark", lambda _: True)
    async with opened(folder) as store:
        for number in range(20):
            await say(store, f"Nothing is lost {number} word{number}")
        assert await found(store, "lost") == 1
        await store.conversations.update((await store.conversations.ids(limit=1))[0][0], "ann", {"title": "My garden"})
    # Some damage shows only when that part of the index is read, as the next start does it.
    monkeypatch.setattr(sqlite_database, "take_mark", lambda _: False)
    async with opened(folder) as store:
        await whole(store, MESSAGES + 20)


async def test_search_that_meets_damage_rebuilds_and_answers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for page in pages_of(folder, f"{NAME}_data")[1:]:
        zero(folder, page)
    monkeypatch.setattr(sqlite_database, "take_mark", lambda _: True)
    async with opened(folder) as store:
        assert await found(store, "word49") == 1
        await whole(store, MESSAGES)


async def test_damaged_messages_are_refused_at_start(folder: Path) -> None:
    zero(folder, pages_of(folder, "messages")[5])
    with pytest.raises(StorageDamaged) as refused:
        open_sqlite(folder)
    assert not refused.value.retryable
    assert "atelier restore" in refused.value.message
    assert "Try again" not in refused.value.message


async def test_messages_damaged_while_running_say_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zero(folder, pages_of(folder, "messages")[5])
    monkeypatch.setattr(sqlite_database, "take_mark", lambda _: True)
    async with opened(folder) as store:
        [(conversation_id, _)] = await store.conversations.ids(limit=2)
        with pytest.raises(StorageDamaged) as refused:
            await store.messages.get_by_conversation_id(conversation_id)
        assert not refused.value.retryable
        assert any("messages" in fault or "malformed" in fault or "Page" in fault for fault in await store.faults())


async def test_half_a_file_is_refused_at_start(folder: Path) -> None:
    with (folder / FILE).open("r+b") as file:
        file.truncate((folder / FILE).stat().st_size // 2)
    with pytest.raises(StorageDamaged):
        open_sqlite(folder)


async def test_file_that_is_no_database_is_refused(folder: Path) -> None:
    with (folder / FILE).open("r+b") as file:
        file.write(b"#" * 100)
    with pytest.raises(StorageDamaged):
        open_sqlite(folder)


async def test_truncated_wal_loses_only_what_was_cut(folder: Path, tmp_path: Path) -> None:
    left = tmp_path / "left"
    async with opened(folder) as store:
        for number in range(5):
            await say(store, f"Said {number}")
        shutil.copytree(folder, left)  # as a process leaves it that is killed
    wal = left / f"{FILE}-wal"
    with wal.open("r+b") as file:
        file.truncate(wal.stat().st_size - 100)
    async with opened(left) as store:
        [(conversation_id, _)] = await store.conversations.ids(limit=2)
        kept = len(await store.messages.get_by_conversation_id(conversation_id))
        assert MESSAGES <= kept <= MESSAGES + 5
        assert await store.faults() == []


async def test_only_an_unclean_end_costs_a_check(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with opened(folder):
        assert "checking the database" not in caplog.text
    shutil.copytree(folder, folder.parent / "copy")
    (folder.parent / "copy" / "atelier.clean").unlink()
    async with opened(folder.parent / "copy"):
        assert "checking the database" in caplog.text


async def test_index_without_a_message_is_noticed_after_a_crash(folder: Path) -> None:
    with closing(sqlite3.connect(folder / FILE)) as connection, connection:
        connection.execute(
            f"INSERT INTO {NAME} ({NAME}, rowid, text) SELECT 'delete', place, text FROM searchable LIMIT 1"
        )
    async with opened(folder) as store:
        await whole(store, MESSAGES)


async def test_check_refuses_a_damaged_file_without_a_service(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zero(folder, pages_of(folder, "messages")[3])
    assert await asyncio.to_thread(check_command.run, folder) == 2
    assert "The database file is damaged" in capsys.readouterr().err


async def test_check_works_beside_a_running_service(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with opened(folder) as store:
        await say(store, "Still running")
        assert await asyncio.to_thread(check_command.run, folder) == 0
        assert "0 violations found." in capsys.readouterr().out
        await say(store, "And writing")


async def test_check_finds_damage_beside_a_running_service(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = pages_of(folder, "messages")[5]
    async with opened(folder):
        zero(folder, page)
        assert await asyncio.to_thread(check_command.run, folder) == 1
        assert "is damaged. Restore a backup" in capsys.readouterr().out
