"""Conversations: make, list, search, change, delete, export and import."""

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from app.adapters.inbound.content import ClientId, Label
from app.adapters.inbound.json_bodies import JsonRoute
from app.adapters.inbound.rates import limited
from app.adapters.inbound.responses import Json, page
from app.adapters.inbound.rest.schemas import (
    ConversationChanges,
    ConversationList,
    ConversationOut,
    Head,
    Import,
    NewConversation,
    Problem,
)
from app.adapters.inbound.rest.services import Atelier, Me, Services
from app.core.domain.conversation import Conversation
from app.core.services.rate_limits import Limited

router = APIRouter(
    route_class=JsonRoute, prefix="/api/conversations", tags=["conversations"], responses={404: {"model": Problem}}
)

MAX_IMPORT_BYTES = 64 * 1024 * 1024

Limit = Annotated[int, Query(ge=1, le=200, description="How many at the most.")]


@router.post("", status_code=201, response_model=ConversationOut, summary="Make a conversation")
async def create(body: NewConversation, user: Me, atelier: Atelier) -> Response:
    """An empty conversation. Sending a message without a conversation makes one too."""
    made = await atelier.history.create(user, title=body.title, model=body.model, system_prompt=body.system_prompt)
    return Json(_out(made, atelier), status_code=201)


@router.get("", response_model=ConversationList, summary="List and search conversations")
async def list_conversations(
    request: Request,
    user: Me,
    atelier: Atelier,
    limit: Limit = 50,
    cursor: Annotated[Label | None, Query(description="The `next_cursor` of the page before.")] = None,
    q: Annotated[Label | None, Query(description="Words that begin words of the title or of a message.")] = None,
    archived: Annotated[
        bool | None, Query(description="Only archived ones, or only others; both when left out.")
    ] = None,
) -> Response:
    """Newest activity first."""
    if q:
        atelier.rates.count(Limited.SEARCHES, request.state.visitor)
    found = await atelier.history.list(user, limit=limit, cursor=cursor, q=q, archived=archived)
    return page([_out(conversation, atelier) for conversation in found.items], found.next_cursor)


@router.post(
    "/import",
    status_code=201,
    response_model=ConversationOut,
    max_body_size=MAX_IMPORT_BYTES,
    dependencies=[limited(Limited.UPLOADS)],
    summary="Import a conversation",
)
async def import_conversation(body: Import, user: Me, atelier: Atelier) -> Response:
    """Take an export back, ids and order kept where they are free, or store bare messages in order."""
    head = body.conversation.model_dump(exclude_none=True)
    if body.title is not None:
        head["title"] = body.title
    messages = [message.model_dump(exclude_unset=True) for message in body.messages]
    stored = await atelier.history.import_conversation(user, head, messages, body.workflow)
    return Json(_out(stored, atelier), status_code=201)


@router.get("/{conversation_id}", response_model=ConversationOut, summary="One conversation")
async def get(conversation_id: ClientId, user: Me, atelier: Atelier) -> Response:
    """The conversation as it is now."""
    return Json(_out(await atelier.history.get(user, conversation_id), atelier))


@router.patch("/{conversation_id}", response_model=ConversationOut, summary="Change a conversation")
async def update(conversation_id: ClientId, body: ConversationChanges, user: Me, atelier: Atelier) -> Response:
    """Title, model, system prompt, archived, pinned, approval of tools, options of the model; what is left out stays."""
    changes = body.model_dump(exclude_unset=True)
    return Json(_out(await atelier.history.update(user, conversation_id, changes), atelier))


@router.put("/{conversation_id}/head", response_model=ConversationOut, summary="Switch the active branch")
async def move(conversation_id: ClientId, body: Head, user: Me, atelier: Atelier) -> Response:
    """The newest branch that goes through the message becomes the active one. Nothing is lost: switch back at any time."""
    return Json(_out(await atelier.history.switch(user, conversation_id, body.message_id), atelier))


@router.delete("/{conversation_id}", status_code=204, summary="Delete a conversation")
async def delete(conversation_id: ClientId, user: Me, atelier: Atelier) -> Response:
    """It goes with its messages and runs; a run that is not over is stopped first."""
    conversation = await atelier.history.get(user, conversation_id)
    await atelier.runs.cancel_conversation(user, conversation)
    await atelier.history.delete(user, conversation_id)
    return Response(status_code=204)


@router.get("/{conversation_id}/export", summary="Export a conversation", response_class=StreamingResponse)
async def export(
    conversation_id: ClientId,
    user: Me,
    atelier: Atelier,
    format: Literal["json", "markdown"] = "json",  # noqa: A002 - the wire's own word
) -> Response:
    """A download: JSON with all branches, which can be imported again, or the active branch as Markdown."""
    conversation = await atelier.history.get(user, conversation_id)
    if format == "json":
        body, media_type, ending = atelier.history.export_json(conversation), "application/json", "json"
    else:
        body, media_type, ending = atelier.history.export_markdown(conversation), "text/markdown; charset=utf-8", "md"
    headers = {"Content-Disposition": f'attachment; filename="{_file_name(conversation)}.{ending}"'}
    return StreamingResponse(body, headers=headers, media_type=media_type)


def _out(conversation: Conversation, atelier: Services) -> dict[str, Any]:
    """A conversation with the model that answers in it next."""
    return {**conversation.to_wire(), "next_model": atelier.history.next_model(conversation)}


def _file_name(conversation: Conversation) -> str:
    """A file name made of the title, in plain ASCII."""
    words = re.findall(r"[A-Za-z0-9]+", conversation.title or "")
    return "-".join(words)[:60].lower() or "conversation"
