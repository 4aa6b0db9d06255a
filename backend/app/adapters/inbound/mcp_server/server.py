"""An MCP server over the workflow tools: the official SDK speaks the protocol, this says what is behind it."""

import asyncio
import base64
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp_types as types
import orjson
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

from app import __version__
from app.adapters.inbound.tools_api import answer_of
from app.core.domain.errors import AtelierError, NotFound
from app.core.ports import IFileStore, Invocation, IToolInvoker, Progress
from app.core.services.builder import Builder
from app.core.services.tools import FILES

Context = ServerRequestContext[Any, Any]
WhoAsks = Callable[[Context], tuple[str, str]]
"""The user of a request, and the address of this service as they see it."""

MAX_INLINE_BYTES = 4 * 1024 * 1024
"""Pictures up to this size come as content; larger ones, and all other files, as links."""

RECENT_FILES = 50
_HOW_TO_LIST = "tools/list tells what there is."
WORKFLOWS, RESULTS = "atelier://workflows/", "atelier://files/"
BUILDER_INSTRUCTIONS = (
    "The tools build one ComfyUI workflow: add nodes, connect them by the slots that are answered, set values, run it. "
    "searchInstalledNodes and getAvailableModels tell what there is."
)
INSTRUCTIONS = "The tools are ComfyUI workflows: each runs one with your values in it and answers with what it made."
_OUTPUT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "workflow": {"type": "object", "description": "The filled-in workflow, where no ComfyUI runs it."},
        "resultUrl": {"type": ["string", "null"]},
        "warning": {"type": "string", "description": "What went wrong, where only a part could be made."},
        "results": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "url": {"type": "string"},
                    "media_type": {"type": "string"},
                    "node": {"type": "string"},
                    "text": {"type": "string"},
                },
                "required": ["url", "media_type", "node"],
            },
        },
        "promptId": {"type": "string"},
    },
}


def make_server(tools: IToolInvoker, files: IFileStore, who: WhoAsks) -> Server[Any]:
    """The server; `who` tells whose request it is."""
    answers = _Answers(tools, files, who)
    return Server(
        "atelier",
        version=__version__,
        title="Atelier",
        instructions=INSTRUCTIONS,
        on_list_tools=answers.list_tools,
        on_call_tool=answers.call_tool,
        on_list_resources=answers.list_resources,
        on_list_resource_templates=answers.list_templates,
        on_read_resource=answers.read_resource,
    )


def make_builder_server(builder: Builder, files: IFileStore, who: WhoAsks) -> Server[Any]:
    """The server of the tools that build workflows."""
    answers = _BuilderAnswers(builder, files, who)
    return Server(
        "atelier-builder",
        version=__version__,
        title="Atelier: building workflows",
        instructions=BUILDER_INSTRUCTIONS,
        on_list_tools=answers.list_tools,
        on_call_tool=answers.call_tool,
    )


class _BuilderAnswers:
    def __init__(self, builder: Builder, files: IFileStore, who: WhoAsks) -> None:
        self._builder = builder
        self._files = files
        self._who = who

    async def list_tools(self, context: Context, params: Any) -> types.ListToolsResult:
        listed = [
            types.Tool(name=name, description=tool.description, input_schema=tool.parameters.model_json_schema())
            for name, tool in self._builder.tools().items()
        ]
        return types.ListToolsResult(tools=listed)

    async def call_tool(self, context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        user_id, base_url = self._who(context)
        if params.name not in self._builder.tools():
            raise MCPError(types.INVALID_PARAMS, f"There is no tool named {params.name[:100]!r}. {_HOW_TO_LIST}")
        try:
            async with _progress_report(context) as take:
                answer = await self._builder.call(user_id, params.name, params.arguments or {}, take)
        except AtelierError as error:
            return _failed(error)
        if answer.invocation is not None:
            shown = await made(answer.invocation, self._files, user_id, base_url)
            return types.CallToolResult(content=shown, structured_content=answer_of(answer.invocation, base_url))
        return types.CallToolResult(content=[types.TextContent(type="text", text=answer.text)])


class _Answers:
    def __init__(self, tools: IToolInvoker, files: IFileStore, who: WhoAsks) -> None:
        self._tools = tools
        self._files = files
        self._who = who

    async def list_tools(self, context: Context, params: Any) -> types.ListToolsResult:
        listed = [
            types.Tool(
                name=tool.name, description=tool.description, input_schema=tool.input_schema, output_schema=_OUTPUT
            )
            for tool in self._tools.tools().values()
        ]
        return types.ListToolsResult(tools=listed)

    async def call_tool(self, context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        user_id, base_url = self._who(context)
        try:
            self._tools.find(params.name)
        except NotFound as error:
            raise MCPError(types.INVALID_PARAMS, f"{error.message} {_HOW_TO_LIST}") from error
        try:
            async with _progress_report(context) as take:
                done = await self._tools.invoke(user_id, params.name, params.arguments or {}, take)
        except AtelierError as error:
            return _failed(error)
        answer = answer_of(done, base_url)
        return types.CallToolResult(content=await made(done, self._files, user_id, base_url), structured_content=answer)

    async def list_resources(self, context: Context, params: Any) -> types.ListResourcesResult:
        user_id, _ = self._who(context)
        workflows = [
            types.Resource(
                name=tool.name,
                uri=f"{WORKFLOWS}{tool.name}",
                description=f"The workflow behind the tool {tool.name}.",
                mime_type="application/json",
            )
            for tool in self._tools.tools().values()
        ]
        results = [
            types.Resource(name=file.name, uri=f"{RESULTS}{file.id}", mime_type=file.media_type, size=file.size)
            for file in await self._files.recent(user_id, RECENT_FILES)
        ]
        return types.ListResourcesResult(resources=[*workflows, *results])

    async def list_templates(self, context: Context, params: Any) -> types.ListResourceTemplatesResult:
        templates = [
            types.ResourceTemplate(
                name="workflow", uri_template=WORKFLOWS + "{name}", description="The workflow behind a tool."
            ),
            types.ResourceTemplate(
                name="file", uri_template=RESULTS + "{id}", description="A file that a workflow made."
            ),
        ]
        return types.ListResourceTemplatesResult(resource_templates=templates)

    async def read_resource(
        self, context: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        user_id, _ = self._who(context)
        uri = str(params.uri)
        if uri.startswith(WORKFLOWS) and (tool := self._tools.tools().get(uri.removeprefix(WORKFLOWS))) is not None:
            text = orjson.dumps(tool.workflow, option=orjson.OPT_INDENT_2).decode()
            contents: Any = types.TextResourceContents(uri=uri, mime_type="application/json", text=text)
        elif uri.startswith(RESULTS):
            file_id = uri.removeprefix(RESULTS)
            found = await self._files.find(user_id, file_id)
            if found is None:
                raise MCPError(types.INVALID_PARAMS, "There is no such file.")
            blob = base64.b64encode(await _bytes(self._files, user_id, file_id)).decode()
            contents = types.BlobResourceContents(uri=uri, mime_type=found[0].media_type, blob=blob)
        else:
            raise MCPError(types.INVALID_PARAMS, f"There is no resource {uri[:200]!r}.")
        return types.ReadResourceResult(contents=[contents])


async def made(done: Invocation, files: IFileStore, user_id: str, base_url: str) -> list[Any]:
    """What an invocation made, as MCP's content."""
    if done.workflow is not None:
        return [types.TextContent(type="text", text=orjson.dumps(answer_of(done, base_url)).decode())]
    content: list[Any] = [] if done.warning is None else [types.TextContent(type="text", text=done.warning)]
    for stored, node, text in done.files:
        if text is not None:
            content.append(types.TextContent(type="text", text=text))
        elif stored.media_type.startswith("image/") and stored.size <= MAX_INLINE_BYTES:
            data = base64.b64encode(await _bytes(files, user_id, stored.id)).decode()
            content.append(types.ImageContent(type="image", data=data, mime_type=stored.media_type))
        else:
            content.append(
                types.ResourceLink(
                    type="resource_link",
                    name=stored.name,
                    uri=f"{base_url}{FILES}{stored.id}",
                    description=f"Made by node {node}.",
                    mime_type=stored.media_type,
                    size=stored.size,
                )
            )
    return content or [types.TextContent(type="text", text="The workflow made nothing that could be shown.")]


async def _bytes(files: IFileStore, user_id: str, file_id: str) -> bytes:
    found = await files.find(user_id, file_id)
    if found is None:
        raise MCPError(types.INVALID_PARAMS, "There is no such file.")
    return await asyncio.to_thread(Path(found[1]).read_bytes)


def _failed(error: AtelierError) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=error.message)], is_error=True)


@asynccontextmanager
async def _progress_report(context: Context) -> AsyncGenerator[Callable[[Progress], None]]:
    """Takes how far a call is, and tells an MCP client: its numbers only rise, so each step of a node counts as one."""
    queue: asyncio.Queue[Progress | None] = asyncio.Queue()

    def take(progress: Progress) -> None:
        if progress.preview is None:
            queue.put_nowait(progress)

    async def tell() -> None:
        told = 0
        while (progress := await queue.get()) is not None:
            told += 1
            text = progress.text or ""
            if progress.progress is not None and progress.total:
                text = f"{text} {progress.progress:g}/{progress.total:g}".strip()
            await context.session.report_progress(told, None, text or None)

    teller = asyncio.create_task(tell())
    try:
        yield take
    finally:
        queue.put_nowait(None)
        await asyncio.gather(teller, return_exceptions=True)
