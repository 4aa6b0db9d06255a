"""Workflow documents and skills in SQLite."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from app.adapters.outbound.persistence.sqlite.database import Database
from app.core.domain.errors import NotFound
from app.core.domain.graph import WorkflowDocument
from app.core.domain.skill import Skill, SkillVersion
from app.core.domain.time import from_micros, to_micros

_COLUMNS = "user_id, slug, created_at, name, description, instructions, updated_at, author, previous, deleted_at"


class SqliteWorkflows:
    """An `IWorkflowDocuments` over SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, conversation_id: str) -> WorkflowDocument | None:
        query = "SELECT document FROM workflows JOIN conversations ON number = conversation WHERE id = ?"
        row = await self._database.read(lambda connection: connection.execute(query, (conversation_id,)).fetchone())
        return None if row is None else WorkflowDocument.model_validate_json(row[0])

    async def put(self, conversation_id: str, document: WorkflowDocument) -> bool:
        stored = document.model_copy(update={"revision": document.revision + 1})
        text = stored.model_dump_json()

        def job(connection: sqlite3.Connection) -> bool:
            row = connection.execute("SELECT number FROM conversations WHERE id = ?", (conversation_id,)).fetchone()
            if row is None:
                raise NotFound("There is no such conversation.")
            changed = connection.execute(
                "INSERT INTO workflows (conversation, revision, document) VALUES (?, ?, ?) ON CONFLICT (conversation) "
                "DO UPDATE SET revision = excluded.revision, document = excluded.document WHERE revision = ?",
                (row["number"], stored.revision, text, document.revision),
            )
            return changed.rowcount > 0

        done = await self._database.write(job)
        if done:
            document.revision = stored.revision
        return done


class SqliteSkills:
    """An `ISkillRepository` over SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, user_id: str) -> Sequence[Skill]:
        query = f"SELECT {_COLUMNS} FROM skills WHERE user_id = ? ORDER BY slug"
        rows = await self._database.read(lambda connection: connection.execute(query, (user_id,)).fetchall())
        return [_skill(row) for row in rows]

    async def add(self, skill: Skill) -> bool:
        query = f"INSERT OR IGNORE INTO skills ({_COLUMNS}) VALUES ({', '.join('?' * len(_COLUMNS.split(',')))})"
        values = (skill.user_id, skill.slug, to_micros(skill.created_at), *_content(skill).values())
        return await self._database.write(lambda connection: connection.execute(query, values).rowcount > 0)

    async def update(self, skill: Skill) -> bool:
        content = _content(skill)
        changes = ", ".join(f"{name} = ?" for name in content)
        query = f"UPDATE skills SET {changes} WHERE user_id = ? AND slug = ?"
        values = (*content.values(), skill.user_id, skill.slug)
        return await self._database.write(lambda connection: connection.execute(query, values).rowcount > 0)

    async def delete(self, user_id: str, slug: str) -> bool:
        query = "DELETE FROM skills WHERE user_id = ? AND slug = ?"
        return await self._database.write(lambda connection: connection.execute(query, (user_id, slug)).rowcount > 0)


def _content(skill: Skill) -> dict[str, Any]:
    """What can change of a skill, by column."""
    return {
        "name": skill.name,
        "description": skill.description,
        "instructions": skill.instructions,
        "updated_at": to_micros(skill.updated_at),
        "author": skill.author.value,
        "previous": skill.previous.model_dump_json() if skill.previous is not None else None,
        "deleted_at": to_micros(skill.deleted_at) if skill.deleted_at is not None else None,
    }


def _skill(row: sqlite3.Row) -> Skill:
    names = ("user_id", "slug", "name", "description", "instructions", "author")
    kept: dict[str, Any] = {name: row[name] for name in names}
    kept |= {name: from_micros(row[name]) for name in ("created_at", "updated_at")}
    if row["previous"] is not None:
        kept["previous"] = SkillVersion.model_validate_json(row["previous"])
    if row["deleted_at"] is not None:
        kept["deleted_at"] = from_micros(row["deleted_at"])
    return Skill(**kept)
