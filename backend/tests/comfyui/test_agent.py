"""Workflow tools in the chat: progress and pictures for the user, words for the model; stopped with the run."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from app.adapters.outbound.comfyui import runner as comfy_runner
from tests.client import Service, kinds, text_of
from tests.comfyui.fake import PNG, FakeComfyUI
from tests.integration.conftest import Start
from tests.upstream import Upstream

CALL = ("c1", "example", '{"positive_prompt": "portrait photo, cinematic lighting"}')
ASKED = "make a portrait photo, cinematic lighting, with the example workflow"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comfy_runner, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(comfy_runner, "PREVIEW_SECONDS", 0.0)


async def test_the_agent_makes_a_picture(service: Service, comfyui: FakeComfyUI, upstream: Upstream):
    upstream.calls(CALL)
    upstream.says("Here it is.")
    comfyui.sends_previews = 1
    async with service.socket() as socket:
        frames = await socket.ask(ASKED)
        progress = [f for f in frames if f["type"] == "tool_progress"]
        result = next(f for f in frames if f["type"] == "tool_result")
        async with service.http() as http:
            preview = next(f["preview"] for f in progress if "preview" in f)
            assert (await http.get(preview)).content == PNG
            (artifact,) = result["artifacts"]
            assert artifact["media_type"] == "image/png"
            assert (await http.get(artifact["url"])).content == PNG
    assert any((f.get("progress"), f.get("total")) == (20, 20) for f in progress)
    assert any("KSampler (node 3)" in f.get("text", "") for f in progress)
    assert (result["is_error"], artifact["url"] in result["content"]) == (False, True)
    assert text_of(frames) == "Here it is."
    offered = {tool["function"]["name"] for tool in upstream.requests[0]["tools"]}
    assert {"example", "add", "searchInstalledNodes", "getQueue"} <= offered
    sent = json.dumps(upstream.requests[1])
    assert base64.b64encode(PNG).decode() not in sent
    stored = (await service.history(frames[0]["conversation_id"]))[2]
    assert stored["metadata"]["artifacts"] == result["artifacts"]
    async with service.socket() as socket:
        await socket.send(type="attach", run_id=frames[0]["run_id"])
        await socket.until("complete")
        assert socket.frames[1:] == frames


async def test_stopping_the_run_stops_the_job(service: Service, comfyui: FakeComfyUI, upstream: Upstream):
    upstream.calls(CALL)
    comfyui.hold = asyncio.Event()
    async with service.socket() as socket:
        await socket.send(type="message", content=ASKED)
        accepted = await socket.until("accepted")
        await comfyui.begun.wait()
        await socket.send(type="cancel", run_id=accepted["run_id"])
        await socket.until("cancelled")
    assert comfyui.interrupted == comfyui.executed
    assert len(comfyui.executed) == 1


async def test_a_job_goes_on_after_a_restart_and_is_not_begun_twice(
    start: Start, example: None, comfyui: FakeComfyUI, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
):
    async def dies(runner: Any, prompt_id: str) -> None:
        """A process that dies stops nothing in ComfyUI."""

    monkeypatch.setattr(comfy_runner.ComfyRunner, "_stop", dies)
    upstream.calls(CALL)
    upstream.says("Here it is.")
    comfyui.hold = asyncio.Event()
    first = await start(comfyui_url=comfyui.url)
    async with first.socket() as socket:
        await socket.send(type="message", content=ASKED)
        accepted = await socket.until("accepted")
        await comfyui.begun.wait()
    await first.stop()
    second = await start(comfyui_url=comfyui.url)
    comfyui.hold.set()
    async with second.socket() as socket:
        await socket.send(type="attach", run_id=accepted["run_id"])
        await socket.until("complete")
    assert (len(comfyui.prompts), len(comfyui.executed)) == (1, 1)


async def test_a_call_of_another_answer_is_another_job(service: Service, comfyui: FakeComfyUI, upstream: Upstream):
    for _ in range(3):
        upstream.calls(CALL)
        upstream.says("Here it is.")
    async with service.socket() as socket:
        frames = await socket.ask(ASKED)
        conversation_id = frames[0]["conversation_id"]
        await socket.ask("Another one", conversation_id=conversation_id)
        *_, answer = await service.history(conversation_id)
        await socket.send(type="regenerate", conversation_id=conversation_id, message_id=answer["id"])
        await socket.until("complete")
    assert (len(comfyui.prompts), len(set(comfyui.executed))) == (3, 3)


async def test_what_fails_is_told_to_the_model(service: Service, comfyui: FakeComfyUI, upstream: Upstream):
    comfyui.fail_at = ("VAEDecode", "out of memory")
    upstream.calls(CALL)
    upstream.says("It did not work.")
    async with service.socket() as socket:
        frames = await socket.ask(ASKED)
    result = next(f for f in frames if f["type"] == "tool_result")
    assert (result["is_error"], "VAEDecode (node 8): out of memory" in result["content"]) == (True, True)
    assert kinds(frames)[-1] == "complete"


async def test_without_comfyui_the_workflow_is_the_result(plain: Service, upstream: Upstream):
    upstream.calls(CALL)
    upstream.says("Here is the workflow.")
    async with plain.socket() as socket:
        frames = await socket.ask(ASKED)
    result = next(f for f in frames if f["type"] == "tool_result")
    assert "portrait photo, cinematic lighting" in result["content"]
    assert "searchInstalledNodes" not in {tool["function"]["name"] for tool in upstream.requests[0]["tools"]}


async def test_an_attached_image_goes_to_comfyui(
    start: Start, comfyui: FakeComfyUI, upstream: Upstream, tmp_path: Path
):
    for folder in ("config", "workflows"):
        (tmp_path / folder).mkdir()
    workflow = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
    }
    (tmp_path / "workflows" / "invert.json").write_text(json.dumps(workflow))
    image = {
        "name": "image",
        "type": "string",
        "required": True,
        "mapping": {"node": "LoadImage", "attribute": "image"},
    }
    (tmp_path / "config" / "invert.json").write_text(json.dumps([{"name": "invert", "fields": [image]}]))
    service = await start(comfyui_url=comfyui.url)
    upstream.calls(("c1", "invert", "{}"))
    upstream.says("Done.")
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    async with service.socket() as socket:
        frames = await socket.ask(
            [{"type": "text", "text": "Invert this"}, {"type": "image_url", "image_url": {"url": url}}]
        )
        result = next(f for f in frames if f["type"] == "tool_result")
        assert result["is_error"] is False, result["content"]
        ((name, data),) = comfyui.uploads.items()
        assert data == PNG
        assert comfyui.prompts[0]["prompt"]["1"]["inputs"]["image"] == name
        # An earlier result is taken by its address.
        earlier = result["artifacts"][0]["url"]
        upstream.calls(("c2", "invert", json.dumps({"image": earlier})))
        upstream.says("Done again.")
        frames = await socket.ask("Again", conversation_id=frames[0]["conversation_id"])
        assert next(f for f in frames if f["type"] == "tool_result")["is_error"] is False
    assert len(comfyui.uploads) == 2


async def test_the_agent_looks_into_comfyui(start: Start, example: None, comfyui: FakeComfyUI, upstream: Upstream):
    service = await start(comfyui_url=comfyui.url, tool_approval={"cancelJob": "auto"})
    calls = [
        ("searchInstalledNodes", {"query": "sampler", "limit": 1}),
        ("getAvailableModels", {}),
        ("getAvailableModels", {"category": "loras"}),
        ("readDocumentation", {"topic": "ksampler"}),
        ("refreshEnvironment", {}),
        ("getQueue", {}),
        ("cancelJob", {"promptId": "none"}),
        ("systemStats", {}),
    ]
    upstream.calls(*((f"c{n}", name, json.dumps(arguments)) for n, (name, arguments) in enumerate(calls)))
    upstream.says("I see.")
    async with service.socket() as socket:
        frames = await socket.ask("What is there?")
    results = {f["tool_call_id"]: f for f in frames if f["type"] == "tool_result"}
    found = [results[f"c{n}"]["content"] for n in range(len(calls))]
    assert [results[f"c{n}"]["is_error"] for n in range(len(calls))] == [False] * 6 + [True, False]
    assert json.loads(found[0])["nodes"][0]["type"] == "KSampler"
    assert set(json.loads(found[1])) == {"checkpoints", "loras"}
    assert json.loads(found[2]) == {"loras": ["detail.safetensors"]}
    assert json.loads(found[3])["inputs"]["steps"]["max"] == 10_000
    assert json.loads(found[4])["nodes"] == 26
    assert json.loads(found[5]) == {"running": [], "pending": []}
    assert "0.3.64" in found[7]


@pytest.mark.parametrize(
    "category",
    ["../../manager/reboot", "../queue", "../view?filename=../../../etc/passwd&type=output", "..", "custom_nodes"],
)
async def test_models_are_listed_from_comfyuis_own_folders_only(
    service: Service, comfyui: FakeComfyUI, upstream: Upstream, category: str
):
    upstream.calls(("c", "getAvailableModels", json.dumps({"category": category})))
    async with service.socket() as socket:
        frames = await socket.ask("What is there?")
    result = next(f for f in frames if f["type"] == "tool_result")
    assert (result["is_error"], "Its folders: checkpoints, loras." in result["content"]) == (True, True)
    assert set(comfyui.asked) <= {"/object_info", "/models"}, comfyui.asked


async def test_the_agent_runs_no_workflow_that_leaves_comfyuis_folders(
    start: Start, comfyui: FakeComfyUI, upstream: Upstream
):
    service = await start(comfyui_url=comfyui.url, tool_approval={"*": "auto"})
    workflow = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "../../startup"}},
    }
    upstream.calls(("c1", "applyWorkflowJson", json.dumps({"workflow": workflow})))
    upstream.calls(("c2", "executeWorkflow", "{}"))
    async with service.socket() as socket:
        frames = await socket.ask("Run it")
    result = next(f for f in frames if f["type"] == "tool_result" and f["tool_call_id"] == "c2")
    assert "SaveImage (node 2): filename_prefix must be a name inside ComfyUI's own folders" in result["content"]
    assert comfyui.prompts == []
