"""Browser sessions in SQLite."""

import sqlite3
from datetime import datetime

from app.adapters.outbound.persistence.sqlite.database import Database
from app.core.domain.time import from_micros, to_micros
from app.core.ports import Session


class SqliteSessions:
    """An `ISessionRepository` over SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, session: Session) -> None:
        row = (session.digest, session.user_id, session.token_mark, to_micros(session.expires_at))

        def job(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO sessions (digest, user_id, token_mark, expires_at) VALUES (?, ?, ?, ?)", row
            )

        await self._database.write(job)

    async def get(self, digest: str) -> Session | None:
        query = "SELECT digest, user_id, token_mark, expires_at FROM sessions WHERE digest = ?"
        row = await self._database.read(lambda connection: connection.execute(query, (digest,)).fetchone())
        return None if row is None else Session(row[0], row[1], row[2], from_micros(row[3]))

    async def remove(self, digest: str) -> None:
        def job(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM sessions WHERE digest = ?", (digest,))

        await self._database.write(job)

    async def remove_ended(self, now: datetime, token_mark: str) -> int:
        values = (to_micros(now), token_mark)

        def job(connection: sqlite3.Connection) -> int:
            return connection.execute("DELETE FROM sessions WHERE expires_at <= ? OR token_mark <> ?", values).rowcount

        return await self._database.write(job)
