"""The service itself: models, health, and what a monitoring system reads."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import PlainTextResponse, Response

from app import __version__
from app.adapters.inbound.json_bodies import JsonRoute
from app.adapters.inbound.responses import Json, page
from app.adapters.inbound.rest.schemas import ModelList, Problem
from app.adapters.inbound.rest.services import Atelier
from app.core.domain.errors import ShuttingDown

router = APIRouter(route_class=JsonRoute)


@router.get("/api/models", response_model=ModelList, tags=["models"], summary="The configured models")
async def models(
    atelier: Atelier, refresh: Annotated[bool, Query(description="Ask the providers again.")] = False
) -> Response:
    """The default first, each with what is known of it; and the providers, with what is missing to ask them."""
    listed = await atelier.catalog.models(refresh=refresh)
    return Json(
        {
            "items": [_named_first(model.model_dump(exclude_none=True)) for model in listed.models],
            "next_cursor": None,
            "providers": [provider.model_dump(exclude_none=True) for provider in listed.providers],
        }
    )


def _named_first(model: dict[str, Any]) -> dict[str, Any]:
    return {name: model[name] for name in ("id", "provider", "name", "default")} | model


@router.get("/api/mcp-servers", tags=["tools"], summary="The MCP servers whose tools the agent may use")
async def mcp_servers(atelier: Atelier) -> Response:
    """Each with its tools, and with what is wrong where it does not answer."""
    return page(atelier.mcp_status(), None)


@router.get("/api/health/live", tags=["health"], summary="Whether the process answers")
async def live() -> Response:
    """Always 200 while the process runs; needs no credential."""
    return Json({"status": "ok", "version": __version__})


@router.get(
    "/api/health/ready", tags=["health"], summary="Whether messages can be taken", responses={503: {"model": Problem}}
)
async def ready(atelier: Atelier) -> Response:
    """200 while the store can be written and messages are taken, else 503; needs no credential."""
    if atelier.runs.is_closing:
        raise ShuttingDown
    await atelier.store.ping()
    return Json({"status": "ok", "version": __version__})


@router.get("/metrics", tags=["health"], summary="Figures for Prometheus", response_class=PlainTextResponse)
async def metrics() -> Response:
    """In Prometheus' text format; needs the token."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
