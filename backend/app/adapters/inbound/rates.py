"""Rate limits of routes."""

from typing import Any

from fastapi import Depends, Request

from app.core.services.rate_limits import Limited, RateLimits


def limited(kind: Limited) -> Any:
    """A dependency that counts one request of `kind`, and refuses it with 429 where there are too many."""

    async def count(request: Request) -> None:
        rates: RateLimits = request.app.state.services.rates
        rates.count(kind, request.state.visitor)

    return Depends(count)
