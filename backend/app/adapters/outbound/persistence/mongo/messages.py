"""Messages in MongoDB."""

from collections.abc import Sequence

from pymongo import ASCENDING, DESCENDING, ReturnDocument
from pymongo.errors import BulkWriteError, DuplicateKeyError

from app.adapters.outbound.persistence.mongo.collections import Collections, Document, guarded
from app.adapters.outbound.persistence.mongo.documents import LAST_PLACE, from_message, place, to_message, touched
from app.core.domain.conversation import Conversation, clip_spans
from app.core.domain.errors import NotFound
from app.core.domain.message import Message

_DUPLICATE = 11_000


class MongoMessages:
    """An `IMessageRepository` over MongoDB."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections

    @guarded
    async def create(self, message: Message) -> Message:
        known = await stored(self._collections, message.conversation_id, [message.id])
        if known:
            message.seq, message.parent_id = known[0].seq, known[0].parent_id
            return message
        before = await self._collections.conversations.find_one_and_update(
            {"_id": message.conversation_id},
            {"$inc": {"last_seq": 1}, "$set": {"head_message_id": message.id, **touched(message.conversation_id)}},
            return_document=ReturnDocument.BEFORE,
        )
        if before is None:
            raise NotFound("There is no such conversation.")
        await insert(self._collections, before, [message])
        return message

    @guarded
    async def get_by_conversation_id(self, conversation_id: str) -> list[Message]:
        found = await self._collections.conversations.find_one({"_id": conversation_id}, {"spans": 1})
        if found is None:
            return []
        spans = clip_spans([(first, last) for first, last in found["spans"]])
        return [message for first, last in spans for message in await self._range(conversation_id, first, last, None)]

    @guarded
    async def get_many(self, conversation_id: str, message_ids: Sequence[str]) -> list[Message]:
        return await stored(self._collections, conversation_id, message_ids)

    @guarded
    async def page(
        self, conversation: Conversation, *, limit: int, before: int | None = None, after: int | None = None
    ) -> list[Message]:
        spans = clip_spans(conversation.spans, before=before, after=after)
        forward = after is not None
        found: list[Message] = []
        for first, last in spans if forward else reversed(spans):
            last = min(last, conversation.last_seq)
            if first <= last:
                found += await self._next_of_span(conversation.id, first, last, limit - len(found), forward=forward)
            if len(found) >= limit:
                break
        return found if forward else found[::-1]

    @guarded
    async def all(self, conversation_id: str, *, limit: int, after: int = 0) -> list[Message]:
        return await self._range(conversation_id, after + 1, LAST_PLACE, limit)

    async def _next_of_span(
        self, conversation_id: str, first: int, last: int, limit: int, *, forward: bool
    ) -> list[Message]:
        """At most `limit` messages of a stretch, from its beginning or from its end: by their keys, where none is missing."""
        low, high = (first, min(last, first + limit - 1)) if forward else (max(first, last - limit + 1), last)
        keys = [place(conversation_id, seq) for seq in range(low, high + 1)]
        rows = self._collections.messages.find({"_id": {"$in": keys}, "conversation_id": conversation_id})
        found = [to_message(document) for document in await rows.to_list(len(keys))]
        if len(found) < len(keys):
            return await self._range(conversation_id, first, last, limit, forward=forward)
        return sorted(found, key=lambda message: message.seq or 0, reverse=not forward)

    async def _range(
        self, conversation_id: str, first: int, last: int, limit: int | None, *, forward: bool = True
    ) -> list[Message]:
        keys = {"$gte": place(conversation_id, first), "$lte": place(conversation_id, last)}
        rows = self._collections.messages.find({"_id": keys, "conversation_id": conversation_id})
        rows = rows.sort("_id", ASCENDING if forward else DESCENDING)
        if limit is not None:
            rows = rows.limit(limit)
        return [to_message(document) for document in await rows.to_list(limit)]


async def stored(collections: Collections, conversation_id: str, message_ids: Sequence[str]) -> list[Message]:
    """Those of the messages that are there, in order of `seq`."""
    wanted = {"conversation_id": conversation_id, "id": {"$in": list(message_ids)}}
    rows = collections.messages.find(wanted).sort("seq", ASCENDING)
    return [to_message(document) for document in await rows.to_list(len(message_ids) or 1)]


async def insert(collections: Collections, before: Document, messages: Sequence[Message]) -> int:
    """Write messages at the places that were taken for them in their conversation; how many were not there yet.

    Args:
        collections: where to.
        before: the conversation as it was before its `last_seq` was raised by the number of messages.
        messages: they get their `seq` and `parent_id` here.
    """
    seq, parent = before["last_seq"], before["head_message_id"]
    for message in messages:
        seq += 1
        message.seq, message.parent_id, parent = seq, parent, message.id
    documents = [from_message(message, before["user_id"]) for message in messages]
    try:
        if len(documents) == 1:
            await collections.messages.insert_one(documents[0])
        elif documents:
            await collections.messages.insert_many(documents, ordered=False)
    except DuplicateKeyError:
        return 0
    except BulkWriteError as error:
        failures = (error.details or {}).get("writeErrors", [])
        if any(failure.get("code") != _DUPLICATE for failure in failures):
            raise
        return len(documents) - len(failures)
    return len(documents)
