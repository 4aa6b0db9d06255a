"""The SQLite store: its repositories over one database."""

from collections.abc import Sequence
from pathlib import Path

from app.adapters.outbound.persistence.sqlite.conversations import SqliteConversations
from app.adapters.outbound.persistence.sqlite.database import Database, FolderInUse, ReadOnlyDatabase, touch
from app.adapters.outbound.persistence.sqlite.messages import SqliteMessages
from app.adapters.outbound.persistence.sqlite.runs import SqliteRuns
from app.adapters.outbound.persistence.sqlite.sessions import SqliteSessions
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
        self.sessions = SqliteSessions(database)

    async def ping(self) -> None:
        """Answer if the file can be read and a transaction can be written."""
        await self._database.write(touch)

    async def faults(self) -> Sequence[str]:
        """What is wrong with the file itself."""
        return await self._database.faults()

    async def close(self) -> None:
        """Finish what is queued, and close the file."""
        await self._database.close()


def open_sqlite(folder: Path) -> SqliteStore:
    """Open the store in `folder`, making folder and file where they are missing.

    Raises:
        StorageUnavailable: the folder cannot be written, or another process holds it.
    """
    return SqliteStore(Database(folder / FILE))


def open_sqlite_to_check(folder: Path) -> SqliteStore:
    """Open the store in `folder`; beside a process that serves it, only to be read.

    Raises:
        StorageUnavailable: the file cannot be read.
    """
    try:
        return open_sqlite(folder)
    except FolderInUse:
        return SqliteStore(ReadOnlyDatabase(folder / FILE))
