"""Browser sessions in MongoDB."""

from datetime import datetime

from app.adapters.outbound.persistence.mongo.collections import Collections, guarded
from app.core.domain.time import from_micros, to_micros
from app.core.ports import Session


class MongoSessions:
    """An `ISessionRepository` over MongoDB."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections

    @guarded
    async def add(self, session: Session) -> None:
        content = {"user_id": session.user_id, "token_mark": session.token_mark}
        times = {"expires_at": to_micros(session.expires_at)}
        await self._collections.sessions.insert_one({"_id": session.digest, **content, **times})

    @guarded
    async def get(self, digest: str) -> Session | None:
        found = await self._collections.sessions.find_one({"_id": digest})
        if found is None:
            return None
        return Session(digest, found["user_id"], found["token_mark"], from_micros(found["expires_at"]))

    @guarded
    async def remove(self, digest: str) -> None:
        await self._collections.sessions.delete_one({"_id": digest})

    @guarded
    async def remove_ended(self, now: datetime, token_mark: str) -> int:
        ended = {"$or": [{"expires_at": {"$lte": to_micros(now)}}, {"token_mark": {"$ne": token_mark}}]}
        return (await self._collections.sessions.delete_many(ended)).deleted_count
