"""The collections of the store, their indexes, and what all repositories do with errors."""

import functools
from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import Any, ParamSpec, TypeVar

from pymongo import ASCENDING, DESCENDING
from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError

from app.adapters.outbound.persistence.rows import load
from app.core.domain.errors import StorageRefused, StorageUnavailable

P = ParamSpec("P")
T = TypeVar("T")

Document = dict[str, Any]
OUT_OF_DISK_SPACE = 14031
"""The code of MongoDB's error for that."""

_BY_USER = [("user_id", ASCENDING), ("message_id", ASCENDING)]
_INDEX_NOT_FOUND = 27


class Collections:
    """The collections, of whichever driver: both have the calls that are used here."""

    def __init__(self, database: Any) -> None:
        self.conversations = database["conversations"]
        self.messages = database["messages"]
        self.runs = database["runs"]
        self.usage = database["usage"]
        self.workflows = database["workflows"]
        self.skills = database["skills"]
        self.sessions = database["sessions"]
        self.upgrades = database["upgrades"]

    async def make_indexes(self) -> None:
        """Make what is missing; an index that is there already costs nothing."""
        await self.conversations.create_index([("user_id", ASCENDING), ("activity", DESCENDING)])
        await self.conversations.create_index([("active_run.expires_at", ASCENDING)], sparse=True)
        await self.messages.create_index([("conversation_id", ASCENDING), ("id", ASCENDING)], unique=True)
        for texts in (self.conversations, self.messages):
            await texts.create_index([("user_id", ASCENDING), ("words", ASCENDING)])
        await self._leave_ids_of_users()
        await self.runs.create_index(_BY_USER)
        await self.runs.create_index([("conversation_id", ASCENDING), ("message_id", ASCENDING)], unique=True)
        await self.runs.create_index([("conversation_id", ASCENDING), ("input_id", ASCENDING)])
        await self.runs.create_index([("conversation_id", ASCENDING), ("place_in_queue", ASCENDING)])
        await self.runs.create_index([("place_in_queue", ASCENDING)])
        await self.skills.create_index([("user_id", ASCENDING), ("slug", ASCENDING)])
        await self.sessions.create_index([("expires_at", ASCENDING)])
        place = ("user_id", "day", "model", "conversation_id")
        await self.usage.create_index([(name, ASCENDING) for name in place], unique=True)

    async def _leave_ids_of_users(self) -> None:
        """Upgrade a database in which message ids counted in all conversations of a user.

        The old index goes last: where this is interrupted, the next start does it again.
        """
        indexes = (await self.runs.index_information()).items()
        old_index = next((name for name, index in indexes if index.get("unique") and index["key"] == _BY_USER), None)
        if old_index is None:
            return
        old = self.runs.find({"options": {"$ne": None}, "input_id": {"$exists": False}}, {"options": 1})
        for document in await old.to_list(None):
            input_id = load(document["options"]).get("input_id")
            await self.runs.update_one({"_id": document["_id"]}, {"$set": {"input_id": input_id}})
        try:
            await self.runs.drop_index(old_index)
        except OperationFailure as error:
            if error.code != _INDEX_NOT_FOUND:  # another server that starts now was faster
                raise


def guarded(method: Callable[P, Awaitable[T]]) -> "Callable[P, CoroutineType[Any, Any, T]]":
    """`method` with the driver's errors as `StorageUnavailable`; its outcome is unknown then, not undone."""

    @functools.wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(*args, **kwargs)
        except PyMongoError as error:
            raise unavailable(error) from error

    return call


def unavailable(error: PyMongoError) -> StorageUnavailable:
    """The driver's error in words for the user; nothing of the address, which may hold a password."""
    if isinstance(error, OperationFailure) and error.code in (13, 18):
        return StorageUnavailable("MongoDB refuses the user or password in MONGODB_URL. Correct it and start again.")
    if isinstance(error, OperationFailure) and error.code == OUT_OF_DISK_SPACE:
        return StorageRefused(
            "The database's disk is full, so nothing more can be kept. Free some space and try again."
        )
    if isinstance(error, ConfigurationError):
        return StorageUnavailable("MONGODB_URL is not an address of a MongoDB. Correct it and start again.")
    if isinstance(error, OperationFailure):
        return StorageUnavailable("The database refused what was asked of it. The log has the details.")
    return StorageUnavailable(
        "The database cannot be reached. Check MONGODB_URL and that MongoDB runs, then try again."
    )
