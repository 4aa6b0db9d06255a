"""Runs: where one stands, stop it, and its events as a stream."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.responses import Response, StreamingResponse

from app.adapters.inbound.content import ClientId, Seq
from app.adapters.inbound.json_bodies import JsonRoute
from app.adapters.inbound.responses import Json
from app.adapters.inbound.rest.schemas import NewToolApproval, NewToolResult, Problem, RunOut
from app.adapters.inbound.rest.services import Atelier, Me
from app.core.domain.event import RunEvent
from app.core.services.answers import ToolApproval, ToolResult

router = APIRouter(route_class=JsonRoute, prefix="/api/runs", tags=["runs"], responses={404: {"model": Problem}})


@router.get("/{run_id}", response_model=RunOut, summary="One run")
async def get(run_id: ClientId, user: Me, atelier: Atelier) -> Response:
    """Where the run stands, and how it ended."""
    return Json((await atelier.runs.get(user, run_id)).to_wire())


@router.post("/{run_id}/cancel", response_model=RunOut, summary="Stop a run")
async def cancel(run_id: ClientId, user: Me, atelier: Atelier) -> Response:
    """What was generated so far is kept and marked. A run that has ended stays as it is."""
    await atelier.runs.cancel(user, run_id)
    await atelier.runs.wait(user, run_id)
    return Json((await atelier.runs.get(user, run_id)).to_wire())


@router.post("/{run_id}/tool_results", response_model=RunOut, summary="Give the result of a tool of the client")
async def tool_result(run_id: ClientId, body: NewToolResult, user: Me, atelier: Atelier) -> Response:
    """The run goes on when all calls have their results."""
    answer = ToolResult(body.tool_call_id, body.result, body.is_error)
    return Json((await atelier.runs.answer(user, run_id, answer)).to_wire())


@router.post("/{run_id}/approvals", response_model=RunOut, summary="Agree to a call, or refuse it")
async def approve(run_id: ClientId, body: NewToolApproval, user: Me, atelier: Atelier) -> Response:
    """A call that is refused gets a result that says so, with the reason."""
    answer = ToolApproval(body.tool_call_id, body.approved, body.reason)
    return Json((await atelier.runs.answer(user, run_id, answer)).to_wire())


@router.get(
    "/{run_id}/events",
    summary="A run's events, as server-sent events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"example": 'id: 3\ndata: {"type": "token", "seq": 3, …}\n\n'}}}},
)
async def events(
    run_id: ClientId,
    user: Me,
    atelier: Atelier,
    after: Annotated[Seq, Query(description="Only events with a greater `seq`.")] = 0,
    last_event_id: Annotated[
        Seq | None, Header(description="The same, as browsers send it when they reconnect.")
    ] = None,
) -> Response:
    """The same events as on the WebSocket, each with its `seq` as its id; ends with the run."""
    await atelier.runs.get(user, run_id)
    batches = atelier.runs.stream(user, run_id, after if last_event_id is None else last_event_id, until_it_waits=False)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_lines(batches), headers=headers, media_type="text/event-stream")


async def _lines(batches: AsyncIterator[list[RunEvent]]) -> AsyncIterator[str]:
    async for batch in batches:
        yield "".join(map(_line, batch)) or ": still here\n\n"


def _line(event: RunEvent) -> str:
    """An event with its number; a notice has none, so that a browser that comes back asks for what it missed."""
    return f"data: {event.json}\n\n" if event.is_notice else f"id: {event.seq}\ndata: {event.json}\n\n"
