"""How often somebody may do what costs the service something: a minute's worth at once, then at the rate of the limit."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.core.domain.errors import RateLimited

MINUTE = 60.0
ADDRESS_FACTOR = 4
"""An address may have several sessions and programs."""
MAX_KEYS = 10_000


class Limited(StrEnum):
    """What is counted."""

    MESSAGES = "messages"
    UPLOADS = "uploads"
    SEARCHES = "searches"
    SIGN_INS = "attempts to sign in"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks.

    Attributes:
        credential: the session or token; empty where there is none.
        address: the network address; None for this machine.
    """

    credential: str = ""
    address: str | None = None


class RateLimits:
    """Counts by session or token, and by address.

    Each count is one number: the moment at which all that was done would have been done at the rate of the limit
    (the generic cell rate algorithm). The counts used least recently are forgotten first.

    Args:
        per_minute: the limit of each kind; 0 for none.
    """

    def __init__(self, per_minute: Mapping[Limited, int]) -> None:
        self._per_minute = per_minute
        self._done_at: dict[tuple[Limited, str], float] = {}

    def count(self, kind: Limited, visitor: Visitor) -> None:
        """Count one of `kind`.

        Raises:
            RateLimited: there were too many; nothing is counted then.
        """
        per_minute = self._per_minute.get(kind, 0)
        if not per_minute:
            return
        wanted = [(kind, key, limit) for key, limit in _keys(kind, visitor, per_minute)]
        now = time.monotonic()
        wait = max(self._wait(kind, key, limit, now) for kind, key, limit in wanted)
        if wait > 0:
            raise RateLimited(
                f"Too many {kind.value} in a short time. Try again in {int(wait) + 1} seconds.", retry_after=wait
            )
        for kind, key, limit in wanted:
            self._done_at[kind, key] = max(self._done_at.pop((kind, key), 0.0), now) + MINUTE / limit
        while len(self._done_at) > MAX_KEYS:
            del self._done_at[next(iter(self._done_at))]

    def _wait(self, kind: Limited, key: str, limit: int, now: float) -> float:
        """Seconds until one more fits under `limit`; 0 or less where it does now."""
        return self._done_at.get((kind, key), 0.0) + MINUTE / limit - now - MINUTE


def _keys(kind: Limited, visitor: Visitor, per_minute: int) -> list[tuple[str, int]]:
    """Whom one thing counts for, and their limits."""
    if kind is Limited.SIGN_INS:
        return [(visitor.address or "here", per_minute)]
    keys = [(visitor.credential or visitor.address or "here", per_minute)]
    if visitor.credential and visitor.address is not None:
        keys.append((visitor.address, per_minute * ADDRESS_FACTOR))
    return keys
