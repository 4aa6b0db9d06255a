"""Workflows as people have them become tools: canvases, subgraphs, bypassed nodes, pictures; and those that cannot say why."""

import io
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from app.adapters.inbound.workflow_files import MAX_WORKFLOW_BYTES, read_workflow
from app.core.domain.workflow import DefinitionError, ToolDefinition, WorkflowTool
from app.core.services import canvas as canvas_format
from app.core.services.workflow_import import import_workflow
from tests.client import Service
from tests.comfyui.fake import OBJECT_INFO, FakeComfyUI

ROOT = Path(__file__).parents[3]


def node(
    number: int, kind: str, values: Any = None, inputs: Any = (), outputs: Any = (), **more: Any
) -> dict[str, Any]:
    return {
        "id": number,
        "type": kind,
        "mode": 0,
        "widgets_values": values,
        "inputs": [{"name": name, "type": of, "link": link} for name, of, link in inputs],
        "outputs": [{"name": of, "type": of} for of in outputs],
        **more,
    }


def canvas() -> dict[str, Any]:
    """Text to image, with a reroute, a primitive, a note, a bypassed LoRA, a muted preview and a node that leads nowhere."""
    return {
        "nodes": [
            node(4, "CheckpointLoaderSimple", ["v1-5-pruned-emaonly.safetensors"], outputs=["MODEL", "CLIP", "VAE"]),
            node(
                10,
                "LoraLoader",
                ["x.safetensors", 1.0, 1.0],
                [("model", "MODEL", 1), ("clip", "CLIP", 2)],
                ["MODEL", "CLIP"],
                mode=4,
            ),
            node(6, "CLIPTextEncode", ["a cat"], [("clip", "CLIP", 3)], ["CONDITIONING"]),
            node(7, "CLIPTextEncode", ["blurry"], [("clip", "CLIP", 4)], ["CONDITIONING"]),
            node(5, "EmptyLatentImage", [640, 480, 2], outputs=["LATENT"]),
            node(11, "Reroute", None, [("", "*", 5)], ["CONDITIONING"]),
            node(12, "PrimitiveNode", [33, "fixed"], outputs=["INT"]),
            node(
                3,
                "KSampler",
                [42, "randomize", 20, 7.5, "euler", "normal", 0.9],
                [
                    ("model", "MODEL", 6),
                    ("positive", "CONDITIONING", 7),
                    ("negative", "CONDITIONING", 8),
                    ("latent_image", "LATENT", 9),
                    ("steps", "INT", 10),
                ],
                ["LATENT"],
            ),
            node(8, "VAEDecode", None, [("samples", "LATENT", 11), ("vae", "VAE", 12)], ["IMAGE"]),
            node(9, "SaveImage", ["out"], [("images", "IMAGE", 13)]),
            node(13, "PreviewImage", None, [("images", "IMAGE", 14)], mode=2),
            node(14, "Note", ["read me"]),
            node(15, "EmptyImage", [64, 64, 1, 0], outputs=["IMAGE"]),
        ],
        "links": [
            [1, 4, 0, 10, 0, "MODEL"],
            [2, 4, 1, 10, 1, "CLIP"],
            [3, 10, 1, 6, 0, "CLIP"],
            [4, 10, 1, 7, 0, "CLIP"],
            [5, 6, 0, 11, 0, "CONDITIONING"],
            [6, 10, 0, 3, 0, "MODEL"],
            [7, 11, 0, 3, 1, "CONDITIONING"],
            [8, 7, 0, 3, 2, "CONDITIONING"],
            [9, 5, 0, 3, 3, "LATENT"],
            [10, 12, 0, 3, 4, "INT"],
            [11, 3, 0, 8, 0, "LATENT"],
            [12, 4, 2, 8, 1, "VAE"],
            [13, 8, 0, 9, 0, "IMAGE"],
            [14, 8, 0, 13, 0, "IMAGE"],
        ],
    }


def test_a_canvas_becomes_what_comfyui_would_run():
    workflow = import_workflow("t", canvas(), OBJECT_INFO).workflow
    assert set(workflow) == {"3", "4", "5", "6", "7", "8", "9", "15"}
    assert workflow["3"]["inputs"] == {
        "seed": 42,
        "steps": 33,
        "cfg": 7.5,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 0.9,
        "model": ["4", 0],
        "positive": ["6", 0],
        "negative": ["7", 0],
        "latent_image": ["5", 0],
    }
    assert workflow["6"]["inputs"] == {"text": "a cat", "clip": ["4", 1]}


def test_the_inputs_that_people_set_are_parameters():
    imported = import_workflow("t", canvas(), OBJECT_INFO)
    fields = {field["name"]: field for field in imported.definition["fields"]}
    assert set(fields) == {
        *("prompt", "negative_prompt", "seed", "steps", "cfg", "denoise"),
        *("width", "height", "batch_size", "model"),
    }
    assert fields["prompt"]["mapping"]["node"] == "6"
    assert fields["negative_prompt"]["default"] == "blurry"
    assert (fields["seed"]["generator"], fields["width"]["default"], fields["steps"]["default"]) == ("seed", 640, 33)
    tool = WorkflowTool(ToolDefinition.model_validate(imported.definition), imported.workflow)
    assert tool.input_schema["required"] == ["prompt"]


def in_a_subgraph() -> dict[str, Any]:
    """The same with its sampler in a group, whose steps are shown on the group."""
    document = canvas()
    sampler = next(n for n in document["nodes"] if n["id"] == 3)
    inner = deepcopy(sampler)
    names = ("model", "positive", "negative", "latent_image")
    inner["inputs"] = [{"name": name, "type": "*", "link": n} for n, name in enumerate(names)]
    links = [
        {"id": n, "origin_id": -10, "origin_slot": n, "target_id": 3, "target_slot": n, "type": "*"} for n in range(4)
    ]
    links.append({"id": 9, "origin_id": 3, "origin_slot": 0, "target_id": -20, "target_slot": 0, "type": "LATENT"})
    group = {
        "id": "0f3a",
        "inputs": [{"id": name, "name": name, "type": "*"} for name in names],
        "outputs": [{"id": "o", "name": "LATENT", "type": "LATENT"}],
        "nodes": [inner],
        "links": links,
    }
    sampler |= {"type": "0f3a", "widgets_values": [17], "properties": {"proxyWidgets": [["3", "steps"]]}}
    sampler["inputs"] = sampler["inputs"][:4]
    document["definitions"] = {"subgraphs": [group]}
    return document


def test_a_subgraph_is_laid_open():
    workflow = import_workflow("t", in_a_subgraph(), OBJECT_INFO).workflow
    inner = workflow["3:3"]
    assert inner["class_type"] == "KSampler"
    assert inner["inputs"]["steps"] == 17
    assert (inner["inputs"]["positive"], inner["inputs"]["model"]) == (["6", 0], ["4", 0])
    assert workflow["8"]["inputs"]["samples"] == ["3:3", 0]


@pytest.mark.parametrize(
    ("document", "info", "said"),
    [
        (canvas(), None, "COMFYUI_URL"),
        ({"nodes": [node(1, "NoSuchNode")], "links": []}, OBJECT_INFO, "NoSuchNode"),
        ({"nodes": [node(1, "EmptyImage", [1, 1, 1, 0])], "links": []}, OBJECT_INFO, "no node produces an output"),
        ({"nodes": [{"type": "x"}]}, OBJECT_INFO, "not in ComfyUI's format"),
        ({"nodes": [7]}, OBJECT_INFO, "not in ComfyUI's format"),
        ([], None, "API format"),
        ({"1": {"inputs": {}}}, None, "class_type"),
    ],
)
def test_what_cannot_be_imported_says_why(document: Any, info: Any, said: str):
    with pytest.raises(DefinitionError) as fault:
        import_workflow("t", document, info)
    assert said in str(fault.value)


def test_links_that_go_round_in_a_circle_have_an_end():
    document = {
        "nodes": [
            node(1, "Reroute", None, [("", "*", 1)], ["IMAGE"]),
            node(2, "Reroute", None, [("", "*", 2)], ["IMAGE"]),
            node(3, "SaveImage", ["x"], [("images", "IMAGE", 3)]),
        ],
        "links": [[1, 2, 0, 1, 0, "IMAGE"], [2, 1, 0, 2, 0, "IMAGE"], [3, 1, 0, 3, 0, "IMAGE"]],
    }
    with pytest.raises(DefinitionError, match="cycle"):
        import_workflow("t", document, OBJECT_INFO)


def picture(**chunks: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    for name, text in chunks.items():
        info.add_text(name, text)
    written = io.BytesIO()
    Image.new("RGB", (4, 4)).save(written, "PNG", pnginfo=info)
    return written.getvalue()


async def test_a_workflow_is_shown_then_saved_then_called_and_never_overwritten(service: Service, comfyui: FakeComfyUI):
    example = json.loads((ROOT / "workflows" / "example.json").read_text())
    async with service.http() as http:
        shown = await http.post("/api/workflows", params={"name": "cats"}, json=canvas())
        assert (shown.status_code, shown.json()["name"]) == (200, "cats")
        assert [t["name"] for t in (await service.get("/tools"))["tools"]] == ["example"]
        saved = await http.post("/api/workflows", params={"name": "cats", "save": True}, json=canvas())
        assert saved.status_code == 201
        again = await http.post("/api/workflows", params={"name": "cats", "save": True}, json=example)
        assert (again.status_code, "already" in again.json()["detail"]) == (422, True)
        called = await http.post("/invoke", json={"tool": "cats", "params": {"prompt": "two cats", "steps": 5}})
        assert called.status_code == 200, called.text
    sent = comfyui.prompts[0]["prompt"]
    assert (sent["6"]["inputs"]["text"], sent["3"]["inputs"]["steps"]) == ("two cats", 5)
    assert [item["name"] for item in (await service.get("/api/workflows"))["items"]] == ["cats", "example"]


async def test_a_picture_brings_its_workflow(service: Service):
    api = json.dumps(json.loads((ROOT / "workflows" / "example.json").read_text()))
    async with service.http() as http:
        for content in (picture(prompt=api), picture(workflow=json.dumps(canvas()))):
            answer = await http.post("/api/workflows", params={"name": "p"}, content=content, headers=AS_PNG)
            assert answer.status_code == 200, answer.text
            assert "3" in answer.json()["workflow"]
        for content, said in ((picture(), "no workflow"), (b"\x89PNG...", "cannot be read"), (b"{", "not JSON")):
            answer = await http.post("/api/workflows", params={"name": "p"}, content=content, headers=AS_PNG)
            assert (answer.status_code, said in answer.json()["detail"]) == (422, True)


AS_PNG = {"Content-Type": "image/png"}


def many(nodes: int) -> dict[str, Any]:
    return {str(n): {"class_type": "CLIPTextEncode", "inputs": {"text": ""}} for n in range(nodes)}


def nested(depth: int, instances: int) -> dict[str, Any]:
    """A small canvas whose groups, laid open, have `instances` to the power of `depth` nodes."""
    kinds = [f"group-{level}" for level in range(depth)] + ["SaveImage"]
    levels = [[{"id": n, "type": kind} for n in range(instances)] for kind in kinds]
    groups = [{"id": kind, "nodes": inner, "links": []} for kind, inner in zip(kinds, levels[1:], strict=False)]
    return {"nodes": levels[0], "links": [], "definitions": {"subgraphs": groups}}


@pytest.mark.parametrize(
    "document",
    [
        many(canvas_format.MAX_NODES + 1),
        {"nodes": [{"id": n, "type": "SaveImage"} for n in range(canvas_format.MAX_NODES + 1)], "links": []},
        {"nodes": [], "links": [[n, 1, 0, 2, 0, "IMAGE"] for n in range(canvas_format.MAX_ALL_LINKS + 1)]},
        nested(15, 10),
    ],
)
async def test_a_workflow_that_is_too_large_is_refused(service: Service, document: dict[str, Any]):
    async with service.http() as http:
        answer = await http.post("/api/workflows", params={"name": "p"}, json=document)
    assert (answer.status_code, "a workflow may have 5,000 nodes" in answer.json()["detail"]) == (422, True)


def test_a_workflow_of_many_bytes_is_refused():
    with pytest.raises(DefinitionError, match="larger than"):
        read_workflow(b" " * (MAX_WORKFLOW_BYTES + 1))


def test_parameters_of_one_name_are_numbered():
    imported = import_workflow("t", many(3), None)
    assert [field["name"] for field in imported.definition["fields"]] == ["prompt", "prompt_2", "prompt_3"]


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
@pytest.mark.parametrize("path", ["/invoke", "/api/workflows?name=p", "/v1/chat/completions"])
async def test_a_body_of_another_media_type_is_refused(service: Service, path: str, media_type: str | None):
    headers = {"Content-Type": media_type} if media_type else {}
    async with service.http() as http:
        answer = await http.post(path, content=b"{}", headers=headers)
    assert answer.status_code == 415
    assert "Send it with Content-Type: application/json" in answer.text
