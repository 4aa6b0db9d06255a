"""Conversations in SQLite."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from app.adapters.outbound.persistence.rows import decode_cursor, dump, encode_cursor
from app.adapters.outbound.persistence.sqlite.amendments import amend
from app.adapters.outbound.persistence.sqlite.database import Database
from app.adapters.outbound.persistence.sqlite.messages import insert_message
from app.adapters.outbound.persistence.sqlite.rows import SEQ_BITS, to_conversation
from app.core.domain.conversation import Conversation, go_on_from
from app.core.domain.errors import ConversationBusy, NotFound
from app.core.domain.ids import new_id
from app.core.domain.message import Message
from app.core.domain.search import words_to_search
from app.core.domain.time import to_micros, utc_now
from app.core.ports import Amendment, ConversationPage, Place

_INSERT = """
    INSERT INTO conversations
        (id, user_id, title, model, system_prompt, head_message_id, last_seq, spans, forks, tool_approval,
         model_options, summary, message_count, archived, pinned, created_at, updated_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING number
"""
_SETTABLE = ("title", "model", "system_prompt", "archived", "pinned", "tool_approval", "model_options", "summary")


class SqliteConversations:
    """An `IConversationRepository` over SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, conversation: Conversation) -> Conversation:
        def job(connection: sqlite3.Connection) -> None:
            if is_taken(connection, conversation.id):
                raise NotFound("There is no such conversation.")
            insert_conversation(connection, conversation)

        await self._database.write(job)
        return conversation

    async def get(self, conversation_id: str, user_id: str) -> Conversation | None:
        row = await self._database.read(lambda connection: find(connection, conversation_id, user_id))
        return None if row is None else to_conversation(row)

    async def list(
        self, user_id: str, *, limit: int, cursor: str | None = None, q: str | None = None, archived: bool | None = None
    ) -> ConversationPage:
        conditions, parameters = ["user_id = ?"], list[Any]([user_id])
        if cursor is not None:
            moment, last = decode_cursor(cursor)
            conditions.append("(updated_at, id) < (?, ?)")
            parameters += [to_micros(moment), last]
        if archived is not None:
            conditions.append("archived = ?")
            parameters.append(archived)
        words = words_to_search(q)
        if words:
            conditions.append("number IN (SELECT rowid >> ? FROM search_index WHERE search_index MATCH ?)")
            parameters += [SEQ_BITS, " ".join(f'"{word}"*' for word in words)]
        query = (
            "SELECT * FROM conversations INDEXED BY conversations_by_activity "
            f"WHERE {' AND '.join(conditions)} ORDER BY updated_at DESC, id DESC LIMIT ?"
        )

        def job(connection: sqlite3.Connection) -> list[sqlite3.Row]:
            return connection.execute(query, [*parameters, limit + 1]).fetchall()

        rows = await (self._database.search(job) if words else self._database.read(job))
        found = [to_conversation(row) for row in rows]
        items = found[:limit]
        return ConversationPage(items, encode_cursor(items[-1]) if len(found) > limit else None)

    async def update(self, conversation_id: str, user_id: str, changes: dict[str, Any]) -> Conversation | None:
        chosen = {key: changes[key] for key in _SETTABLE if key in changes}
        for name in ("tool_approval", "model_options", "summary"):
            if name in chosen:
                chosen[name] = dump(chosen[name]) if chosen[name] else None
        assignments = "".join(f"{key} = ?, " for key in chosen)
        query = f"UPDATE conversations SET {assignments} updated_at = ? WHERE id = ? AND user_id = ? RETURNING *"
        values = [*chosen.values(), to_micros(utc_now()), conversation_id, user_id]
        row = await self._database.write(lambda connection: connection.execute(query, values).fetchone())
        return None if row is None else to_conversation(row)

    async def delete(self, conversation_id: str, user_id: str) -> bool:
        query = "DELETE FROM conversations WHERE id = ? AND user_id = ?"
        values = (conversation_id, user_id)
        return await self._database.write(lambda connection: connection.execute(query, values).rowcount > 0)

    async def increment_message_count(self, conversation_id: str, n: int) -> None:
        query = "UPDATE conversations SET message_count = message_count + ?, updated_at = ? WHERE id = ?"
        values = (n, to_micros(utc_now()), conversation_id)
        await self._database.write(lambda connection: connection.execute(query, values))

    async def move(self, conversation_id: str, user_id: str, head: Place) -> Conversation | None:
        def job(connection: sqlite3.Connection) -> sqlite3.Row | None:
            row = find(connection, conversation_id, user_id)
            if row is None:
                return None
            if row["active_run_id"]:
                raise ConversationBusy("The conversation is still being answered. Wait for the answer, or cancel it.")
            go_on(connection, row, head)
            return find(connection, conversation_id, user_id)

        row = await self._database.write(job)
        return None if row is None else to_conversation(row)

    async def ids(self, *, limit: int, after: str = "") -> Sequence[tuple[str, str]]:
        query = "SELECT id, user_id FROM conversations WHERE id > ? ORDER BY id LIMIT ?"
        rows = await self._database.read(lambda connection: connection.execute(query, (after, limit)).fetchall())
        return [(row["id"], row["user_id"]) for row in rows]

    async def amend(self, amendment: Amendment) -> bool:
        return await self._database.write(lambda connection: amend(connection, amendment))

    async def restore(self, conversation: Conversation, messages: Sequence[Message]) -> Conversation:
        def job(connection: sqlite3.Connection) -> Conversation:
            taken = is_taken(connection, conversation.id)
            kept = conversation.model_copy(update={"id": new_id()} if taken else None)
            kept.last_seq = (messages[-1].seq or 0) if messages else 0
            number = insert_conversation(connection, kept)
            for message in messages:
                insert_message(connection, number, message)
            return kept

        return await self._database.write(job)


def find(connection: sqlite3.Connection, conversation_id: str, user_id: str | None) -> sqlite3.Row | None:
    """The row of a conversation; with a user, only if it is theirs."""
    row = connection.execute("SELECT * FROM conversations WHERE id = ?", (conversation_id,)).fetchone()
    return row if row is not None and user_id in (None, row["user_id"]) else None


def is_taken(connection: sqlite3.Connection, conversation_id: str) -> bool:
    """Whether anybody has a conversation of that id."""
    return connection.execute("SELECT 1 FROM conversations WHERE id = ?", (conversation_id,)).fetchone() is not None


def insert_conversation(connection: sqlite3.Connection, conversation: Conversation) -> int:
    """Store a new conversation; its number."""
    values = (
        conversation.id,
        conversation.user_id,
        conversation.title,
        conversation.model,
        conversation.system_prompt,
        conversation.head_message_id,
        conversation.last_seq,
        dump(conversation.spans),
        dump(conversation.forks),
        dump(conversation.tool_approval) if conversation.tool_approval else None,
        dump(conversation.model_options.model_dump(exclude_none=True)),
        dump(conversation.summary.model_dump()) if conversation.summary else None,
        conversation.message_count,
        conversation.archived,
        conversation.pinned,
        to_micros(conversation.created_at),
        to_micros(conversation.updated_at),
    )
    return connection.execute(_INSERT, values).fetchone()[0]


def go_on(connection: sqlite3.Connection, row: sqlite3.Row, head: Place) -> None:
    """Make the branch that ends in `head` the active one of the conversation `row`."""
    forks, spans = go_on_from(to_conversation(row), head.seq)
    connection.execute(
        "UPDATE conversations SET forks = ?, spans = ?, head_message_id = ?, updated_at = ? WHERE number = ?",
        (dump(forks), dump(spans), head.message_id, to_micros(utc_now()), row["number"]),
    )
