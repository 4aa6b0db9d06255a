"""Sums of tokens in MongoDB: a document a day, user, model and conversation."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from app.adapters.outbound.persistence.mongo.collections import Collections, guarded
from app.core.ports import UsageRow


class MongoUsage:
    """An `IUsageRepository` over MongoDB."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections

    @guarded
    async def add(self, rows: Sequence[UsageRow]) -> None:
        for row in rows:
            place = {"user_id": row.user_id, "day": row.day, "model": row.model, "conversation_id": row.conversation_id}
            figures = {"requests": row.requests, "input_tokens": row.input_tokens, "output_tokens": row.output_tokens}
            await self._collections.usage.update_one(place, {"$inc": figures}, upsert=True)

    @guarded
    async def sums(
        self, user_id: str, *, since: str, until: str, conversation_id: str | None = None
    ) -> Sequence[UsageRow]:
        wanted: dict[str, Any] = {"user_id": user_id, "day": {"$gte": since, "$lte": until}}
        if conversation_id is not None:
            wanted["conversation_id"] = conversation_id
        found: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
        for row in await self._collections.usage.find(wanted).to_list(None):
            figures = found[row["day"], row["model"]]
            for index, name in enumerate(("requests", "input_tokens", "output_tokens")):
                figures[index] += row[name]
        return [UsageRow(*key, *figures) for key, figures in _named(found, user_id, conversation_id)]


def _named(
    found: dict[tuple[str, str], list[int]], user_id: str, conversation_id: str | None
) -> list[tuple[tuple[str, str, str, str], list[int]]]:
    return [((day, user_id, model, conversation_id or ""), found[day, model]) for day, model in sorted(found)]
