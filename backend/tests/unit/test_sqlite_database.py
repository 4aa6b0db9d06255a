"""The threads around the SQLite file: searches end in time and hold up nobody."""

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from app.adapters.outbound.persistence.sqlite import database as sqlite_database
from app.adapters.outbound.persistence.sqlite.database import Database
from app.core.domain.errors import SearchTooBroad

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def endless(connection: sqlite3.Connection) -> None:
    connection.execute(ENDLESS).fetchall()


async def test_a_search_that_takes_too_long_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_database, "SEARCH_SECONDS", 0.05)
    database = Database(tmp_path / "a.sqlite3")
    try:
        with pytest.raises(SearchTooBroad, match="more specific"):
            await database.search(endless)
        assert await database.search(lambda c: c.execute("SELECT 1").fetchone()[0]) == 1
    finally:
        await database.close()


async def test_reads_and_writes_pass_searches_and_each_other(tmp_path: Path) -> None:
    database = Database(tmp_path / "a.sqlite3")
    release = threading.Event()

    def blocked(_: sqlite3.Connection) -> None:
        assert release.wait(60)

    try:
        held = [asyncio.create_task(database.search(blocked)) for _ in range(4)]
        held.append(asyncio.create_task(database.read(blocked)))
        # One reader is held as well. The other one takes one after the other, and none waits behind the first.
        for number in range(100):
            read = await asyncio.gather(*(database.read(lambda _, n=number: n) for _ in range(8)))
            assert read == [number] * 8
            assert await database.write(lambda _, n=number: n) == number
    finally:
        release.set()
    await asyncio.gather(*held)
    await database.close()


async def test_a_search_that_nobody_waits_for_is_not_begun(tmp_path: Path) -> None:
    database = Database(tmp_path / "a.sqlite3")
    release, begun = threading.Event(), threading.Event()
    ran: list[int] = []

    def blocked(_: sqlite3.Connection) -> None:
        begun.set()
        assert release.wait(60)

    first = asyncio.create_task(database.search(blocked))
    await asyncio.to_thread(begun.wait, 60)
    second = asyncio.create_task(database.search(lambda _: ran.append(1)))
    await database.write(lambda _: None)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    release.set()
    await first
    await database.search(lambda _: None)
    assert ran == []
    await database.close()
