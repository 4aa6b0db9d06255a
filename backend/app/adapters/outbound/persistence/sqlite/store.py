"""The SQLite store: its repositories over one database."""

import sqlite3
from pathlib import Path

from app.adapters.outbound.persistence.sqlite.conversations import SqliteConversations
from app.adapters.outbound.persistence.sqlite.database import Database
from app.adapters.outbound.persistence.sqlite.messages import SqliteMessages
from app.adapters.outbound.persistence.sqlite.runs import SqliteRuns
from app.adapters.outbound.persistence.sqlite.usage import SqliteUsage
from app.adapters.outbound.persistence.sqlite.workshop import SqliteSkills, SqliteWorkflows

FILE = "atelier.sqlite3"


class SqliteStore:
    """An open SQLite file."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.conversations = SqliteConversations(database)
        self.messages = SqliteMessages(database)
        self.runs = SqliteRuns(database)
        self.usage = SqliteUsage(database)
        self.workflows = SqliteWorkflows(database)
        self.skills = SqliteSkills(database)

    async def ping(self) -> None:
        """Answer if the file can be read and a transaction can be written."""
        await self._database.write(_touch)

    async def close(self) -> None:
        """Finish what is queued, and close the file."""
        await self._database.close()


def open_sqlite(folder: Path) -> SqliteStore:
    """Open the store in `folder`, making folder and file where they are missing.

    Raises:
        StorageUnavailable: the folder cannot be written, or another process holds it.
    """
    return SqliteStore(Database(folder / FILE))


def _touch(connection: sqlite3.Connection) -> None:
    """Write what is there already: a transaction that changes nothing and still needs room on the disk."""
    [version] = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version:d}")
