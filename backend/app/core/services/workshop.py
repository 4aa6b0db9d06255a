"""The graph tools without a canvas: changes to the workflow document of a conversation, one after the other, and its runs."""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from app.core.domain.declared_tools import (
    AddNode,
    ApplyWorkflowJson,
    ConnectNodes,
    ExecuteWorkflow,
    FillPromptNode,
    GetWorkflowInfo,
    Parameters,
    RemoveNode,
    SetNodeWidgetValue,
)
from app.core.domain.errors import ConversationBusy, InvalidFrame
from app.core.domain.event import to_json
from app.core.domain.graph import WorkflowDocument
from app.core.domain.ids import new_id
from app.core.domain.workflow import Workflow
from app.core.domain.workflow_errors import RunnerTimeout, RunnerUnavailable
from app.core.ports import IEnvironment, Invocation, IWorkflowDocuments, Progress
from app.core.services.graph_editor import GraphEditor, GraphError
from app.core.services.tools import ToolService
from app.core.services.workflow_check import check
from app.core.services.workflow_files import check_files

ATTEMPTS = 8
_NAMESPACE = uuid.UUID("f4fbd1a4-9f0e-5c3e-8f2c-6f2d1f1f5a77")


@dataclass(frozen=True, slots=True)
class GraphAnswer:
    """What a graph tool answers.

    Attributes:
        text: JSON, for the model or the program that asked.
        invocation: what a run of the workflow made.
    """

    text: str
    invocation: Invocation | None = None


class Workshop:
    """The graph tools over the documents of conversations.

    Args:
        environment: the ComfyUI whose node types documents are checked against; None where none is configured.
        tools: runs workflows.

    Attributes:
        is_available: whether there is a ComfyUI to build workflows for.
    """

    def __init__(self, documents: IWorkflowDocuments, environment: IEnvironment | None, tools: ToolService) -> None:
        self._documents = documents
        self._environment = environment
        self.is_available = environment is not None
        self._tools = tools
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def call(
        self,
        user_id: str,
        conversation_id: str,
        parameters: Parameters,
        on_progress: Callable[[Progress], None] = lambda _: None,
        *,
        call_id: str | None = None,
    ) -> GraphAnswer:
        """Do what a graph tool was asked. A call that is repeated under the same `call_id` is answered as the first time.

        Raises:
            GraphError: it cannot be done; the workflow is as it was.
            WorkflowRefused, WorkflowFailed, RunnerUnavailable, RunnerTimeout: the workflow cannot be run.
            NotFound: the conversation is gone.
        """
        if isinstance(parameters, ExecuteWorkflow):
            return await self._execute(user_id, conversation_id, parameters.timeout, on_progress, call_id)
        # Calls of one answer are begun together, in order: whoever comes first to the lock is first.
        async with self._lock(conversation_id):
            for _ in range(ATTEMPTS):
                document = await self._read(conversation_id)
                if call_id is not None and call_id in document.answered:
                    return GraphAnswer(document.answered[call_id])
                text = to_json(_edit(GraphEditor(document, await self._object_info()), parameters))
                if isinstance(parameters, GetWorkflowInfo):
                    return GraphAnswer(text)
                if call_id is not None:
                    document.remember(call_id, text)
                if await self._documents.put(conversation_id, document):
                    return GraphAnswer(text)
        raise ConversationBusy("The workflow is being changed by others all the time. Try again in a moment.")

    async def editor(self, conversation_id: str) -> GraphEditor:
        """The workflow of a conversation, to be read.

        Raises:
            RunnerUnavailable: ComfyUI cannot be asked for its node types.
        """
        return GraphEditor(await self._read(conversation_id), await self._object_info())

    async def _execute(
        self,
        user_id: str,
        conversation_id: str,
        patience: float | None,
        on_progress: Callable[[Progress], None],
        call_id: str | None,
    ) -> GraphAnswer:
        workflow = await self._checked(conversation_id)
        key = f"{conversation_id}/{call_id}" if call_id is not None else new_id()
        prompt_id = str(uuid.uuid5(_NAMESPACE, key))
        try:
            async with asyncio.timeout(patience):
                done = await self._tools.run(user_id, workflow, on_progress, prompt_id=prompt_id)
        except TimeoutError as error:
            raise RunnerTimeout(
                f"The workflow was not done within {patience:g} seconds and was stopped. Give it more time."
            ) from error
        return GraphAnswer(to_json({"promptId": prompt_id, "files": len(done.files)}), done)

    async def _checked(self, conversation_id: str) -> Workflow:
        """The workflow, if ComfyUI can run it."""
        info = await self._object_info()
        workflow = GraphEditor(await self._read(conversation_id), info).api()
        if not workflow:
            raise GraphError("The workflow is empty. Add nodes to it first.")
        check(workflow, info)
        check_files(workflow)
        if not any(info[node["class_type"]].get("output_node") for node in workflow.values()):
            raise GraphError("No node gives anything out. Add one such as SaveImage, and connect it.")
        return workflow

    async def _read(self, conversation_id: str) -> WorkflowDocument:
        return await self._documents.get(conversation_id) or WorkflowDocument()

    async def _object_info(self) -> Any:
        if self._environment is None:
            raise RunnerUnavailable(
                "No ComfyUI is configured, so there is nothing to build a workflow for. Set COMFYUI_URL and start again."
            )
        return await self._environment.object_info()

    def _lock(self, conversation_id: str) -> asyncio.Lock:
        return self._locks.setdefault(conversation_id, asyncio.Lock())


def _edit(editor: GraphEditor, parameters: Parameters) -> Any:
    """Do what a tool's parameters say, and answer it."""
    match parameters:
        case AddNode():
            place = parameters.position
            return editor.add_node(parameters.nodeType, (place.x, place.y) if place is not None else None)
        case RemoveNode():
            return editor.remove_node(parameters.nodeId)
        case ConnectNodes():
            return editor.connect(
                parameters.sourceNodeId, parameters.sourceSlot, parameters.targetNodeId, parameters.targetSlot
            )
        case SetNodeWidgetValue():
            return editor.set_value(parameters.nodeId, parameters.widgetName, parameters.value)
        case FillPromptNode():
            return editor.fill_prompt(parameters.nodeId, parameters.text)
        case ApplyWorkflowJson():
            return editor.apply(parameters.workflow)
        case GetWorkflowInfo():
            return editor.info(
                details=parameters.includeNodeDetails,
                layout=parameters.includeLayout,
                options=parameters.includeWidgetOptions,
                full=parameters.fullFormat,
            )
        case _:
            raise InvalidFrame("That is no tool for workflows.")
