"""What belongs to a conversation beside its messages: the workflow that is being built, the context, the summary."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Path, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from app.adapters.inbound.content import ClientId, ClientTools, ModelName, SkillSlug
from app.adapters.inbound.json_bodies import JsonRoute
from app.adapters.inbound.rates import limited
from app.adapters.inbound.responses import Json
from app.adapters.inbound.rest.schemas import Problem
from app.adapters.inbound.rest.services import Atelier, Me
from app.adapters.inbound.tools_api import answer_of
from app.core.domain.declared_tools import GRAPH_TOOLS, ApplyWorkflowJson
from app.core.domain.errors import NotFound
from app.core.services.builder import checked
from app.core.services.rate_limits import Limited

router = APIRouter(
    route_class=JsonRoute, prefix="/api/conversations", tags=["workflows"], responses={404: {"model": Problem}}
)


class WorkflowIn(BaseModel):
    """A workflow in ComfyUI's API or canvas format."""

    workflow: dict[str, Any]


class CompactIn(BaseModel):
    """Who is to summarise."""

    model: ModelName | None = Field(None, description="The conversation's own when left out.")


@router.get("/{conversation_id}/workflow", summary="The workflow of a conversation")
async def workflow(
    conversation_id: ClientId,
    user: Me,
    atelier: Atelier,
    format: Literal["info", "api", "canvas"] = "info",  # noqa: A002 - the wire's own word
) -> Response:
    """As the tools tell of it; or a download, as `POST /prompt` of ComfyUI takes it or as its canvas opens it."""
    await atelier.history.get(user, conversation_id)
    editor = await atelier.graphs.editor(conversation_id)
    if format == "info":
        return Json(editor.info(details=True, layout=True))
    answer = Json(editor.api() if format == "api" else editor.canvas())
    answer.headers["Content-Disposition"] = f'attachment; filename="workflow-{format}.json"'
    return answer


@router.put("/{conversation_id}/workflow", summary="Replace the workflow of a conversation")
async def replace(conversation_id: ClientId, body: WorkflowIn, user: Me, atelier: Atelier) -> Response:
    """It is checked against what ComfyUI has installed; one that does not fit changes nothing."""
    await atelier.history.get(user, conversation_id)
    parameters = ApplyWorkflowJson(workflow=body.workflow)
    answer = await atelier.graphs.call(user.id, conversation_id, parameters)
    return Response(answer.text, media_type="application/json")


@router.post("/{conversation_id}/workflow/{tool}", summary="Use a graph tool")
async def use(
    conversation_id: ClientId,
    tool: Annotated[str, Path(examples=["addNode"])],
    user: Me,
    atelier: Atelier,
    parameters: Annotated[dict[str, Any] | None, Body()] = None,
) -> Response:
    """What the agent's tools do, for programs: `addNode`, `connectNodes` and the others, with the same parameters."""
    await atelier.history.get(user, conversation_id)
    if tool not in GRAPH_TOOLS:
        raise NotFound(f"There is no such graph tool. The tools: {', '.join(GRAPH_TOOLS)}.")
    answer = await atelier.graphs.call(user.id, conversation_id, checked(tool, parameters or {}))
    if answer.invocation is not None:
        return Json(answer_of(answer.invocation, ""))
    return Response(answer.text, media_type="application/json")


@router.get("/{conversation_id}/context", summary="What the next call would send")
async def context(
    conversation_id: ClientId,
    user: Me,
    atelier: Atelier,
    model: Annotated[ModelName | None, Query(description="The conversation's own when left out.")] = None,
    skill: Annotated[SkillSlug | None, Query(description="As if the next message used it.")] = None,
    client_tools: Annotated[ClientTools | None, Query(description="As if the next message came with them.")] = None,
) -> Response:
    """The parts of the system prompt, the tools and the messages, in OpenAI's form, and about what each costs in tokens."""
    conversation = await atelier.history.get(user, conversation_id)
    shown = await atelier.contexts.of(
        user, conversation, model=model, skill=skill, client_tools=tuple(client_tools or ())
    )
    return Json(shown)


@router.post(
    "/{conversation_id}/compact",
    dependencies=[limited(Limited.MESSAGES)],
    summary="Summarise the older messages for the model",
)
async def compact(
    conversation_id: ClientId, user: Me, atelier: Atelier, body: Annotated[CompactIn | None, Body()] = None
) -> Response:
    """All but the last turn become a summary in what models are sent. The history keeps every message."""
    done = await atelier.compaction.compact(user, conversation_id, body.model if body is not None else None)
    return Json({"messages": done.messages, "tokens": done.tokens})
