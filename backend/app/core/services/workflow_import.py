"""Workflows as people have them, as tools: from ComfyUI's API format, from its canvas, or from a picture that it made."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from app.core.domain.node_types import SEEDS, ObjectInfo
from app.core.domain.workflow import IMAGE_NODES, DefinitionError, Workflow, check_workflow
from app.core.services.canvas import Node, from_canvas, is_canvas
from app.core.services.workflow_check import leading_to, outputs_of


@dataclass(frozen=True, slots=True)
class Imported:
    """A workflow as a tool, for review.

    Attributes:
        definition: the tool's config.
    """

    name: str
    workflow: Workflow
    definition: dict[str, Any]


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
        workflow = check_workflow(document)
    fields = list(_fields(_run_by_comfyui(workflow, object_info)))
    return Imported(name, workflow, {"name": name, "description": f"Runs the workflow {name}.", "fields": fields})


def _run_by_comfyui(workflow: Workflow, object_info: ObjectInfo | None) -> Workflow:
    """The nodes that lead to an output, as far as it is known which do: the inputs of others have no effect."""
    outputs = outputs_of(workflow, object_info) if object_info is not None else []
    live = leading_to(workflow, outputs)
    return {key: node for key, node in workflow.items() if key in live} if live else workflow


# --- the inputs that people set

_SIMPLE: dict[str, tuple[str, str, str]] = {
    "steps": ("steps", "integer", "How many steps are taken."),
    "cfg": ("cfg", "number", "How closely the prompt is followed."),
    "guidance": ("guidance", "number", "How closely the prompt is followed."),
    "denoise": ("denoise", "number", "How much of the input is changed, from 0 to 1."),
    "width": ("width", "integer", "The width, in pixels."),
    "height": ("height", "integer", "The height, in pixels."),
    "batch_size": ("batch_size", "integer", "How many are made at once."),
    "ckpt_name": ("model", "string", "The model's file."),
    "unet_name": ("model", "string", "The model's file."),
    "lora_name": ("lora", "string", "The LoRA's file."),
    "strength_model": ("lora_strength", "number", "How strong the LoRA is."),
}
_SIZES = ("width", "height", "batch_size")
_PROMPTS = ("text", "prompt", "text_g", "clip_l", "t5xxl")


def _fields(workflow: Workflow) -> Iterator[dict[str, Any]]:
    """The parameters of a workflow: prompts first, then what its samplers, sizes, models and images are set to."""
    taken: set[str] = set()
    prompts, negatives = _prompts(workflow)

    def name_of(wanted: str) -> str:
        number = next(n for n in range(1, len(workflow) + 100) if (wanted if n == 1 else f"{wanted}_{n}") not in taken)
        taken.add(wanted if number == 1 else f"{wanted}_{number}")
        return wanted if number == 1 else f"{wanted}_{number}"

    def made(wanted: str, kind: str, text: str, node: str, attribute: str, **more: Any) -> dict[str, Any]:
        mapping = {"node": node, "attribute": f"inputs.{attribute}"}
        return {"name": name_of(wanted), "type": kind, "description": text, **more, "mapping": mapping}

    for node, attribute in prompts:
        yield made("prompt", "string", "What to make.", node, attribute, required=True)
    for node, attribute in negatives:
        value = workflow[node]["inputs"][attribute]
        yield made("negative_prompt", "string", "What to keep out.", node, attribute, default=value)
    for node, what in workflow.items():
        inputs = what["inputs"]
        for attribute in SEEDS:
            if isinstance(inputs.get(attribute), int):
                yield made(
                    "seed", "integer", "Where chance begins; another one each time.", node, attribute, generator="seed"
                )
        for attribute, (wanted, kind, text) in _SIMPLE.items():
            value = inputs.get(attribute)
            if value is None or isinstance(value, list) or not _is_set_here(what["class_type"], attribute, inputs):
                continue
            yield made(wanted, kind, text, node, attribute, default=value)
        if what["class_type"] in IMAGE_NODES and isinstance(inputs.get("image"), str):
            yield made("image", "string", "The image to work on.", node, "image", required=True)


def _is_set_here(class_type: str, attribute: str, inputs: Mapping[str, Any]) -> bool:
    """Whether an input of this name is what people mean by it: a size is that of an empty latent or image."""
    return attribute not in _SIZES or "Empty" in class_type or "batch_size" in inputs


def _prompts(workflow: Workflow) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The texts that lead to the positive and to the negative inputs of samplers; others that encode text count as positive."""
    positive: dict[tuple[str, str], None] = {}
    negative: dict[tuple[str, str], None] = {}
    for node in workflow.values():
        for side, found in (("positive", positive), ("negative", negative)):
            link: Any = node["inputs"].get(side)
            if isinstance(link, list) and link:
                found |= dict.fromkeys(_texts_before(workflow, str(cast("list[Any]", link)[0]), side))
    if not positive:
        encoders = [node_id for node_id, node in workflow.items() if "Encode" in node["class_type"]]
        found = [text for node_id in encoders for text in _texts_before(workflow, node_id, "") if text not in negative]
        positive = dict.fromkeys(found)
    return list(positive), [text for text in negative if text not in positive]


def _texts_before(workflow: Workflow, node_id: str, side: str) -> list[tuple[str, str]]:
    """The texts in a node, or in the nodes that it gets its conditioning from."""
    waiting, seen, found = [node_id], set[str](), list[tuple[str, str]]()
    while waiting:
        current = waiting.pop(0)
        node = workflow.get(current)
        if node is None or current in seen or len(seen) > 50:
            continue
        seen.add(current)
        texts = [name for name in _PROMPTS if isinstance(node["inputs"].get(name), str)]
        if texts:
            found.append((current, texts[0]))
            continue
        if "ZeroOut" in node["class_type"]:
            continue  # nothing of the text is left behind it
        for name, value in node["inputs"].items():
            is_wanted = (
                name == side or ("cond" in name.lower() and not side) or name in ("conditioning", "text", "prompt")
            )
            is_wanted = is_wanted or name.startswith("conditioning")
            if is_wanted and isinstance(value, list) and value:
                waiting.append(str(cast("list[Any]", value)[0]))
    return found
