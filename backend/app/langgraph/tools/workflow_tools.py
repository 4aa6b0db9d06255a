"""Workflow tools as tools of the agent: progress goes to the user, pictures are shown and not put into the model's context."""

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, cast

import orjson
from langchain_core.messages import HumanMessage
from langchain_core.tools import BaseTool, StructuredTool, ToolException

from app.core.domain.errors import AtelierError
from app.core.domain.workflow import WorkflowTool
from app.core.ports import Invocation, IToolInvoker, Progress
from app.core.services.tools import FILES
from app.langgraph.context import CallInProgress, current_call
from app.langgraph.messages import ShownFiles

ATTACHMENT = "attachment"
MAX_WORKFLOW_CHARACTERS = 20_000

KeepPreview = Callable[[str, tuple[bytes, str]], str]
"""Keeps a preview of a user's for a while; its address."""


class WorkflowToolSource:
    """The workflow tools that are defined now, as LangChain tools."""

    def __init__(self, service: IToolInvoker, keep_preview: KeepPreview) -> None:
        self._service = service
        self._keep_preview = keep_preview
        self._made_of: Mapping[str, WorkflowTool] | None = None
        self._tools: dict[str, BaseTool] = {}

    def __call__(self) -> Mapping[str, BaseTool]:
        """The tools by name."""
        defined = self._service.tools()
        if defined is not self._made_of:
            self._made_of = defined
            self._tools = {name: self._make(tool) for name, tool in defined.items()}
        return self._tools

    def _make(self, tool: WorkflowTool) -> BaseTool:
        async def run(**arguments: Any) -> tuple[str, ShownFiles | None]:
            return await self._run(tool, arguments)

        return StructuredTool(
            name=tool.name,
            description=tool.description or f"Runs the workflow {tool.name}.",
            args_schema=_schema_for_models(tool),
            coroutine=run,
            response_format="content_and_artifact",
        )

    async def _run(self, tool: WorkflowTool, arguments: dict[str, Any]) -> tuple[str, ShownFiles | None]:
        call = current_call.get()
        assert call is not None, "a workflow tool runs in a turn"
        uploads = _attached(tool, arguments, call)
        try:
            done = await self._service.invoke(
                call.user_id,
                tool.name,
                arguments,
                lambda progress: tell_progress(call, progress, self._keep_preview),
                call_key=f"{call.conversation_id}/{call.key}",
                uploads=uploads,
            )
        except AtelierError as error:
            raise ToolException(error.message) from error
        return told(done)


def tell_progress(call: CallInProgress, progress: Progress, keep_preview: KeepPreview) -> None:
    """Pass on how far a workflow is."""
    if call.recorder is None:
        return
    fields: dict[str, Any] = {
        name: value for name in ("progress", "total", "text") if (value := getattr(progress, name)) is not None
    }
    if progress.preview is not None:
        fields["preview"] = keep_preview(call.user_id, progress.preview)
    call.recorder.tool_progress(call.id, **fields)


def told(done: Invocation) -> tuple[str, ShownFiles | None]:
    """What the model is told of a call, and what the user is shown."""
    if done.workflow is not None:
        text = orjson.dumps(done.workflow).decode()
        return (
            f"No ComfyUI is configured, so nothing was run. The workflow with the values in it: {text[:MAX_WORKFLOW_CHARACTERS]}",
            None,
        )
    if not done.files:
        return f"{_ended(done)} and made nothing that could be shown.", None
    lines = [
        f"- {file.media_type} from node {node}: {FILES}{file.id}" + (f"\n{text}" if text is not None else "")
        for file, node, text in done.files
    ]
    shown = [
        {"url": f"{FILES}{file.id}", "media_type": file.media_type, "name": file.name} for file, _, _ in done.files
    ]
    return f"{_ended(done)}. The user sees what it made:\n" + "\n".join(lines), ShownFiles(shown)


def _ended(done: Invocation) -> str:
    return "The workflow ran to its end" if done.warning is None else f"{done.warning} The rest ran to its end"


def _schema_for_models(tool: WorkflowTool) -> dict[str, Any]:
    """The schema, with a hint at each parameter that takes an image. An attached image need not be named."""
    places = tool.image_places
    if not places:
        return tool.input_schema
    hint = f"An image: '{ATTACHMENT}' for the one that the user attached last, or the address of an earlier result ({FILES}…)."
    properties = {
        name: {**schema, "description": f"{schema.get('description', '')} {hint}".strip()} if name in places else schema
        for name, schema in tool.input_schema["properties"].items()
    }
    required = [name for name in tool.input_schema.get("required", ()) if name not in places]
    return {**tool.input_schema, "properties": properties, "required": required}


def _attached(tool: WorkflowTool, arguments: dict[str, Any], call: CallInProgress) -> dict[str, tuple[str, bytes]]:
    """The images that a call means, of those that the user attached."""
    uploads: dict[str, tuple[str, bytes]] = {}
    images: list[tuple[str, bytes]] | None = None
    for name in tool.image_places:
        wanted = arguments.get(name, ATTACHMENT)
        if not isinstance(wanted, str) or wanted.partition(":")[0] != ATTACHMENT:
            continue
        images = _images_of(call) if images is None else images
        number = wanted.partition(":")[2]
        index = int(number) - 1 if number.isdigit() else 0
        if index < len(images):
            uploads[name] = images[index]
            arguments[name] = images[index][0]
        elif name in arguments:
            raise ToolException("The user has not attached such an image. Ask for one.")
    return uploads


def _images_of(call: CallInProgress) -> list[tuple[str, bytes]]:
    """The images that the user attached, the last one first: a name, and the bytes."""
    found: list[tuple[str, bytes]] = []
    for message in reversed(call.messages):
        content: Any = message.content  # pyright: ignore[reportUnknownMemberType]
        if not isinstance(message, HumanMessage) or isinstance(content, str):
            continue
        for part in cast("list[Any]", content):
            url: Any = cast("dict[str, Any]", part).get("image_url") if isinstance(part, dict) else None
            url = cast("dict[str, Any]", url).get("url") if isinstance(url, dict) else url
            if isinstance(url, str) and url.startswith("data:image/"):
                head, _, data = url.partition(",")
                kind = head.removeprefix("data:image/").partition(";")[0]
                try:
                    found.append(
                        (f"atelier-{call.id[-12:]}-{len(found)}.{kind}", base64.b64decode(data, validate=True))
                    )
                except binascii.Error:
                    continue
    return found
