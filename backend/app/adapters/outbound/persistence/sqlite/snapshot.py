"""Copies of the SQLite file: taken while it is in use, whole or not at all, and looked through."""

import contextlib
import os
import sqlite3
from pathlib import Path

from app.adapters.outbound.persistence.sqlite import search_index
from app.adapters.outbound.persistence.sqlite.errors import damaged
from app.adapters.outbound.private_file import open_private

_COUNTED = ("conversations", "messages", "runs", "workflows", "skills")


def copy_database(connection: sqlite3.Connection, to: Path) -> Path:
    """Copy what is committed to a file of its own, readable by its owner alone, whole or not at all.

    Raises:
        sqlite3.Error: it cannot be read, or there is no room.
        OSError: the file cannot be made.
    """
    half_written = to.with_name(f"{to.name}.part")
    try:
        open_private(half_written).close()
        with contextlib.closing(sqlite3.connect(half_written, isolation_level=None)) as target:
            connection.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")
        with half_written.open("rb") as written:
            os.fsync(written.fileno())
        half_written.replace(to)
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            half_written.with_name(half_written.name + suffix).unlink(missing_ok=True)
    return to


def copy_file(path: Path, to: Path) -> None:
    """Copy the database at `path`, which a service may be using.

    Raises:
        sqlite3.Error: it cannot be read, or there is no room.
        OSError: the file cannot be made.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as source:
        copy_database(source, to)


def examine(copy: Path) -> tuple[dict[str, int], int]:
    """How many rows a copy has, and the version of its schema, once it is known to be whole.

    A search index that is damaged is left out: it is built again when the copy is opened.

    Raises:
        StorageDamaged: it is damaged.
    """
    with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        try:
            if search_index.find_file_faults(connection):
                if list(search_index.find_table_faults(connection)):
                    raise damaged()
                search_index.discard(connection)
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            counts = {
                name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
                for name in _COUNTED
                if name in tables
            }
            return counts, connection.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise damaged() from error
