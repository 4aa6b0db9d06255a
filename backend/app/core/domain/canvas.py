"""The tools of the ComfyUI canvas, which run in the user's browser: declared here once, for models and for clients."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

NodeId = Annotated[int, Field(ge=0, description="The node's number on the canvas.")]
Slot = Annotated[int, Field(ge=0, description="The slot's number, from 0.")]


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Position(_Parameters):
    """A place on the canvas, in pixels."""

    x: float
    y: float


class AddNode(_Parameters):
    """Parameters of `addNode`."""

    nodeType: str = Field(min_length=1, description="The class of the node, for example KSampler.")  # noqa: N815
    position: Position | None = Field(None, description="Where to put it; a free place when left out.")


class RemoveNode(_Parameters):
    """Parameters of `removeNode`."""

    nodeId: NodeId  # noqa: N815


class ConnectNodes(_Parameters):
    """Parameters of `connectNodes`."""

    sourceNodeId: NodeId  # noqa: N815
    sourceSlot: Slot  # noqa: N815
    targetNodeId: NodeId  # noqa: N815
    targetSlot: Slot  # noqa: N815


class GetWorkflowInfo(_Parameters):
    """Parameters of `getWorkflowInfo`."""

    includeNodeDetails: bool = Field(False, description="Inputs, outputs and widget values of each node.")  # noqa: N815
    includeLayout: bool = Field(False, description="Positions and sizes.")  # noqa: N815
    includeWidgetOptions: bool = Field(False, description="What each widget can be set to.")  # noqa: N815
    fullFormat: bool = Field(False, description="The whole workflow as ComfyUI saves it.")  # noqa: N815


class SetNodeWidgetValue(_Parameters):
    """Parameters of `setNodeWidgetValue`."""

    nodeId: NodeId  # noqa: N815
    widgetName: str = Field(min_length=1, description="The widget's name, for example steps.")  # noqa: N815
    value: str | int | float | bool | None = Field(description="The new value.")


class FillPromptNode(_Parameters):
    """Parameters of `fillPromptNode`."""

    nodeId: NodeId  # noqa: N815
    text: str = Field(description="The prompt.")


class ExecuteWorkflow(_Parameters):
    """Parameters of `executeWorkflow`."""

    timeout: float | None = Field(None, gt=0, le=3_600, description="Seconds to wait for the result.")


class ApplyWorkflowJson(_Parameters):
    """Parameters of `applyWorkflowJson`."""

    workflow: dict[str, Any] = Field(description="A workflow in ComfyUI's API or canvas format.")


@dataclass(frozen=True, slots=True)
class CanvasTool:
    """A tool of the canvas."""

    description: str
    parameters: type[BaseModel]


CANVAS_TOOLS: dict[str, CanvasTool] = {
    "addNode": CanvasTool("Add a node to the ComfyUI canvas.", AddNode),
    "removeNode": CanvasTool("Remove a node from the ComfyUI canvas.", RemoveNode),
    "connectNodes": CanvasTool("Connect an output of one node to an input of another.", ConnectNodes),
    "getWorkflowInfo": CanvasTool("Read the workflow that is on the ComfyUI canvas.", GetWorkflowInfo),
    "setNodeWidgetValue": CanvasTool("Set a widget of a node to a value.", SetNodeWidgetValue),
    "fillPromptNode": CanvasTool("Write a prompt into a text node.", FillPromptNode),
    "executeWorkflow": CanvasTool("Run the workflow that is on the canvas and wait for its result.", ExecuteWorkflow),
    "applyWorkflowJson": CanvasTool("Replace the canvas by a whole workflow.", ApplyWorkflowJson),
}
