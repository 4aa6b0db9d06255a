"""The full-text index: derived data, kept beside what it is derived from and never in its way.

It covers a view of texts: each message under its place, and each title under the place 0 of its conversation. Triggers
note in `text_changes` which texts a transaction changes, and with the transaction that note is on disk. The index takes
the changes in afterwards, in a transaction of its own. So a damaged index keeps nobody from writing, and is built again.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Generator, Iterator

from app.adapters.outbound.persistence.sqlite.errors import damaged, is_damage

logger = logging.getLogger(__name__)

NAME = "search_index"
FORMER = "message_text"
"""The index of schema versions up to 3."""

_CREATE = f"""
    CREATE VIRTUAL TABLE {NAME} USING fts5 (
        text, content = 'searchable', content_rowid = 'place', tokenize = 'unicode61 remove_diacritics 0'
    )
"""
_NOT_NOTED = "AND NOT EXISTS (SELECT 1 FROM text_changes)"
_BLOCK = 1_000
"""Changes that are brought into the index at once."""

_ADD = f"INSERT INTO {NAME} (rowid, text) VALUES (?, ?)"
_CHANGES = f"SELECT number, place, text, is_new FROM text_changes ORDER BY number LIMIT {_BLOCK}"
_REMOVE = f"INSERT INTO {NAME} ({NAME}, rowid, text) VALUES ('delete', ?, ?)"


def apply_changes(connection: sqlite3.Connection) -> None:
    """Bring the texts that were changed into the index, with no transaction open.

    Where the machine loses power before this is on disk, the note is there still: nothing has to be synchronised.

    Raises:
        sqlite3.Error: the index does not take them; they stay noted.
    """
    while changes := connection.execute(_CHANGES).fetchall():
        connection.execute("PRAGMA synchronous = NORMAL")
        try:
            with transaction(connection):
                for _, place, text, is_new in changes:
                    connection.execute(_ADD if is_new else _REMOVE, (place, text))
                connection.execute("DELETE FROM text_changes WHERE number <= ?", (changes[-1][0],))
        finally:
            connection.execute("PRAGMA synchronous = FULL")


def ensure(connection: sqlite3.Connection, *, thorough: bool) -> None:
    """Make the index where it is missing, and bring it up to date.

    Args:
        connection: the one that writes, with no transaction open.
        thorough: look whether the index has every text, and rebuild it where not.

    Raises:
        StorageDamaged: more than the index is damaged.
    """
    if _exists(connection, FORMER):
        try:
            connection.execute(f"DROP TABLE {FORMER}")
        except sqlite3.Error:
            _forget(connection)
    if not _exists(connection, NAME):
        logger.info("building the search index")
        _build(connection)
        return
    try:
        apply_changes(connection)
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        rebuild(connection)
        return
    if thorough and (faults := list(find_faults(connection))):
        logger.warning("the search index is damaged (%s)", faults[0])
        rebuild(connection)


def rebuild(connection: sqlite3.Connection) -> None:
    """Replace an index that is damaged, with no transaction open.

    Raises:
        StorageDamaged: more than the index is damaged; nothing has changed.
    """
    if faults := list(find_table_faults(connection)):
        raise damaged(f" beyond its search index ({faults[0]})")
    logger.warning("building the search index again")
    discard(connection)
    _build(connection)
    logger.warning("the search index is complete again")


def discard(connection: sqlite3.Connection) -> None:
    """Leave a damaged index behind.

    Nothing of it is read, nor are its pages freed: a damaged page may name pages that belong to others. It is taken
    out of the schema, and copying the rest of the file drops its pages.
    """
    _forget(connection)
    try:
        connection.execute("VACUUM")
    except sqlite3.OperationalError as error:
        logger.warning("the room of the damaged search index is not given back yet (%s)", error)


def find_faults(connection: sqlite3.Connection) -> Iterator[str]:
    """What is wrong with the index, found by reading it: its pages, and whether it has each text and no other."""
    try:
        if not _exists(connection, NAME):
            yield "the search index is missing"
            return
        for table in _shadows(connection, NAME):
            yield from _quick_check(connection, table)
        for query in (
            f"SELECT 1 FROM searchable WHERE place NOT IN (SELECT id FROM {NAME}_docsize) {_NOT_NOTED} LIMIT 1",
            f"SELECT 1 FROM {NAME}_docsize WHERE id NOT IN (SELECT place FROM searchable) {_NOT_NOTED} LIMIT 1",
        ):
            if connection.execute(query).fetchone() is not None:
                yield "the search index does not agree with the messages"
        connection.execute(f"SELECT count(*) FROM {NAME} WHERE {NAME} MATCH '\"a\"'").fetchone()
    except sqlite3.DatabaseError as error:
        yield f"the search index cannot be read ({error})"


def find_deep_faults(connection: sqlite3.Connection) -> Iterator[str]:
    """What FTS5's own check finds, which compares the index with every text; it needs a connection that may write."""
    try:
        connection.execute(f"INSERT INTO {NAME} ({NAME}, rank) VALUES ('integrity-check', 1)")
    except sqlite3.DatabaseError as error:
        yield f"the search index is damaged ({error})"


def find_file_faults(connection: sqlite3.Connection, check: str = "integrity_check") -> list[str]:
    """What SQLite's check of the whole file finds."""
    try:
        rows = connection.execute(f"PRAGMA {check}").fetchall()
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return [line for (text,) in rows if text != "ok" for line in first_lines(text)]


def find_table_faults(connection: sqlite3.Connection) -> Iterator[str]:
    """What is wrong with the tables that everything else is derived from."""
    try:
        tables = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY rowid"
        ).fetchall()
    except sqlite3.DatabaseError as error:
        yield str(error)
        return
    derived = (f"{NAME}_", f"{FORMER}_", "sqlite_")
    for (name,) in (row for row in tables if not row[0].startswith(derived)):
        yield from _quick_check(connection, name)


def _quick_check(connection: sqlite3.Connection, table: str) -> Iterator[str]:
    try:
        rows = connection.execute(f"PRAGMA quick_check('{table}')").fetchall()
    except sqlite3.DatabaseError as error:
        yield f"table {table}: {error}"
        return
    yield from (f"table {table}: {line}" for (text,) in rows if text != "ok" for line in first_lines(text))


def first_lines(text: str) -> list[str]:
    """The first findings of SQLite's check: a page that is lost makes thousands of them."""
    lines = [line for line in text.splitlines() if line and not line.startswith("***")]
    return lines[:3]


def _exists(connection: sqlite3.Connection, table: str) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (table,)).fetchone() is not None


def _shadows(connection: sqlite3.Connection, table: str) -> list[str]:
    """The tables that FTS5 keeps the index `table` in."""
    names = [f"{table}_{part}" for part in ("data", "idx", "docsize", "config")]
    return [name for name in names if _exists(connection, name)]


def _forget(connection: sqlite3.Connection) -> None:
    """Take the indexes out of the schema without touching their pages."""
    names = [name for table in (NAME, FORMER) for name in (table, *_shadows(connection, table))]
    connection.execute("PRAGMA writable_schema = ON")
    try:
        with transaction(connection):
            connection.executemany("DELETE FROM sqlite_schema WHERE name = ?", [(name,) for name in names])
    finally:
        connection.execute("PRAGMA writable_schema = RESET")


def _build(connection: sqlite3.Connection) -> None:
    with transaction(connection):
        connection.execute(_CREATE)
        connection.execute(f"INSERT INTO {NAME} ({NAME}) VALUES ('rebuild')")
        connection.execute("DELETE FROM text_changes")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None]:
    """All that is written in the block, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise
