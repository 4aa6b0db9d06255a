"""Parameters of imported workflows: how people mark them, names with dots, seeds within limits, and texts to choose from."""

import random
from typing import Any

import pytest

from app.core.domain.workflow import ToolDefinition, WorkflowTool
from app.core.services.workflow_import import import_workflow
from tests.comfyui.templates import object_info

NODES = object_info("0.33.0")


def one(class_type: str, title: str = "", **inputs: Any) -> dict[str, Any]:
    """A workflow of a node and an output."""
    return {
        "1": {"class_type": class_type, "inputs": inputs, "_meta": {"title": title or class_type}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }


def fields_of(workflow: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {field["name"]: field for field in import_workflow("t", workflow, NODES).definition["fields"]}


@pytest.mark.parametrize(
    ("title", "name", "required"),
    [
        ("PARAM_INT_TILE_WIDTH", "tile_width", False),
        ("PARAM_SIZE", "size", False),
        ("$count.value!:How many there are", "count", True),
        ("$count.value", "count", False),
        ("<Tile width:value:1>", "tile_width", False),
    ],
)
def test_marks_in_titles_name_parameters(title: str, name: str, required: bool):
    fields = fields_of(one("PrimitiveInt", title, value=7))
    assert fields.keys() == {name}
    assert (fields[name]["type"], fields[name].get("required", False)) == ("integer", required)
    assert required or fields[name]["default"] == 7


def test_an_input_of_a_dynamic_combo_is_a_parameter():
    workflow = one(
        "ByteDance2TextToVideoNode", model="Seedance 2.0", **{"model.prompt": "a storm", "model.duration": 5}, seed=1
    )
    definition = import_workflow("t", workflow, NODES).definition
    tool = WorkflowTool(ToolDefinition.model_validate(definition), workflow)
    filled = tool.fill({"prompt": "a calm sea"}, random.Random(1))
    assert filled["1"]["inputs"]["model.prompt"] == "a calm sea"
    assert "model" not in filled["1"]["inputs"] or filled["1"]["inputs"]["model"] == "Seedance 2.0"


def test_generated_seeds_stay_within_the_limits_of_the_node():
    workflow = one("ByteDance2TextToVideoNode", model="Seedance 2.0", seed=1)
    definition = ToolDefinition.model_validate(import_workflow("t", workflow, NODES).definition)
    (seed,) = [field for field in definition.fields if field.name == "seed"]
    assert seed.maximum == 2_147_483_647
    chance = random.Random(1)
    assert all(0 <= seed.generate(chance) <= 2_147_483_647 for _ in range(1_000))


def test_a_workflow_without_a_prompt_names_its_texts():
    imported = import_workflow("t", one("PrimitiveStringMultiline", "Notes", value="a, b"), NODES)
    assert imported.notice is not None
    assert "No prompt was found. Texts that may be one: Notes (node 1), value." in imported.notice


def test_a_text_for_both_sides_is_a_prompt_and_one_for_the_negative_is_not():
    workflow = {
        "1": {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "a cat"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": ["1", 0], "clip": ["9", 1]}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["9", 1]}},
        "4": {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["2", 0]}},
        "5": {"class_type": "KSampler", "inputs": {"positive": ["2", 0], "negative": ["4", 0], "seed": 1}},
        "6": {"class_type": "KSampler", "inputs": {"positive": ["2", 0], "negative": ["3", 0], "seed": 2}},
        "7": {"class_type": "PreviewAny", "inputs": {"source": ["5", 0]}},
        "8": {"class_type": "PreviewAny", "inputs": {"source": ["6", 0]}},
        "9": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "x.safetensors"}},
    }
    fields = fields_of(workflow)
    assert fields["prompt"]["mapping"] == {"node": "1", "attribute": "inputs.value"}
    assert fields["negative_prompt"]["mapping"]["node"] == "3"
    assert fields["seed_2"]["description"].endswith("Of KSampler (node 6).")
