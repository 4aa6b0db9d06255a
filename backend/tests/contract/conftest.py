"""One store after the other: each test of a port runs over every adapter of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from app.adapters.outbound.persistence.memory import MemoryStore
from app.adapters.outbound.persistence.mongo import MongoStore, open_mongo
from app.adapters.outbound.persistence.sqlite import open_sqlite
from app.core.ports import Store

STORES = ["memory", "sqlite", "mongomock", "mongodb-motor", "mongodb-pymongo"]


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(request.param, request, tmp_path) as opened:
        yield opened


@asynccontextmanager
async def open_store(kind: str, request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Store]:
    opened: Store
    match kind:
        case "memory":
            opened = MemoryStore()
        case "sqlite":
            opened = open_sqlite(folder)
        case "mongomock":
            from mongomock_motor import AsyncMongoMockClient

            async def nothing() -> None:
                pass

            mocked = MongoStore(AsyncMongoMockClient()["test"], nothing)
            await mocked.collections.make_indexes()
            opened = mocked
        case _:
            url = request.getfixturevalue("mongodb_url")
            opened = await open_mongo(url, f"test_{uuid4().hex}", driver=kind.removeprefix("mongodb-"))
    try:
        yield opened
    finally:
        await opened.close()
