"""The MongoDB store: a client, and the repositories over its collections."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from pymongo.errors import OperationFailure, PyMongoError

from app.adapters.outbound.persistence.mongo import search
from app.adapters.outbound.persistence.mongo.collections import Collections, guarded, unavailable
from app.adapters.outbound.persistence.mongo.conversations import MongoConversations
from app.adapters.outbound.persistence.mongo.messages import MongoMessages
from app.adapters.outbound.persistence.mongo.runs import MongoRuns
from app.adapters.outbound.persistence.mongo.sessions import MongoSessions
from app.adapters.outbound.persistence.mongo.usage import MongoUsage
from app.adapters.outbound.persistence.mongo.workshop import MongoSkills, MongoWorkflows
from app.core.domain.errors import StorageUnavailable

logger = logging.getLogger(__name__)

SELECTION_SECONDS = 5
OPTIONS: dict[str, Any] = {
    "serverSelectionTimeoutMS": SELECTION_SECONDS * 1_000,
    "socketTimeoutMS": 30_000,
    "retryWrites": True,
    "w": "majority",
    "journal": True,
    "appname": "atelier",
}


class MongoStore:
    """An open database."""

    def __init__(self, database: Any, close: Callable[[], Awaitable[None]]) -> None:
        self._database = database
        self._close = close
        self._upgrading: asyncio.Task[None] | None = None
        self.collections = Collections(database)
        self.conversations = MongoConversations(self.collections)
        self.messages = MongoMessages(self.collections)
        self.runs = MongoRuns(self.collections)
        self.usage = MongoUsage(self.collections)
        self.workflows = MongoWorkflows(self.collections)
        self.skills = MongoSkills(self.collections)
        self.sessions = MongoSessions(self.collections)

    @guarded
    async def ping(self) -> None:
        """Answer if the database does."""
        await self._database.command("ping")

    async def faults(self) -> Sequence[str]:
        """MongoDB looks after its files itself."""
        return ()

    def begin_upgrade(self) -> None:
        """Make what earlier versions stored searchable, beside everything else."""
        self._upgrading = asyncio.create_task(self._upgrade(), name="mongo-upgrade")

    async def _upgrade(self) -> None:
        try:
            await search.upgrade(self.collections)
        except PyMongoError as error:
            logger.warning(
                "older messages cannot all be found yet; the next start goes on with that (%s)", type(error).__name__
            )

    async def close(self) -> None:
        """Close the connections."""
        if self._upgrading is not None:
            self._upgrading.cancel()
            await asyncio.gather(self._upgrading, return_exceptions=True)
        await self._close()


async def open_mongo(url: str, database: str, *, driver: str) -> MongoStore:
    """Connect, see that the server can do what is needed, and make the indexes.

    Args:
        url: MongoDB's address.
        database: the name of the database.
        driver: `motor` or `pymongo`.

    Raises:
        StorageUnavailable: it cannot be used; the message names the setting to change.
    """
    try:
        client, close = _client(url, driver)
        store = MongoStore(client[database], close)
    except PyMongoError as error:
        raise unavailable(error) from error
    try:
        await store.ping()
        await store.collections.make_indexes()
        store.begin_upgrade()
    except OperationFailure as error:
        await store.close()
        if error.code in (13, 18):
            raise unavailable(error) from error
        raise StorageUnavailable(
            "This MongoDB cannot do what Atelier needs (unique indexes). Use MongoDB 5 or newer in MONGODB_URL, "
            "or leave MONGODB_URL empty for the embedded SQLite store."
        ) from error
    except PyMongoError as error:
        await store.close()
        raise unavailable(error) from error
    except StorageUnavailable:
        await store.close()
        raise
    return store


def _client(url: str, driver: str) -> tuple[Any, Callable[[], Awaitable[None]]]:
    if driver == "pymongo":
        from pymongo import AsyncMongoClient

        modern: Any = AsyncMongoClient(url, **OPTIONS)
        return modern, modern.close
    from motor.motor_asyncio import AsyncIOMotorClient

    client: Any = AsyncIOMotorClient(url, **OPTIONS)

    async def close() -> None:
        client.close()

    return client, close
