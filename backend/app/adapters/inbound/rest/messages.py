"""Messages of a conversation: its history by pages, and whole turns for programs that need no stream."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from app.adapters.inbound.content import ClientId, Seq
from app.adapters.inbound.json_bodies import JsonRoute
from app.adapters.inbound.problems import STATUS, problem
from app.adapters.inbound.rates import limited
from app.adapters.inbound.responses import Json, page
from app.adapters.inbound.rest.schemas import MessageList, NewMessage, Problem, TurnOut
from app.adapters.inbound.rest.services import Atelier, Me
from app.core.domain.errors import AtelierError, InvalidFrame
from app.core.domain.event import SUSPENDED
from app.core.services.rate_limits import Limited
from app.core.services.runs import Send

router = APIRouter(
    route_class=JsonRoute, prefix="/api/conversations", tags=["messages"], responses={404: {"model": Problem}}
)


@router.get("/{conversation_id}/messages", response_model=MessageList, summary="The history of a conversation")
async def messages(
    conversation_id: ClientId,
    user: Me,
    atelier: Atelier,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Annotated[Seq | None, Query(description="Only messages with a smaller `seq`.")] = None,
    after: Annotated[Seq | None, Query(description="Only messages with a greater `seq`, the first ones.")] = None,
) -> Response:
    """The active branch in order of `seq`; the newest page when neither `before` nor `after` is given.

    Beside `items`: `siblings` where other branches begin, and `runs` for user messages without a complete answer.
    """
    if before is not None and after is not None:
        raise InvalidFrame("Give before or after, not both.")
    found = await atelier.history.messages(user, conversation_id, limit=limit, before=before, after=after)
    cursor = None if found.next_cursor is None else str(found.next_cursor)
    answer: dict[str, Any] = {"items": [message.to_wire() for message in found.items], "next_cursor": cursor}
    if found.siblings:
        answer["siblings"] = found.siblings
    if found.runs:
        answer["runs"] = {message_id: run.to_wire() for message_id, run in found.runs.items()}
    return Json(answer)


@router.get(
    "/{conversation_id}/messages/{message_id}/siblings",
    response_model=MessageList,
    summary="A message and those that stand in its place on other branches",
)
async def siblings(conversation_id: ClientId, message_id: ClientId, user: Me, atelier: Atelier) -> Response:
    """In order of `seq`; `PUT /api/conversations/{id}/head` with one of them makes its branch the active one."""
    found = await atelier.history.siblings(user, conversation_id, message_id)
    return page([message.to_wire() for message in found], None)


@router.post(
    "/{conversation_id}/messages",
    response_model=TurnOut,
    dependencies=[limited(Limited.MESSAGES)],
    responses={
        status: {"model": Problem} for status in sorted({STATUS[code] for code in STATUS if code != "forbidden"})
    },
    summary="Send a message and wait for the answer",
)
async def send(conversation_id: ClientId, body: NewMessage, user: Me, atelier: Atelier) -> Response:
    """Runs a turn and answers once it has ended, or waits for the user. It goes on when the caller does not wait for it."""
    run = await atelier.runs.send(
        user,
        Send(
            content=body.content,
            conversation_id=conversation_id,
            message_id=body.message_id,
            model=body.model,
            client_tools=body.client_tools,
            skill=body.skill,
        ),
    )
    events = await atelier.runs.wait(user, run.id)
    stored = [event.data["message"] for event in events if event.type == "message"]
    failure = next((event.data for event in events if event.type in ("error", SUSPENDED)), None)
    if failure is not None:
        return problem(
            AtelierError(failure["message"]),
            run_id=run.id,
            messages=stored,
            code=failure["code"],
        )
    return Json({"run_id": run.id, "messages": stored})
