"""Every official template is converted as ComfyUI's own frontend converts it.

The frontend's answers are recorded as fingerprints; `make oracle` asks the real frontend again.
"""

from collections import Counter
from collections.abc import Callable

import pytest

from app.core.domain.node_types import SEEDS
from app.core.domain.workflow import MEDIA_INPUTS, DefinitionError, ToolDefinition, WorkflowTool
from app.core.services.canvas import from_canvas
from app.core.services.workflow_check import check, leading_to, outputs_of
from app.core.services.workflow_import import import_workflow
from tests.comfyui.templates import RELEASES, Release, fingerprints, object_info, recorded_prompts, templates

REFUSED = {
    "0.33.0": {
        **dict.fromkeys(
            ("api_hunyuan3d_model2uv", "api_hunyuan3d_part", "api_hunyuan3d_retopo_uv", "api_hunyuan3d_smart_topology"),
            "Load3D (node ",
        ),
        "template_rob_realistic_2k_images_quick_variations": "AILab_QwenVL, ImageRemoveAlpha+",
        "templates_rob_realistic_2k_images_quick_variations.app": "AILab_QwenVL, ImageRemoveAlpha+",
        "templates_mjm_looped_restyler": "GetImageSizeAndCount",
    },
    "0.3.64": {
        "api_stability_ai_audio_to_audio": "RecordAudio (node 9)",
        "video_humo": "RecordAudio (node 68)",
        "video_wan2_2_14B_animate": "BlockifyMask",
    },
}
"""Templates that need node types of others, or what only a browser can record, and what the error names."""

FRONTEND_MISTAKES = {"templates_graphic_design_recomposer"}
"""Here the frontend sends a model's name as an aspect ratio, which ComfyUI refuses."""


@pytest.mark.parametrize("release", RELEASES, ids=str)
def test_templates_convert_as_in_the_frontend(release: Release, record_property: Callable[[str, object], None]):
    nodes, recorded = object_info(release.comfyui), recorded_prompts(release)
    refused: dict[str, str] = {}
    different: set[str] = set()
    for name, document in templates(release).items():
        try:
            prompt = from_canvas(document, nodes)
        except DefinitionError as error:
            refused[name] = str(error)
            continue
        check(prompt, nodes)
        if fingerprints(prompt, nodes) != recorded[name]:
            different.add(name)
    expected = REFUSED[release.comfyui]
    assert different <= FRONTEND_MISTAKES
    assert refused.keys() == expected.keys()
    assert all(said in refused[name] for name, said in expected.items())
    equal = len(recorded) - len(refused) - len(different)
    record_property(
        "figures", f"ComfyUI {release.comfyui}: {equal} of {len(recorded)} templates equal to the frontend's"
    )


def test_templates_become_tools_with_their_inputs(record_property: Callable[[str, object], None]):
    release = RELEASES[0]
    nodes = object_info(release.comfyui)
    found: Counter[str] = Counter()
    there: Counter[str] = Counter()
    for name, document in templates(release).items():
        if name in REFUSED[release.comfyui]:
            continue
        imported = import_workflow("t", document, nodes)
        tool = WorkflowTool(ToolDefinition.model_validate(imported.definition), imported.workflow)
        fields = tool.input_schema["properties"].keys()
        live = [imported.workflow[key] for key in leading_to(imported.workflow, outputs_of(imported.workflow, nodes))]
        values = [(node["class_type"], key, value) for node in live for key, value in node["inputs"].items()]
        texts = [1 for kind, key, value in values if isinstance(value, str) and is_prompt(kind, key)]
        seeds = [1 for _, key, value in values if isinstance(value, int) and key.rpartition(".")[2] in SEEDS]
        media = [1 for kind, key, value in values if isinstance(value, str) and MEDIA_INPUTS.get(kind) == key]
        there += Counter(prompt=bool(texts), seed=bool(seeds), media=len(media))
        found["prompt"] += bool(texts) and not fields.isdisjoint({"prompt", "lyrics", "tags"})
        found["seed"] += bool(seeds) and "seed" in fields
        found["media"] += sum(map(len, tool.media_places.values()))
        assert texts or not imported.notice or "No prompt was found" in imported.notice
    assert (found["seed"], found["media"]) == (there["seed"], there["media"])
    assert found["prompt"] >= there["prompt"] - 1
    shown = ", ".join(f"{found[kind]} of {there[kind]} {kind}" for kind in there)
    record_property("figures", f"Parameters of ComfyUI {release.comfyui}'s templates: {shown}")


def is_prompt(class_type: str, name: str) -> bool:
    return class_type.startswith("PrimitiveString") or name.rpartition(".")[2] in ("prompt", "text", "lyrics", "tags")
