"""Messages in SQLite."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from app.adapters.outbound.persistence.rows import dump, load, split_content
from app.adapters.outbound.persistence.sqlite.database import Database
from app.adapters.outbound.persistence.sqlite.rows import SEQ_MASK, place_of, to_message
from app.core.domain.conversation import Conversation, Span, clip_spans
from app.core.domain.errors import NotFound
from app.core.domain.message import Message
from app.core.domain.time import to_micros, utc_now


class SqliteMessages:
    """An `IMessageRepository` over SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, message: Message) -> Message:
        def job(connection: sqlite3.Connection) -> None:
            row = connection.execute("SELECT * FROM conversations WHERE id = ?", (message.conversation_id,)).fetchone()
            if row is None:
                raise NotFound("There is no such conversation.")
            tip = Tip.of(row)
            append(connection, tip, [message])
            connection.execute(
                "UPDATE conversations SET head_message_id = ?, last_seq = ?, updated_at = ? WHERE number = ?",
                (tip.head, tip.last_seq, to_micros(utc_now()), tip.number),
            )

        await self._database.write(job)
        return message

    async def get_by_conversation_id(self, conversation_id: str) -> list[Message]:
        def job(connection: sqlite3.Connection) -> list[sqlite3.Row]:
            row = connection.execute(
                "SELECT number, spans FROM conversations WHERE id = ?", (conversation_id,)
            ).fetchone()
            if row is None:
                return []
            spans: list[Span] = load(row["spans"])
            return [found for span in clip_spans(spans) for found in _range(connection, row["number"], *span)]

        return [to_message(row, conversation_id) for row in await self._database.read(job)]

    async def get_many(self, conversation_id: str, message_ids: Sequence[str]) -> list[Message]:
        def job(connection: sqlite3.Connection) -> list[sqlite3.Row]:
            query = (
                "SELECT * FROM messages WHERE conversation = (SELECT number FROM conversations WHERE id = ?) AND id = ?"
            )
            rows = (connection.execute(query, (conversation_id, key)).fetchone() for key in message_ids)
            return sorted((row for row in rows if row is not None), key=lambda row: row["place"])

        return [to_message(row, conversation_id) for row in await self._database.read(job)]

    async def page(
        self, conversation: Conversation, *, limit: int, before: int | None = None, after: int | None = None
    ) -> list[Message]:
        spans = clip_spans(conversation.spans, before=before, after=after)

        def job(connection: sqlite3.Connection) -> list[sqlite3.Row]:
            number = _number(connection, conversation.id)
            if number is None:
                return []
            rows: list[sqlite3.Row] = []
            forward = after is not None
            for first, last in spans if forward else reversed(spans):
                rows += _range(connection, number, first, last, limit=limit - len(rows), forward=forward)
                if len(rows) >= limit:
                    break
            return rows if forward else rows[::-1]

        return [to_message(row, conversation.id) for row in await self._database.read(job)]

    async def all(self, conversation_id: str, *, limit: int, after: int = 0) -> list[Message]:
        def job(connection: sqlite3.Connection) -> list[sqlite3.Row]:
            number = _number(connection, conversation_id)
            return [] if number is None else _range(connection, number, after + 1, 2**62, limit=limit)

        return [to_message(row, conversation_id) for row in await self._database.read(job)]


@dataclass(slots=True)
class Tip:
    """The end of a conversation's active branch, as messages are put behind it."""

    number: int
    last_seq: int
    head: str | None
    count: int

    @classmethod
    def of(cls, row: sqlite3.Row) -> "Tip":
        """The tip that a row of `conversations` tells."""
        return cls(row["number"], row["last_seq"], row["head_message_id"], row["message_count"])


def append(connection: sqlite3.Connection, tip: Tip, messages: Sequence[Message]) -> None:
    """Put messages at the end of the active branch, move the tip, and give each its `seq` and `parent_id`.

    One that is there already, under its id, stays as it is. The conversation's row is left to the caller.
    """
    for message in messages:
        message.seq, message.parent_id = tip.last_seq + 1, tip.head
        if insert_message(connection, tip.number, message):
            tip.last_seq, tip.head, tip.count = message.seq, message.id, tip.count + 1
            continue
        row = connection.execute(
            "SELECT place, parent_id FROM messages WHERE conversation = ? AND id = ?", (tip.number, message.id)
        ).fetchone()
        message.seq, message.parent_id = row["place"] & SEQ_MASK, row["parent_id"]


def insert_message(connection: sqlite3.Connection, number: int, message: Message) -> bool:
    """Write one message whose `seq` is given; whether its id is new in the conversation."""
    text, parts = split_content(message.content)
    written = connection.execute(
        "INSERT INTO messages (place, conversation, id, parent_id, role, content, parts, metadata, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (conversation, id) DO NOTHING",
        (
            place_of(number, message.seq or 0),
            number,
            message.id,
            message.parent_id,
            message.role.value,
            text,
            parts,
            dump(message.metadata) if message.metadata else None,
            to_micros(message.created_at),
        ),
    )
    return written.rowcount > 0


def _number(connection: sqlite3.Connection, conversation_id: str) -> int | None:
    row = connection.execute("SELECT number FROM conversations WHERE id = ?", (conversation_id,)).fetchone()
    return None if row is None else row["number"]


def _range(
    connection: sqlite3.Connection, number: int, first: int, last: int, *, limit: int = -1, forward: bool = True
) -> list[sqlite3.Row]:
    order = "ASC" if forward else "DESC"
    query = f"SELECT * FROM messages WHERE place BETWEEN ? AND ? ORDER BY place {order} LIMIT ?"
    return connection.execute(query, (place_of(number, first), place_of(number, last), limit)).fetchall()
