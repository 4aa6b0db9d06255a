"""`GET /tools` and `POST /invoke`: workflow tools over plain HTTP, in three styles of call; and the files they make."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, cast

from fastapi import APIRouter, Query, Request
from starlette.responses import FileResponse, Response

from app.adapters.inbound.content import ClientId, check_media_type
from app.adapters.inbound.json_bodies import JsonRoute
from app.adapters.inbound.leaving import ClientGone, unless_gone
from app.adapters.inbound.problems import problem
from app.adapters.inbound.rates import limited
from app.adapters.inbound.responses import Json
from app.adapters.inbound.rest.schemas import Problem
from app.adapters.inbound.rest.services import Atelier, Me
from app.adapters.inbound.workflow_files import MAX_FILE_BYTES, read_workflow
from app.core.domain.errors import AtelierError, InvalidFrame, NotFound
from app.core.domain.text import read_json
from app.core.domain.workflow import TOOL_NAME, DefinitionError
from app.core.ports import Invocation
from app.core.services.canvas import is_canvas
from app.core.services.rate_limits import Limited
from app.core.services.tools import FILES
from app.core.services.workflow_import import import_workflow

router = APIRouter(route_class=JsonRoute)

MAX_INVOKE_BYTES = 16 * 1024 * 1024
SHOWN = (
    *("image/png", "image/jpeg", "image/webp", "image/gif", "image/avif", "image/bmp"),
    *("video/mp4", "video/webm", "audio/mpeg", "audio/flac", "audio/ogg", "audio/wav", "audio/x-wav", "text/plain"),
)
"""What a browser may show; everything else is a download."""

_GUARDS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "private, max-age=31536000, immutable",
}
_WORKFLOW = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "image/png": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
_CALL = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object"},
                "examples": {
                    "plain": {"value": {"tool": "example", "params": {"positive_prompt": "a cat"}}},
                    "MCP": {"value": {"name": "example", "arguments": {"positive_prompt": "a cat"}}},
                    "OpenAI": {
                        "value": {
                            "type": "function",
                            "function": {"name": "example", "arguments": '{"positive_prompt": "a cat"}'},
                        }
                    },
                },
            }
        },
    }
}


@router.get("/tools", tags=["tools"], summary="The workflow tools")
async def tools(atelier: Atelier) -> Response:
    """`{"tools": [{name, description, inputSchema}]}`, as MCP lists them."""
    return Response(atelier.tools.listing(), media_type="application/json")


@router.post(
    "/invoke",
    tags=["tools"],
    summary="Run a workflow tool",
    max_body_size=MAX_INVOKE_BYTES,
    dependencies=[limited(Limited.MESSAGES)],
    openapi_extra=_CALL,
    responses={code: {"model": Problem} for code in (404, 415, 422, 502, 503, 504)},
)
async def invoke(request: Request, user: Me, atelier: Atelier) -> Response:
    """Waits until ComfyUI is done, and answers with what it made; without a ComfyUI, with the filled-in workflow.

    Going away stops the job.
    """
    check_media_type(request.headers.get("content-type"), "application/json")
    name, arguments = _call(await request.body())
    try:
        atelier.tools.find(name)
    except NotFound as error:
        raise NotFound(f"{error.message} GET /tools lists what there is.") from error
    try:
        calling = atelier.tools.invoke(user.id, name, arguments)
        done = await (unless_gone(request.receive, calling) if atelier.tools.runs_workflows else calling)
    except ClientGone:
        return Response(status_code=499)  # nobody reads it
    return Json(answer_of(done, str(request.base_url).rstrip("/")))


@router.get("/api/workflows", tags=["tools"], summary="The workflow tools, and what is wrong with the others")
async def workflows(atelier: Atelier) -> Response:
    """Each tool with its definition; each fault with its file, tool and place."""
    repository = atelier.tools.repository
    items = [tool.definition.model_dump(exclude_none=True) for tool in repository.tools().values()]
    return Json({"items": items, "next_cursor": None, "faults": [asdict(fault) for fault in repository.faults()]})


@router.post(
    "/api/workflows",
    status_code=201,
    tags=["tools"],
    summary="Make a tool of a workflow",
    max_body_size=MAX_FILE_BYTES,
    dependencies=[limited(Limited.UPLOADS)],
    openapi_extra=_WORKFLOW,
    responses={code: {"model": Problem} for code in (409, 415, 422)},
)
async def import_a_workflow(
    request: Request,
    user: Me,
    atelier: Atelier,
    name: Annotated[str, Query(pattern=TOOL_NAME)],
    save: Annotated[bool, Query(description="Write it; without that it is only shown.")] = False,
) -> Response:
    """The body is a workflow in API or canvas format, or a PNG that ComfyUI made. Nothing is overwritten."""
    check_media_type(request.headers.get("content-type"), "application/json", "image/png")
    try:
        document = await asyncio.to_thread(read_workflow, await request.body())
        info = await _node_types(atelier, needed=is_canvas(document))
        imported = await asyncio.to_thread(import_workflow, name, document, info)
        if save:
            await asyncio.to_thread(atelier.definitions.add, imported.name, imported.workflow, imported.definition)
    except DefinitionError as error:
        return problem(InvalidFrame(str(error)), place=error.place)
    return Json(asdict(imported), 201 if save else 200)


async def _node_types(atelier: Atelier, *, needed: bool) -> Mapping[str, Any] | None:
    """ComfyUI's node types; without need, None also where it cannot be reached."""
    try:
        return await atelier.object_info()
    except AtelierError:
        if needed:
            raise
        return None


@router.get(FILES + "{file_id}", tags=["tools"], summary="A file that a tool made", response_class=FileResponse)
async def file(file_id: ClientId, user: Me, atelier: Atelier) -> Response:
    """Its owner alone gets it. Pictures, films, sounds and text can be shown; everything else is a download."""
    preview = atelier.previews.find(user.id, file_id)
    if preview is not None:
        return Response(preview[0], media_type=preview[1], headers=_GUARDS)
    found = await atelier.files.find(user.id, file_id)
    if found is None:
        raise NotFound("There is no such file.")
    stored, path = found
    is_shown = stored.media_type in SHOWN
    return FileResponse(
        path,
        media_type=stored.media_type if is_shown else "application/octet-stream",
        filename=stored.name,
        content_disposition_type="inline" if is_shown else "attachment",
        headers=_GUARDS,
    )


def answer_of(done: Invocation, base_url: str = "") -> dict[str, Any]:
    """What a call made, as every plain wire answers it."""
    if done.workflow is not None:
        return {"workflow": done.workflow}
    results = [
        {"url": f"{base_url}{FILES}{file.id}", "media_type": file.media_type, "node": node}
        | ({"text": text} if text is not None else {})
        for file, node, text in done.files
    ]
    answer = {"resultUrl": results[0]["url"] if results else None, "results": results, "promptId": done.prompt_id}
    return answer if done.warning is None else {**answer, "warning": done.warning}


def _call(body: bytes) -> tuple[str, Any]:
    """The tool and the arguments that a call names, in any of the three styles.

    Raises:
        InvalidFrame: it is none of them.
    """
    document = read_json(body, "The request")
    call = cast("dict[str, Any]", document) if isinstance(document, dict) else {}
    if isinstance(call.get("function"), dict):
        function = cast("Mapping[str, Any]", call["function"])
        return _named(function.get("name")), _decoded(function.get("arguments") or "{}")
    if "tool" in call:
        return _named(call["tool"]), call.get("params") or {}
    if "name" in call:
        return _named(call["name"]), call.get("arguments") or {}
    raise InvalidFrame(
        'Name a tool: {"tool", "params"}, {"name", "arguments"} or {"type": "function", "function": {"name", "arguments"}}.'
    )


def _named(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise InvalidFrame("The name of a tool is text.")
    return name


def _decoded(arguments: Any) -> Any:
    return read_json(arguments, "The arguments' text") if isinstance(arguments, str) else arguments
