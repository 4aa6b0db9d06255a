"""Sums of tokens in SQLite."""

import sqlite3
from collections.abc import Sequence

from app.adapters.outbound.persistence.sqlite.database import Database
from app.core.ports import UsageRow

_ADD = """
    INSERT INTO usage (user_id, day, model, conversation_id, requests, input_tokens, output_tokens)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET requests = requests + excluded.requests,
        input_tokens = input_tokens + excluded.input_tokens, output_tokens = output_tokens + excluded.output_tokens
"""


class SqliteUsage:
    """An `IUsageRepository` over SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, rows: Sequence[UsageRow]) -> None:
        values = [
            (row.user_id, row.day, row.model, row.conversation_id, row.requests, row.input_tokens, row.output_tokens)
            for row in rows
        ]

        def job(connection: sqlite3.Connection) -> None:
            connection.executemany(_ADD, values)

        await self._database.write(job)

    async def sums(
        self, user_id: str, *, since: str, until: str, conversation_id: str | None = None
    ) -> Sequence[UsageRow]:
        conditions, values = "user_id = ? AND day BETWEEN ? AND ?", [user_id, since, until]
        if conversation_id is not None:
            conditions, values = f"{conditions} AND conversation_id = ?", [*values, conversation_id]
        query = (
            "SELECT day, model, sum(requests), sum(input_tokens), sum(output_tokens) FROM usage "
            f"WHERE {conditions} GROUP BY day, model ORDER BY day, model"
        )
        rows = await self._database.read(lambda connection: connection.execute(query, values).fetchall())
        return [UsageRow(day, user_id, model, conversation_id or "", *figures) for day, model, *figures in rows]
