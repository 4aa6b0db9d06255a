"""Workflow tools: what is on offer, and a call from any wire, checked, filled in and run."""

import asyncio
import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.core.domain.errors import InvalidFrame, NotFound
from app.core.domain.event import to_json
from app.core.domain.ids import new_id
from app.core.domain.text import check_json
from app.core.domain.workflow import Workflow, WorkflowTool
from app.core.ports import (
    IFileStore,
    Invocation,
    IToolRepository,
    IWorkflowRunner,
    Output,
    Progress,
    StoredFile,
    Upload,
)
from app.core.services.workflow_files import WHAT_FITS, leaves_its_folder

FILES = "/api/files/"
_NAMESPACE = uuid.UUID("6f0d2c58-0d0b-5b5e-9a53-6a2f2f3f9a11")


class InvalidArguments(InvalidFrame):
    """Arguments that do not fit a tool's schema.

    Attributes:
        faults: `{path, message}` each.
    """

    def __init__(self, name: str, faults: Sequence[dict[str, str]]) -> None:
        said = "; ".join(f"{fault['path'] or '/'}: {fault['message']}" for fault in faults[:5])
        super().__init__(f"The arguments do not fit the tool {name}. {said}")
        self.faults = list(faults)


class ToolService:
    """An `IToolInvoker` over the tools that are defined.

    Args:
        runner: where workflows run; None where no ComfyUI is configured.
    """

    def __init__(self, repository: IToolRepository, runner: IWorkflowRunner | None, files: IFileStore) -> None:
        self._repository = repository
        self._runner = runner
        self._files = files
        self._chance = random.SystemRandom()
        self._listed: tuple[Mapping[str, WorkflowTool], bytes] | None = None

    @property
    def runs_workflows(self) -> bool:
        """Whether calls are run, and not only filled in."""
        return self._runner is not None

    @property
    def repository(self) -> IToolRepository:
        """Where the tools are defined."""
        return self._repository

    def tools(self) -> Mapping[str, WorkflowTool]:
        """The tools by name."""
        return self._repository.tools()

    def listing(self) -> bytes:
        """All tools, as `GET /tools` answers."""
        tools = self._repository.tools()
        if self._listed is None or self._listed[0] is not tools:
            listed = [
                {"name": tool.name, "description": tool.description, "inputSchema": tool.input_schema}
                for tool in tools.values()
            ]
            self._listed = (tools, to_json({"tools": listed}).encode())
        return self._listed[1]

    def find(self, name: str) -> WorkflowTool:
        """The tool of that name.

        Raises:
            NotFound: there is none.
        """
        tool = self._repository.tools().get(name)
        if tool is None:
            raise NotFound(f"There is no tool named {name[:100]!r}.")
        return tool

    def check(self, tool: WorkflowTool, arguments: Any) -> dict[str, Any]:
        """`arguments`, if they fit the tool.

        Raises:
            InvalidArguments: they do not.
        """
        if not isinstance(arguments, dict):
            raise InvalidArguments(tool.name, [{"path": "", "message": "must be an object."}])
        check_json(arguments, "the arguments")
        faults = _faults(tool, arguments)  # pyright: ignore[reportUnknownArgumentType]
        if faults:
            raise InvalidArguments(tool.name, faults)
        return arguments  # pyright: ignore[reportUnknownVariableType]

    async def invoke(
        self,
        user_id: str,
        name: str,
        arguments: Any,
        on_progress: Callable[[Progress], None] = lambda _: None,
        *,
        call_key: str | None = None,
        uploads: Mapping[str, tuple[str, bytes]] | None = None,
    ) -> Invocation:
        tool = self.find(name)
        workflow = tool.fill(self.check(tool, arguments), self._chance)
        _check_files(tool, arguments, workflow)
        prompt_id = str(uuid.uuid5(_NAMESPACE, call_key)) if call_key else new_id()
        if self._runner is None:
            return Invocation(prompt_id, workflow)
        given = {**await self._own_files(user_id, tool, arguments), **(uploads or {})}
        images = [
            Upload(node, name, *given[field_name])
            for field_name, places in tool.media_places.items()
            if field_name in given
            for node, name in places
        ]
        return await self.run(user_id, workflow, on_progress, prompt_id=prompt_id, uploads=images)

    async def _own_files(
        self, user_id: str, tool: WorkflowTool, arguments: Mapping[str, Any]
    ) -> dict[str, tuple[str, bytes]]:
        """The user's own files that stand in `arguments` by their address, for parameters that take an image.

        Raises:
            NotFound: there is no such file of this user.
        """
        found: dict[str, tuple[str, bytes]] = {}
        for name in tool.media_places:
            value: Any = arguments.get(name)
            if not _is_own_file(value):
                continue
            file = await self._files.find(user_id, value.rpartition(FILES)[2])
            if file is None:
                raise NotFound(f"There is no file {value!r}.")
            stored, path = file
            found[name] = (f"{stored.id}-{stored.name}", await asyncio.to_thread(Path(path).read_bytes))
        return found

    async def run(
        self,
        user_id: str,
        workflow: Workflow,
        on_progress: Callable[[Progress], None],
        *,
        prompt_id: str,
        uploads: Sequence[Upload] = (),
    ) -> Invocation:
        """Run a workflow and keep what it makes."""
        assert self._runner is not None
        made = await self._runner.run(workflow, prompt_id, on_progress, uploads)
        kept = [(await self._keep(user_id, output), output.node, output.text) for output in made.outputs]
        return Invocation(prompt_id, None, kept, made.warning)

    async def _keep(self, user_id: str, output: Output) -> StoredFile:
        return await self._files.save(user_id, output.name, output.media_type, output.chunks())


def _check_files(tool: WorkflowTool, arguments: Mapping[str, Any], workflow: Workflow) -> None:
    """Raises:
    InvalidArguments: a file name that the caller gave leaves ComfyUI's folders.
    """
    faults = [
        {"path": f"/{name}", "message": f"{WHAT_FITS}."}
        for name, node, target in tool.places(arguments)
        if not (name in tool.media_places and _is_own_file(arguments[name]))
        and leaves_its_folder(workflow[node], target, arguments[name])
    ]
    if faults:
        raise InvalidArguments(tool.name, faults)


def _is_own_file(value: Any) -> bool:
    """Whether a value is the address of a file here; its id is looked up before it is used."""
    return isinstance(value, str) and FILES in value


def _faults(tool: WorkflowTool, arguments: dict[str, Any]) -> list[dict[str, str]]:
    known = tool.input_schema["properties"]
    unknown = [
        {"path": f"/{name}", "message": f"is not a parameter of this tool. It has: {', '.join(known) or 'none'}."}
        for name in arguments
        if name not in known
    ]
    errors = sorted(_validator(tool).iter_errors(arguments), key=lambda error: list(map(str, error.absolute_path)))
    return unknown + [
        {"path": "".join(f"/{part}" for part in error.absolute_path), "message": error.message[:500]}
        for error in errors
    ]


@lru_cache(maxsize=4_096)
def _validator(tool: WorkflowTool) -> Any:
    from jsonschema.validators import Draft202012Validator

    return Draft202012Validator(tool.input_schema)
