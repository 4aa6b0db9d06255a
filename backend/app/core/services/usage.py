"""Tokens and what they cost: counted as answers arrive, kept by day, shown with prices where those are known."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from app.core.domain.errors import InvalidFrame, StorageUnavailable
from app.core.domain.time import utc_now
from app.core.domain.user import User
from app.core.ports import IUsageRepository, ModelFacts, UsageRow

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
MAX_TOKENS = 10**12
"""The most tokens that one answer can have used."""

FIRST_DAY, LAST_DAY = "0001-01-01", "9999-12-31"


class UsageService:
    """Counts tokens beside the answers, and reports them.

    What is counted is written a second later, all of it at once: an answer does not wait for it, and a process that is
    killed loses the figures of its last second. The usage of a message itself is stored with the message.
    """

    def __init__(self, repository: IUsageRepository, facts: Callable[[str], ModelFacts]) -> None:
        self._repository = repository
        self._facts = facts
        self._counted: dict[tuple[str, str, str, str], UsageRow] = {}
        self._more = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()

    def start(self) -> None:
        """Begin to write what is counted."""
        self._writer = asyncio.create_task(self._write_all(), name="usage")

    async def stop(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        await self._flush()

    def count(self, user_id: str, model: str, usage: Mapping[str, Any], conversation_id: str = "") -> None:
        """Count one answer of `model`."""
        day = utc_now().date().isoformat()
        key = (day, user_id, model, conversation_id)
        row = self._counted.get(key)
        if row is None:
            row = self._counted[key] = UsageRow(*key)
        row.requests += 1
        row.input_tokens += _tokens(usage.get("input_tokens"))
        row.output_tokens += _tokens(usage.get("output_tokens"))
        self._more.set()

    async def report(
        self, user: User, since: str | None = None, until: str | None = None, conversation_id: str | None = None
    ) -> dict[str, Any]:
        """The user's tokens by day and model, and in all; `cost` in US dollars where the model's price is known.

        Raises:
            InvalidFrame: a day is not written as YYYY-MM-DD.
        """
        await self._flush()
        rows = await self._repository.sums(
            user.id,
            since=_day(since, "since") or FIRST_DAY,
            until=_day(until, "until") or LAST_DAY,
            conversation_id=conversation_id,
        )
        items = [self._item(row) for row in rows]
        costs = [item["cost"] for item in items]
        total: dict[str, Any] = {
            name: sum(item[name] for item in items) for name in ("requests", "input_tokens", "output_tokens")
        }
        total["cost"] = round(sum(cost for cost in costs if cost is not None), 6)
        total["cost_is_complete"] = None not in costs
        return {"items": items, "next_cursor": None, "total": total, "currency": "USD"}

    def _item(self, row: UsageRow) -> dict[str, Any]:
        return {
            "day": row.day,
            "model": row.model,
            "requests": row.requests,
            "input_tokens": row.input_tokens,
            "output_tokens": row.output_tokens,
            "cost": cost_of(self._facts(row.model), row.input_tokens, row.output_tokens),
        }

    async def _write_all(self) -> None:
        while True:
            await self._more.wait()
            await asyncio.sleep(FLUSH_SECONDS)
            self._more.clear()
            await self._flush()

    async def _flush(self) -> None:
        """Write what has been counted. Whoever is cancelled here leaves the writing to its end."""
        await asyncio.shield(asyncio.create_task(self._write()))

    async def _write(self) -> None:
        async with self._writing:
            await self._write_counted()

    async def _write_counted(self) -> None:
        counted, self._counted = self._counted, {}
        if not counted:
            return
        try:
            await self._repository.add(list(counted.values()))
        except Exception as error:
            if isinstance(error, StorageUnavailable):
                logger.warning("tokens wait to be counted: %s", error.message)
            else:
                logger.exception("tokens could not be counted; they are written again with the next ones")
            for key, row in counted.items():
                newer = self._counted.setdefault(key, UsageRow(*key))
                newer.requests += row.requests
                newer.input_tokens += row.input_tokens
                newer.output_tokens += row.output_tokens
            self._more.set()


def _tokens(value: Any) -> int:
    """A number of tokens as a provider told it; 0 where that cannot be one."""
    return value if isinstance(value, int) and 0 <= value <= MAX_TOKENS else 0


def cost_of(facts: ModelFacts, input_tokens: int, output_tokens: int) -> float | None:
    """What so many tokens cost in US dollars; None where a price that is needed is not known."""
    if facts.input_price is None or facts.output_price is None:
        return None
    return round((input_tokens * facts.input_price + output_tokens * facts.output_price) / 1_000_000, 6)


def _day(value: str | None, name: str) -> str | None:
    if value is None:
        return None
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError as error:
        raise InvalidFrame(f"{name} must be a day such as 2026-11-21.") from error
