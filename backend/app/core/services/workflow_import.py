"""Workflows as people have them, as tools: from ComfyUI's API format, from its canvas, or from a picture that it made."""

from dataclasses import dataclass
from typing import Any, cast

from app.core.domain.node_types import ObjectInfo
from app.core.domain.workflow import DefinitionError, Workflow, check_workflow
from app.core.services.canvas import MAX_NODES, Node, from_canvas, is_canvas, too_large
from app.core.services.workflow_check import leading_to, outputs_of
from app.core.services.workflow_parameters import Parameters, names, parameters_of


@dataclass(frozen=True, slots=True)
class Imported:
    """A workflow as a tool, for review.

    Attributes:
        definition: the tool's config.
        notice: what to know before it is used; None where there is nothing.
    """

    name: str
    workflow: Workflow
    definition: dict[str, Any]
    notice: str | None = None


def import_workflow(name: str, document: Any, object_info: ObjectInfo | None) -> Imported:
    """The tool that a workflow makes, with the inputs that people set as its parameters.

    Args:
        document: a workflow in API format or in canvas format.
        object_info: ComfyUI's node types; needed for the canvas format alone.

    Raises:
        DefinitionError: it is no workflow, or one that cannot be converted; the error says why.
    """
    if isinstance(document, dict) and isinstance(cast("Node", document).get("prompt"), dict):
        document = cast("Node", document)["prompt"]
    if is_canvas(document):
        if object_info is None:
            raise DefinitionError(
                "", "a canvas can be converted only with ComfyUI's list of nodes. Set COMFYUI_URL, or give that list."
            )
        workflow = from_canvas(cast("Node", document), object_info)
    else:
        if isinstance(document, dict) and len(cast("Node", document)) > MAX_NODES:
            raise too_large()
        workflow = check_workflow(document)
    found = parameters_of(_run_by_comfyui(workflow, object_info), object_info)
    definition = {"name": name, "description": f"Runs the workflow {name}.", "fields": found.fields}
    return Imported(name, workflow, definition, None if found.has_prompt else _without_prompt(found))


def _without_prompt(found: Parameters) -> str:
    """What to say of a workflow in which no prompt was found."""
    if not found.other_texts:
        return "No prompt was found: the workflow has no text that leads to one."
    return (
        f"No prompt was found. Texts that may be one: {names(found.other_texts)}. Add a field for it to the definition."
    )


def _run_by_comfyui(workflow: Workflow, object_info: ObjectInfo | None) -> Workflow:
    """The nodes that lead to an output, as far as it is known which do: the inputs of others have no effect."""
    outputs = outputs_of(workflow, object_info) if object_info is not None else []
    live = leading_to(workflow, outputs)
    return {key: node for key, node in workflow.items() if key in live} if live else workflow
