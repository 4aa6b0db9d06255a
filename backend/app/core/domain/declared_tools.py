"""The agent's tools for ComfyUI and for skills, declared once: models, clients and the page's own types are told from here.

`scripts/tool_schemas.py` writes their JSON Schemas, TypeScript types and Zod schemas for the frontend. Names and parameters
are those that users of ComfyUI's assistants know.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from app.core.domain.tool import Approval

MAX_NUMBER = 2**53 - 1
"""The largest whole number that JavaScript and JSON's other readers take as it is."""

SLUG = r"^[a-z0-9]+(-[a-z0-9]+)*$"
MAX_NAME, MAX_DESCRIPTION, MAX_INSTRUCTIONS = 80, 500, 20_000


def _whole(value: Any) -> Any:
    """JSON has one kind of number: 3.0 is the whole number 3."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_NUMBER else value


def _finite(value: Any) -> Any:
    """A whole number that is too large for a float is no number for most readers of JSON."""
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            float(value)
        except OverflowError as error:
            raise ValueError("is too large") from error
    return value


Place = Annotated[int, Field(ge=0, le=MAX_NUMBER), BeforeValidator(_whole)]
Pixels = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_finite)]
Seconds = Annotated[float, Field(gt=0, le=3_600), BeforeValidator(_finite)]
NodeId = Annotated[Place, Field(description="The node's number on the canvas.")]
Slot = Annotated[Place, Field(description="The slot's number, from 0.")]
Value = Annotated[
    str | int | Annotated[float, Field(allow_inf_nan=False)] | bool | None,
    BeforeValidator(_finite),
    Field(description="The new value."),
]
Slug = Annotated[str, Field(pattern=SLUG, max_length=MAX_NAME, description="The skill's short name.")]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME, description="What users call it.")]
Description = Annotated[
    str, Field(min_length=1, max_length=MAX_DESCRIPTION, description="When it is to be used, in a sentence.")
]
Instructions = Annotated[str, Field(min_length=1, max_length=MAX_INSTRUCTIONS, description="What to do, in Markdown.")]


class Parameters(BaseModel):
    """Parameters of a tool: exactly these, of exactly these types."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Nothing(Parameters):
    """No parameters."""


class Position(Parameters):
    """A place on the canvas, in pixels."""

    x: Pixels
    y: Pixels


class AddNode(Parameters):
    """Parameters of `addNode`."""

    nodeType: str = Field(min_length=1, description="The class of the node, for example KSampler.")  # noqa: N815
    position: Position | None = Field(None, description="Where to put it; a free place when left out.")


class RemoveNode(Parameters):
    """Parameters of `removeNode`."""

    nodeId: NodeId  # noqa: N815


class ConnectNodes(Parameters):
    """Parameters of `connectNodes`."""

    sourceNodeId: NodeId  # noqa: N815
    sourceSlot: Slot  # noqa: N815
    targetNodeId: NodeId  # noqa: N815
    targetSlot: Slot  # noqa: N815


class GetWorkflowInfo(Parameters):
    """Parameters of `getWorkflowInfo`."""

    includeNodeDetails: bool = Field(False, description="Inputs, outputs and widget values of each node.")  # noqa: N815
    includeLayout: bool = Field(False, description="Positions and sizes.")  # noqa: N815
    includeWidgetOptions: bool = Field(False, description="What each widget can be set to.")  # noqa: N815
    fullFormat: bool = Field(False, description="The whole workflow as ComfyUI saves it.")  # noqa: N815


class SetNodeWidgetValue(Parameters):
    """Parameters of `setNodeWidgetValue`."""

    nodeId: NodeId  # noqa: N815
    widgetName: str = Field(min_length=1, description="The widget's name, for example steps.")  # noqa: N815
    value: Value


class FillPromptNode(Parameters):
    """Parameters of `fillPromptNode`."""

    nodeId: NodeId  # noqa: N815
    text: str = Field(description="The prompt.")


class ExecuteWorkflow(Parameters):
    """Parameters of `executeWorkflow`."""

    timeout: Seconds | None = Field(None, description="Seconds to wait for the result.")


class ApplyWorkflowJson(Parameters):
    """Parameters of `applyWorkflowJson`."""

    workflow: dict[str, Any] = Field(description="A workflow in ComfyUI's API or canvas format.")


class CreateSkill(Parameters):
    """Parameters of `createSkill`."""

    name: Name
    description: Description
    instructions: Instructions


class UpdateSkill(Parameters):
    """Parameters of `updateSkill`."""

    slug: Slug
    name: Name | None = None
    description: Description | None = None
    instructions: Instructions | None = None


class OneSkill(Parameters):
    """Parameters of `deleteSkill` and `getUserSkill`."""

    slug: Slug


class SearchInstalledNodes(Parameters):
    """Parameters of `searchInstalledNodes`."""

    query: str = Field(min_length=1, description="Words to look for in names, titles and descriptions.")
    category: str | None = Field(None, description="Only nodes whose category has this in it.")
    limit: Annotated[int, Field(ge=1, le=100), BeforeValidator(_whole)] | None = Field(
        None, description="How many to list; 20 when left out."
    )


class GetAvailableModels(Parameters):
    """Parameters of `getAvailableModels`."""

    category: str | None = Field(None, description="A folder, such as checkpoints or loras; all when left out.")


class ReadDocumentation(Parameters):
    """Parameters of `readDocumentation`."""

    topic: str = Field(min_length=1, description="A node's class or title, for example KSampler.")
    source: str | None = Field(None, description="Where to look; ComfyUI itself when left out.")


class CancelJob(Parameters):
    """Parameters of `cancelJob`."""

    promptId: str = Field(min_length=1, description="The job's id, as getQueue tells it.")  # noqa: N815


@dataclass(frozen=True, slots=True)
class DeclaredTool:
    """A tool as it is declared.

    Attributes:
        description: what models are told of it.
        approval: what it needs by default where the server runs it. Reading runs at once; what spends, deletes, or
            outlives the conversation asks first.
    """

    description: str
    parameters: type[Parameters]
    approval: Approval = Approval.AUTO


GRAPH_TOOLS: dict[str, DeclaredTool] = {
    "addNode": DeclaredTool("Add a node to the ComfyUI workflow. Answers its number and its slots.", AddNode),
    "removeNode": DeclaredTool("Remove a node from the ComfyUI workflow.", RemoveNode),
    "connectNodes": DeclaredTool("Connect an output of one node to an input of another.", ConnectNodes),
    "getWorkflowInfo": DeclaredTool("Read the ComfyUI workflow that is being worked on.", GetWorkflowInfo),
    "setNodeWidgetValue": DeclaredTool("Set a widget of a node to a value.", SetNodeWidgetValue),
    "fillPromptNode": DeclaredTool("Write a prompt into a text node.", FillPromptNode),
    "executeWorkflow": DeclaredTool(
        "Run the workflow that is being worked on and wait for its result.", ExecuteWorkflow, Approval.ASK
    ),
    "applyWorkflowJson": DeclaredTool(
        "Replace the workflow that is being worked on by a whole one.", ApplyWorkflowJson, Approval.ASK
    ),
}
"""They work on the canvas of a client that declares them, else on the workflow document of the conversation."""

SKILL_TOOLS: dict[str, DeclaredTool] = {
    "createSkill": DeclaredTool(
        "Keep instructions of the user's as a skill, for later conversations.", CreateSkill, Approval.ASK
    ),
    "updateSkill": DeclaredTool("Change a skill of the user's; what is left out stays.", UpdateSkill, Approval.ASK),
    "deleteSkill": DeclaredTool("Delete a skill of the user's.", OneSkill, Approval.ASK),
    "getUserSkill": DeclaredTool("Read the instructions of a skill, before doing what it is for.", OneSkill),
    "listUserSkills": DeclaredTool("List the skills with what each is for.", Nothing),
}

ENVIRONMENT_TOOLS: dict[str, DeclaredTool] = {
    "refreshEnvironment": DeclaredTool("Read anew what is installed in ComfyUI.", Nothing),
    "searchInstalledNodes": DeclaredTool("Search the node types that are installed in ComfyUI.", SearchInstalledNodes),
    "getAvailableModels": DeclaredTool("List the model files in ComfyUI.", GetAvailableModels),
    "readDocumentation": DeclaredTool("Read a node's inputs, outputs and help text.", ReadDocumentation),
    "getQueue": DeclaredTool("What ComfyUI runs now, and what waits behind it.", Nothing),
    "cancelJob": DeclaredTool("Stop a job in ComfyUI, or take it out of the queue.", CancelJob, Approval.ASK),
    "systemStats": DeclaredTool("ComfyUI's version, memory and devices.", Nothing),
}

DECLARED_TOOLS: dict[str, DeclaredTool] = {**GRAPH_TOOLS, **SKILL_TOOLS, **ENVIRONMENT_TOOLS}

DEFAULT_APPROVALS = {name: tool.approval for name, tool in DECLARED_TOOLS.items() if tool.approval is not Approval.AUTO}
