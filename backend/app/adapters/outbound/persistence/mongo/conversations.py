"""Conversations in MongoDB."""

from collections.abc import Sequence
from typing import Any

from pymongo import ASCENDING, DESCENDING, ReturnDocument
from pymongo.errors import DuplicateKeyError

from app.adapters.outbound.persistence.mongo import search
from app.adapters.outbound.persistence.mongo.amendments import amend
from app.adapters.outbound.persistence.mongo.collections import Collections, Document, guarded
from app.adapters.outbound.persistence.mongo.documents import (
    LAST_PLACE,
    activity,
    branch_changes,
    from_conversation,
    from_message,
    place,
    to_conversation,
    touched,
)
from app.adapters.outbound.persistence.rows import decode_cursor, dump, encode_cursor
from app.core.domain.conversation import Conversation
from app.core.domain.errors import ConversationBusy, NotFound
from app.core.domain.ids import new_id
from app.core.domain.message import Message
from app.core.domain.search import words_to_search
from app.core.ports import Amendment, ConversationPage, Place

_SETTABLE = ("title", "model", "system_prompt", "archived", "pinned", "tool_approval", "model_options", "summary")
_BLOCK = 1_000


class MongoConversations:
    """An `IConversationRepository` over MongoDB."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections

    @guarded
    async def create(self, conversation: Conversation) -> Conversation:
        try:
            await self._collections.conversations.insert_one(from_conversation(conversation))
        except DuplicateKeyError as error:
            raise NotFound("There is no such conversation.") from error
        return conversation

    @guarded
    async def get(self, conversation_id: str, user_id: str) -> Conversation | None:
        found = await self._collections.conversations.find_one({"_id": conversation_id, "user_id": user_id})
        return None if found is None else to_conversation(found)

    @guarded
    async def list(
        self, user_id: str, *, limit: int, cursor: str | None = None, q: str | None = None, archived: bool | None = None
    ) -> ConversationPage:
        conditions: list[Document] = [{"user_id": user_id}]
        if cursor is not None:
            conditions.append({"activity": {"$lt": activity(*decode_cursor(cursor))}})
        if archived is not None:
            conditions.append({"archived": archived})
        if words := words_to_search(q):
            documents = await search.find(self._collections, user_id, words, conditions, limit + 1)
        else:
            rows = self._collections.conversations.find({"$and": conditions}).sort("activity", DESCENDING)
            documents = await rows.limit(limit + 1).to_list(limit + 1)
        found = [to_conversation(document) for document in documents]
        items = found[:limit]
        return ConversationPage(items, encode_cursor(items[-1]) if len(found) > limit else None)

    @guarded
    async def update(self, conversation_id: str, user_id: str, changes: dict[str, Any]) -> Conversation | None:
        chosen = {key: changes[key] for key in _SETTABLE if key in changes}
        for name in ("tool_approval", "model_options", "summary"):
            if name in chosen:
                chosen[name] = dump(chosen[name]) if chosen[name] else None
        if "title" in chosen:
            chosen["words"] = search.index_words(chosen["title"])
        found = await self._collections.conversations.find_one_and_update(
            {"_id": conversation_id, "user_id": user_id},
            {"$set": {**chosen, **touched(conversation_id)}},
            return_document=ReturnDocument.AFTER,
        )
        return None if found is None else to_conversation(found)

    @guarded
    async def delete(self, conversation_id: str, user_id: str) -> bool:
        # The conversation goes last: where this is interrupted it can still be found, and deleted again.
        mine = {"_id": conversation_id, "user_id": user_id}
        if await self._collections.conversations.find_one(mine, {"_id": 1}) is None:
            return False
        every_place = {"$gte": place(conversation_id, 0), "$lte": place(conversation_id, LAST_PLACE)}
        await self._collections.messages.delete_many({"_id": every_place})
        await self._collections.runs.delete_many({"conversation_id": conversation_id})
        await self._collections.workflows.delete_one({"_id": conversation_id})
        await self._collections.conversations.delete_one(mine)
        return True

    @guarded
    async def increment_message_count(self, conversation_id: str, n: int) -> None:
        changes = {"$inc": {"message_count": n}, "$set": touched(conversation_id)}
        await self._collections.conversations.update_one({"_id": conversation_id}, changes)

    @guarded
    async def move(self, conversation_id: str, user_id: str, head: Place) -> Conversation | None:
        conversations = self._collections.conversations
        while (found := await conversations.find_one({"_id": conversation_id, "user_id": user_id})) is not None:
            if found["active_run"] is not None:
                raise ConversationBusy("The conversation is still being answered. Wait for the answer, or cancel it.")
            changes = {**branch_changes(to_conversation(found), head), **touched(conversation_id)}
            moved = await conversations.find_one_and_update(
                {"_id": conversation_id, "active_run": None, "last_seq": found["last_seq"]},
                {"$set": changes},
                return_document=ReturnDocument.AFTER,
            )
            if moved is not None:
                return to_conversation(moved)
        return None

    @guarded
    async def ids(self, *, limit: int, after: str = "") -> Sequence[tuple[str, str]]:
        rows = self._collections.conversations.find({"_id": {"$gt": after}}, {"user_id": 1})
        found = await rows.sort("_id", ASCENDING).limit(limit).to_list(limit)
        return [(document["_id"], document["user_id"]) for document in found]

    @guarded
    async def amend(self, amendment: Amendment) -> bool:
        return await amend(self._collections, amendment)

    @guarded
    async def restore(self, conversation: Conversation, messages: Sequence[Message]) -> Conversation:
        # The conversation comes last: before that nobody can find its messages.
        conversations = self._collections.conversations
        taken = await conversations.find_one({"_id": conversation.id}, {"_id": 1}) is not None
        kept = conversation.model_copy(update={"id": new_id()}) if taken else conversation
        documents = [
            from_message(message.model_copy(update={"conversation_id": kept.id}), kept.user_id) for message in messages
        ]
        for start in range(0, len(documents), _BLOCK):
            await self._collections.messages.insert_many(documents[start : start + _BLOCK], ordered=True)
        kept.last_seq = (messages[-1].seq or 0) if messages else 0
        await conversations.insert_one(from_conversation(kept))
        return kept
