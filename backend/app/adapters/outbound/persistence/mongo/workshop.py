"""Workflow documents and skills in MongoDB."""

from collections.abc import Sequence
from typing import Any

from pymongo import ASCENDING
from pymongo.errors import DuplicateKeyError

from app.adapters.outbound.persistence.mongo.collections import Collections, Document, guarded
from app.core.domain.errors import NotFound
from app.core.domain.graph import WorkflowDocument
from app.core.domain.skill import Author, Skill, SkillVersion
from app.core.domain.time import from_micros, to_micros


class MongoWorkflows:
    """An `IWorkflowDocuments` over MongoDB: one document a conversation."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections

    @guarded
    async def get(self, conversation_id: str) -> WorkflowDocument | None:
        found = await self._collections.workflows.find_one({"_id": conversation_id})
        return None if found is None else WorkflowDocument.model_validate_json(found["document"])

    @guarded
    async def put(self, conversation_id: str, document: WorkflowDocument) -> bool:
        if await self._collections.conversations.find_one({"_id": conversation_id}, {"_id": 1}) is None:
            raise NotFound("There is no such conversation.")
        stored = document.model_copy(update={"revision": document.revision + 1})
        fields = {"revision": stored.revision, "document": stored.model_dump_json()}
        if document.revision == 0:
            try:
                await self._collections.workflows.insert_one({"_id": conversation_id, **fields})
            except DuplicateKeyError:
                return False
        else:
            known = {"_id": conversation_id, "revision": document.revision}
            changed = await self._collections.workflows.update_one(known, {"$set": fields})
            if changed.matched_count == 0:
                return False
        document.revision = stored.revision
        return True


class MongoSkills:
    """An `ISkillRepository` over MongoDB. No slug has an @, so that it divides slug and user in an `_id`."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections

    @guarded
    async def list(self, user_id: str) -> Sequence[Skill]:
        rows = self._collections.skills.find({"user_id": user_id}).sort("slug", ASCENDING)
        return [_skill(document) for document in await rows.to_list(None)]

    @guarded
    async def add(self, skill: Skill) -> bool:
        head = {"_id": f"{skill.slug}@{skill.user_id}", "user_id": skill.user_id, "slug": skill.slug}
        try:
            await self._collections.skills.insert_one(
                {**head, "created_at": to_micros(skill.created_at), **_content(skill)}
            )
        except DuplicateKeyError:
            return False
        return True

    @guarded
    async def update(self, skill: Skill) -> bool:
        place = {"_id": f"{skill.slug}@{skill.user_id}"}
        return (await self._collections.skills.update_one(place, {"$set": _content(skill)})).matched_count > 0

    @guarded
    async def delete(self, user_id: str, slug: str) -> bool:
        return (await self._collections.skills.delete_one({"_id": f"{slug}@{user_id}"})).deleted_count > 0


def _content(skill: Skill) -> Document:
    """What can change of a skill."""
    return {
        "name": skill.name,
        "description": skill.description,
        "instructions": skill.instructions,
        "updated_at": to_micros(skill.updated_at),
        "author": skill.author.value,
        "previous": skill.previous.model_dump_json() if skill.previous is not None else None,
        "deleted_at": to_micros(skill.deleted_at) if skill.deleted_at is not None else None,
    }


def _skill(document: Document) -> Skill:
    kept: dict[str, Any] = {name: document[name] for name in ("user_id", "slug", "name", "description", "instructions")}
    kept |= {name: from_micros(document[name]) for name in ("created_at", "updated_at")}
    kept["author"] = document.get("author", Author.USER)
    if (previous := document.get("previous")) is not None:
        kept["previous"] = SkillVersion.model_validate_json(previous)
    if (deleted_at := document.get("deleted_at")) is not None:
        kept["deleted_at"] = from_micros(deleted_at)
    return Skill(**kept)
