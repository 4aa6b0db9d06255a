"""`POST /api/chat` and its resume and stop, as `useChat` and every other client of the AI SDK ask for them."""

from collections.abc import AsyncIterator

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from app.adapters.inbound.ai_sdk.request import ChatRequest, answers_in, content_of, stored_id
from app.adapters.inbound.ai_sdk.translate import Chunk, Translator, first_answer, without_void
from app.adapters.inbound.content import ClientId
from app.adapters.inbound.json_bodies import JsonRoute
from app.adapters.inbound.rates import limited
from app.adapters.inbound.rest.schemas import Problem
from app.adapters.inbound.rest.services import Atelier, Me, Services
from app.core.domain.errors import NotFound
from app.core.domain.event import SUSPENDED, to_json
from app.core.domain.message import MessageRole
from app.core.domain.run import Run, RunStatus
from app.core.domain.user import User
from app.core.services.rate_limits import Limited
from app.core.services.runs import Send

router = APIRouter(route_class=JsonRoute, prefix="/api/chat", tags=["AI SDK"], responses={404: {"model": Problem}})

MAX_CHAT_BYTES = 16 * 1024 * 1024
HEADERS = {"x-vercel-ai-ui-message-stream": "v1", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@router.post(
    "",
    max_body_size=MAX_CHAT_BYTES,
    dependencies=[limited(Limited.MESSAGES)],
    response_class=StreamingResponse,
    summary="Send, answer or regenerate, and stream the turn",
)
async def chat(body: ChatRequest, user: Me, atelier: Atelier) -> Response:
    """The UI message stream of the npm package `ai`. Closing the connection does not stop the run."""
    run, after = await _begin(body, user, atelier)
    return _stream(atelier, user, run, after)


@router.get("/{conversation_id}/stream", response_class=StreamingResponse, summary="Take up a running turn again")
async def resume(conversation_id: ClientId, user: Me, atelier: Atelier) -> Response:
    """The whole turn from its beginning, and on; 204 where none runs."""
    run = await _active(conversation_id, user, atelier)
    if run is None or run.status is not RunStatus.RUNNING:
        return Response(status_code=204)
    return _stream(atelier, user, run, 0)


@router.post("/{conversation_id}/stop", status_code=204, summary="Stop the running turn")
async def stop(conversation_id: ClientId, user: Me, atelier: Atelier) -> Response:
    """What was generated so far is kept and marked; nothing happens where none runs."""
    run = await _active(conversation_id, user, atelier)
    if run is not None:
        await atelier.runs.cancel(user, run.id)
    return Response(status_code=204)


async def _begin(body: ChatRequest, user: User, atelier: Services) -> tuple[Run, int]:
    """The run that a request begins or goes on with, and the event after which its stream begins."""
    if body.trigger == "regenerate-message":
        return await _again(body, user, atelier), 0
    last = body.last
    if last.role == "assistant":
        return await _answer(body, user, atelier)
    content, replaced = content_of(last), stored_id(body.messageId)
    if replaced is not None and await atelier.history.has_message(user, body.id, replaced):
        return await atelier.runs.edit(user, body.id, replaced, content, body.model, body.clientTools), 0
    run = await atelier.runs.send(
        user,
        Send(
            content=content,
            conversation_id=body.id,
            message_id=stored_id(last.id),
            model=body.model,
            client_tools=body.clientTools,
            skill=body.skill,
            create=True,
        ),
    )
    return run, 0


async def _answer(body: ChatRequest, user: User, atelier: Services) -> tuple[Run, int]:
    """Hand the tool results and approvals of the last message to the run that waits for them."""
    run = await _active(body.id, user, atelier)
    if run is None:
        raise NotFound("Nothing in this conversation waits for a tool's result or for an approval.")
    after, taken = run.last_seq, 0
    for answer in answers_in(body.last):
        try:
            await atelier.runs.answer(user, run.id, answer)
            taken += 1
        except NotFound:
            continue  # the message holds older results too, which are stored already
    if not taken:
        raise NotFound("None of these tool results and approvals is waited for.")
    return run, after


async def _active(conversation_id: str, user: User, atelier: Services) -> Run | None:
    conversation = await atelier.history.get(user, conversation_id)
    return await atelier.runs.get(user, conversation.active_run_id) if conversation.active_run_id else None


async def _again(body: ChatRequest, user: User, atelier: Services) -> Run:
    """Run a turn again: that of the message that is named, an answer or a user message, else the last one."""
    if (message_id := stored_id(body.messageId)) is not None:
        message = await atelier.history.message(user, body.id, message_id)
    else:
        newest = await atelier.history.messages(user, body.id, limit=1, before=None, after=None)
        if not newest.items:
            raise NotFound("There is no answer yet that could be given again.")
        message = newest.items[-1]
    begin = atelier.runs.retry if message.role is MessageRole.USER else atelier.runs.regenerate
    return await begin(user, body.id, message.id, body.model, body.clientTools)


def _stream(atelier: Services, user: User, run: Run, after: int) -> Response:
    return StreamingResponse(_lines(atelier, user, run, after), headers=HEADERS, media_type="text/event-stream")


async def _lines(atelier: Services, user: User, run: Run, after: int) -> AsyncIterator[str]:
    translator = Translator(run)
    if after:
        yield "".join(_line(chunk) for chunk in translator.begin(first_answer(run.outline)))
    ended = False
    async for batch in atelier.runs.stream(user, run.id, after):
        if not batch:
            yield ": still here\n\n"
            continue
        ended = batch[-1].ends or batch[-1].type == SUSPENDED
        if text := "".join(_line(chunk) for event in without_void(batch) for chunk in translator.chunks(event)):
            yield text
    if not ended:
        yield "".join(_line(chunk) for chunk in translator.waits())
    yield "data: [DONE]\n\n"


def _line(chunk: Chunk) -> str:
    return f"data: {to_json(chunk)}\n\n"
