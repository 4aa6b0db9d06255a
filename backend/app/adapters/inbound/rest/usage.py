"""`GET /api/usage`: what was spent, in tokens and, where prices are known, in money."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from app.adapters.inbound.content import ClientId
from app.adapters.inbound.json_bodies import JsonRoute
from app.adapters.inbound.responses import Json
from app.adapters.inbound.rest.schemas import UsageReport
from app.adapters.inbound.rest.services import Atelier, Me

router = APIRouter(route_class=JsonRoute)

Day = Annotated[str | None, Query(pattern=r"^\d{4}-\d{2}-\d{2}$", examples=["2026-11-21"])]


@router.get("/api/usage", response_model=UsageReport, tags=["usage"], summary="Your tokens by day and model")
async def usage(
    user: Me,
    atelier: Atelier,
    since: Day = None,
    until: Day = None,
    conversation_id: Annotated[ClientId | None, Query()] = None,
) -> Response:
    """Days are those of UTC, both ends included. Prices are this service's table and the operator's `models.json`."""
    return Json(await atelier.usage.report(user, since, until, conversation_id))
