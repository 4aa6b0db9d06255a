"""What the application asks of workflow tools: where they are defined, and where they run."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.core.domain.tool import Approval
from app.core.domain.workflow import Workflow, WorkflowTool


@dataclass(frozen=True, slots=True)
class LoadFault:
    """Why a definition, or one tool in it, is not on offer.

    Attributes:
        file: the file's name.
        tool: the tool's name; None where the fault is the whole file's.
        place: where in it.
    """

    file: str
    tool: str | None
    place: str
    message: str


class IToolRepository(Protocol):
    """The workflow tools that are defined."""

    def tools(self) -> Mapping[str, WorkflowTool]:
        """The tools by name, as they are defined now. The same object as long as nothing has changed."""
        ...

    def faults(self) -> Sequence[LoadFault]:
        """What could not be loaded, and why."""
        ...


class IWorkflowRepository(Protocol):
    """The workflows behind the tools."""

    def load(self, file: str) -> Any:
        """The document in the file of that name.

        Raises:
            DefinitionError: there is none, or it is not JSON.
        """
        ...

    def add(self, name: str, workflow: Workflow, definition: Mapping[str, Any]) -> None:
        """Write a workflow and the definition of its tool.

        Raises:
            DefinitionError: there is one of that name already; nothing is overwritten.
        """
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a workflow is.

    Attributes:
        progress, total: steps of the node that runs.
        text: what happens, for people.
        preview: a picture of what there is so far, and its media type.
    """

    progress: float | None = None
    total: float | None = None
    text: str | None = None
    preview: tuple[bytes, str] | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """Something that a workflow made.

    Attributes:
        chunks: opens its bytes.
        text: it itself, where it is text.
    """

    node: str
    name: str
    media_type: str
    chunks: Callable[[], AsyncIterator[bytes]]
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """What a workflow made.

    Attributes:
        warning: what went wrong where only a part of it could be made, in words.
    """

    outputs: Sequence[Output]
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """An image that a workflow reads: its bytes go to the runner under a name, which stands in the workflow in its place."""

    node: str
    input: str
    name: str
    data: bytes


class IWorkflowRunner(Protocol):
    """Runs workflows."""

    async def run(
        self,
        workflow: Workflow,
        prompt_id: str,
        on_progress: Callable[[Progress], None],
        uploads: Sequence[Upload] = (),
    ) -> Made:
        """Run a workflow to its end; what it made. A job of the same `prompt_id` is never begun twice.

        Who is cancelled while waiting stops the job.

        Raises:
            WorkflowRefused, WorkflowFailed, RunnerUnavailable, RunnerTimeout: what went wrong, in words.
        """
        ...


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that belongs to a user."""

    id: str
    user_id: str
    name: str
    media_type: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class Invocation:
    """What came of a call.

    Attributes:
        workflow: the filled-in workflow, where there is no ComfyUI to run it.
        files: what it made, kept under our own addresses, with the node that made each, and its text where it is text.
        warning: what went wrong where only a part of it could be made, in words.
    """

    prompt_id: str
    workflow: Workflow | None = None
    files: Sequence[tuple[StoredFile, str, str | None]] = ()
    warning: str | None = None


class IToolInvoker(Protocol):
    """Workflow tools for every wire: the agent, HTTP and MCP call them alike."""

    def tools(self) -> Mapping[str, WorkflowTool]:
        """The tools by name."""
        ...

    def find(self, name: str) -> WorkflowTool:
        """The tool of that name.

        Raises:
            NotFound: there is none.
        """
        ...

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
        """Run a tool, or, where there is no ComfyUI, fill its workflow in.

        Args:
            call_key: names the call: called again under the same name, the same job is waited for and none is begun.
            uploads: images for parameters that take one: a name, and the bytes.

        Raises:
            NotFound, InvalidArguments: there is no such tool, or it does not take such arguments.
            WorkflowRefused, WorkflowFailed, RunnerUnavailable, RunnerTimeout: ComfyUI could not do it.
        """
        ...


class IEnvironment(Protocol):
    """What a ComfyUI has installed, and what it does."""

    async def object_info(self, *, refresh: bool = False) -> Mapping[str, Any]:
        """Its node types by class."""
        ...

    async def models(self, folder: str | None = None) -> Mapping[str, Sequence[str]]:
        """Its model files by folder."""
        ...

    async def queue(self) -> Mapping[str, Any]:
        """What runs and what waits."""
        ...

    async def cancel(self, prompt_id: str) -> bool:
        """Stop a job, or take it out of the queue; whether there was such a job."""
        ...

    async def system_stats(self) -> Mapping[str, Any]:
        """Its version, memory and devices."""
        ...


class IFileStore(Protocol):
    """Files that users made, each for its owner alone."""

    async def save(self, user_id: str, name: str, media_type: str, chunks: AsyncIterator[bytes]) -> StoredFile:
        """Keep a file.

        Raises:
            TooLarge: it is larger than a file may be.
            StorageUnavailable: it cannot be written.
        """
        ...

    async def find(self, user_id: str, file_id: str) -> tuple[StoredFile, str] | None:
        """A file of this user, and where its bytes are on this machine."""
        ...

    async def recent(self, user_id: str, limit: int) -> Sequence[StoredFile]:
        """The newest files of this user, the newest first."""
        ...


class IToolServers(Protocol):
    """Servers of others whose tools the agent may use; they come and go."""

    def start(self) -> None:
        """Begin to connect; nobody waits for it."""
        ...

    async def stop(self) -> None:
        """Disconnect."""
        ...

    def __call__(self) -> Mapping[str, Any]:
        """The tools of those that answer, by their names, as the agent's library has tools."""
        ...

    def approvals(self) -> Mapping[str, Approval]:
        """What each tool needs where nobody says otherwise."""
        ...

    def status(self) -> list[dict[str, Any]]:
        """Each server with its tools, and what is wrong with those that do not answer."""
        ...


class NoToolServers:
    """There are none."""

    def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""

    def __call__(self) -> Mapping[str, Any]:
        return {}

    def approvals(self) -> Mapping[str, Approval]:
        return {}

    def status(self) -> list[dict[str, Any]]:
        return []
