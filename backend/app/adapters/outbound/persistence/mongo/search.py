"""Searches in MongoDB, by an index of our own: each text has the list of its words, and an index begins with their owner.

MongoDB's text indexes know whole words (and their stems) in one language; a search while one types needs beginnings of
words, in any. Each is a range of the index.
"""

import inspect
import time
from collections.abc import Sequence
from typing import Any

from pymongo import ASCENDING, DESCENDING, UpdateOne
from pymongo.errors import ExecutionTimeout

from app.adapters.outbound.persistence.mongo.collections import Collections, Document
from app.core.domain.errors import SearchTooBroad
from app.core.domain.search import words_in

MAX_WORD = 64
"""So many letters of a word are looked at."""

MAX_WORDS = 2_000
"""So many different words of a text are found."""

MAX_SECONDS = 2.0
"""How long a search may take."""

_LAST = "\U0010ffff"
_FEW = 2_000
"""Up to so many conversations are sorted; of more, those with the newest activity are looked through."""

_BLOCK = 200
_UPGRADED_AT_ONCE = 500
_MARK = {"_id": "words"}


def index_words(text: str | None) -> list[str]:
    """The different words of a text, as they are stored beside it."""
    return list(dict.fromkeys(word[:MAX_WORD] for word in words_in(text)))[:MAX_WORDS]


async def find(
    collections: Collections, user_id: str, words: Sequence[str], conditions: Sequence[Document], limit: int
) -> list[Document]:
    """Conversations that meet `conditions` and have `words` in the title or in a message, newest activity first.

    Raises:
        SearchTooBroad: that takes too long.
    """
    deadline = time.monotonic() + MAX_SECONDS
    try:
        said_in = await _said_in(collections, {"user_id": user_id}, words, deadline, _FEW + 1)
        if len(said_in) <= _FEW:
            matching = {"$or": [_have(words), {"_id": {"$in": said_in}}]}
            return await _newest(collections, [*conditions, matching], limit, deadline)
        return await _walk(collections, words, conditions, limit, deadline)
    except ExecutionTimeout as error:
        raise SearchTooBroad from error


async def _walk(
    collections: Collections, words: Sequence[str], conditions: Sequence[Document], limit: int, deadline: float
) -> list[Document]:
    """Look through conversations from the newest activity on, until there are enough: frequent words are found soon."""
    found: list[Document] = []
    before: Document = {}
    while block := await _newest(collections, [*conditions, before], _BLOCK, deadline):
        ids = [document["_id"] for document in block]
        said_in = set(await _said_in(collections, {"conversation_id": {"$in": ids}}, words, deadline, _BLOCK))
        titled = await _newest(collections, [{"_id": {"$in": ids}}, _have(words)], _BLOCK, deadline)
        said_in |= {document["_id"] for document in titled}
        found += [document for document in block if document["_id"] in said_in]
        if len(found) >= limit or len(block) < _BLOCK:
            break
        before = {"activity": {"$lt": block[-1]["activity"]}}
    return found[:limit]


async def _newest(
    collections: Collections, conditions: Sequence[Document], limit: int, deadline: float
) -> list[Document]:
    rows = collections.conversations.find({"$and": [condition for condition in conditions if condition]})
    return await rows.sort("activity", DESCENDING).limit(limit).max_time_ms(_left(deadline)).to_list(limit)


async def _said_in(
    collections: Collections, where: Document, words: Sequence[str], deadline: float, limit: int
) -> list[str]:
    """The conversations, at most `limit`, in one of whose messages all `words` occur."""
    pipeline: list[Document] = [
        {"$match": {"$and": [where, _have(words)]}},
        {"$group": {"_id": "$conversation_id"}},
        {"$limit": limit},
    ]
    cursor = collections.messages.aggregate(pipeline, maxTimeMS=_left(deadline))
    if inspect.isawaitable(cursor):  # PyMongo's own client asks to be awaited here, Motor does not
        cursor = await cursor
    return [document["_id"] for document in await cursor.to_list(None)]


def _have(words: Sequence[str]) -> Document:
    """The condition that for each of `words` one of a document's words begins with it."""
    return {"$and": [{"words": {"$elemMatch": _beginning_with(word[:MAX_WORD])}} for word in words]}


def _beginning_with(word: str) -> Document:
    return {"$gte": word, "$lt": word + _LAST}


def _left(deadline: float) -> int:
    """The milliseconds that are left.

    Raises:
        SearchTooBroad: none.
    """
    left = int((deadline - time.monotonic()) * 1_000)
    if left <= 0:
        raise SearchTooBroad
    return left


async def upgrade(collections: Collections) -> None:
    """Give texts of earlier versions their words; where this is interrupted, the next start goes on."""
    if await collections.upgrades.find_one(_MARK) is not None:
        return
    for collection in (collections.conversations, collections.messages):
        after: Any = ""
        while block := await _block(collection, after):
            old = [document for document in block if "search" in document]
            if old:
                owners = await _owners(collections, old)
                await collection.bulk_write([_with_words(document, owners) for document in old], ordered=False)
            after = block[-1]["_id"]
    await collections.upgrades.update_one(_MARK, {"$set": {"done": True}}, upsert=True)


async def _block(collection: Any, after: str) -> list[Document]:
    fields = {"search": 1, "user_id": 1, "conversation_id": 1}
    rows = collection.find({"_id": {"$gt": after}}, fields).sort("_id", ASCENDING)
    return await rows.limit(_UPGRADED_AT_ONCE).to_list(_UPGRADED_AT_ONCE)


async def _owners(collections: Collections, documents: Sequence[Document]) -> dict[str, str]:
    ids = list({document.get("conversation_id", document["_id"]) for document in documents})
    rows = collections.conversations.find({"_id": {"$in": ids}}, {"user_id": 1})
    return {document["_id"]: document["user_id"] for document in await rows.to_list(None)}


def _with_words(document: Document, owners: dict[str, str]) -> UpdateOne:
    owner = owners.get(document.get("conversation_id", document["_id"]))
    changes = {"words": index_words(document["search"]), "user_id": owner}
    return UpdateOne({"_id": document["_id"]}, {"$set": changes, "$unset": {"search": ""}})
