"""`/tools` and `/invoke`: three styles of call, with ComfyUI and without it, and whatever can go wrong there."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.adapters.outbound.comfyui import client as comfy_client
from app.adapters.outbound.comfyui import runner as comfy_runner
from tests.client import Service
from tests.comfyui.fake import PNG, FakeComfyUI
from tests.integration.conftest import TOKEN, Start

ARGUMENTS = {
    "positive_prompt": "portrait photo, cinematic lighting",
    "negative_prompt": "blurry, watermark",
    "seed": 123456,
}
STYLES: list[dict[str, Any]] = [
    {"tool": "example", "params": ARGUMENTS},
    {"name": "example", "arguments": ARGUMENTS},
    {"type": "function", "function": {"name": "example", "arguments": json.dumps(ARGUMENTS)}},
]


async def invoke(service: Service, call: dict[str, Any]) -> httpx.Response:
    async with service.http() as http:
        return await http.post("/invoke", json=call)


async def test_the_tools_are_listed(plain: Service):
    listed = await plain.get("/tools")
    assert [tool["name"] for tool in listed["tools"]] == ["example"]
    assert set(listed["tools"][0]) == {"name", "description", "inputSchema"}


@pytest.mark.parametrize("call", STYLES)
async def test_without_comfyui_the_workflow_comes_back_filled_in(plain: Service, call: dict[str, Any]):
    answer = await invoke(plain, call)
    assert answer.status_code == 200
    workflow = answer.json()["workflow"]
    assert workflow["6"]["inputs"]["text"] == "portrait photo, cinematic lighting"
    assert workflow["7"]["inputs"]["text"] == "blurry, watermark"
    assert workflow["3"]["inputs"]["seed"] == 123456


@pytest.mark.parametrize("call", STYLES)
async def test_with_comfyui_what_it_made_comes_back(service: Service, comfyui: FakeComfyUI, call: dict[str, Any]):
    answer = (await invoke(service, call)).json()
    (result,) = answer["results"]
    assert (answer["resultUrl"], result["media_type"], result["node"]) == (result["url"], "image/png", "9")
    assert comfyui.prompts[0]["prompt_id"] == answer["promptId"]
    assert comfyui.prompts[0]["prompt"]["3"]["inputs"]["seed"] == 123456
    async with service.http() as http:
        picture = await http.get(result["url"])
        assert (picture.content, picture.headers["content-type"]) == (PNG, "image/png")
        assert picture.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in picture.headers["content-security-policy"]
        part = await http.get(result["url"], headers={"Range": "bytes=0-3"})
        assert (part.status_code, part.content) == (206, PNG[:4])
    async with httpx.AsyncClient() as stranger:
        assert (await stranger.get(result["url"])).status_code == 401


@pytest.mark.parametrize(
    ("call", "status", "faults"),
    [
        ({"tool": "nothing", "params": {}}, 404, None),
        ({"tool": "example", "params": {}}, 422, [("", "'positive_prompt' is a required property")]),
        (
            {"tool": "example", "params": {"positive_prompt": 7}},
            422,
            [("/positive_prompt", "7 is not of type 'string'")],
        ),
        (
            {"tool": "example", "params": {"positive_prompt": "x", "postive": 1, "seed": "s"}},
            422,
            [("/postive", "not a parameter"), ("/seed", "'s' is not of type 'integer'")],
        ),
        ({"tool": "example", "params": []}, 422, [("", "'positive_prompt' is a required property")]),
        ({"tool": "example", "params": [1]}, 422, [("", "must be an object")]),
        ({"function": {"name": "example", "arguments": "{"}}, 422, None),
        ({}, 422, None),
        ({"tool": 7}, 422, None),
    ],
)
async def test_a_call_that_does_not_fit_says_where(plain: Service, call: Any, status: int, faults: Any):
    answer = await invoke(plain, call)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    if faults is not None:
        found = [(fault["path"], fault["message"]) for fault in answer.json()["errors"]]
        assert [path for path, _ in found] == [path for path, _ in faults]
        assert all(said in message for (_, message), (_, said) in zip(found, faults, strict=True))


def define_saving_tool(folder: Path) -> None:
    """A tool that reads and writes files by the caller's names."""
    nodes = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "/operator/knows"}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"text": ""}},
    }
    places = {"image": (1, "image"), "prefix": (2, "filename_prefix"), "prompt": (3, "text")}
    fields = [
        {"name": name, "mapping": {"node": node, "attribute": attribute}} for name, (node, attribute) in places.items()
    ]
    (folder / "config" / "save.json").write_text(json.dumps([{"name": "save", "fields": fields}]))
    (folder / "workflows" / "save.json").write_text(json.dumps(nodes))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("image", "../../../../etc/passwd"), ("image", "/etc/passwd"), ("image", "x.png [output]")),
        *(("prefix", "../x"), ("prefix", "D:\\x")),
    ],
)
async def test_a_file_name_that_leaves_comfyuis_folders_is_refused(
    service: Service, comfyui: FakeComfyUI, tmp_path: Path, name: str, value: str
):
    define_saving_tool(tmp_path)
    await until_listed(service, "save")
    answer = await invoke(service, {"tool": "save", "params": {name: value}})
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, f"/{name}")
    assert "inside ComfyUI's own folders" in answer.json()["detail"]
    assert comfyui.prompts == []


async def test_only_what_the_caller_gives_is_looked_at(plain: Service, tmp_path: Path):
    define_saving_tool(tmp_path)
    await until_listed(plain, "save")
    answer = await invoke(plain, {"tool": "save", "params": {"prompt": "../ /etc C:/", "image": "b.png"}})
    assert answer.status_code == 200
    assert answer.json()["workflow"]["2"]["inputs"]["filename_prefix"] == "/operator/knows"


async def until_listed(service: Service, name: str) -> None:
    async with asyncio.timeout(10):
        while name not in [tool["name"] for tool in (await service.get("/tools"))["tools"]]:
            pass


async def test_a_definition_that_changes_is_used(plain: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    document = json.loads((tmp_path / "config" / "example.json").read_text())
    document.append({**document[0], "name": "second", "workflow": "example.json"})
    (tmp_path / "config" / "example.json").write_text(json.dumps(document))
    async with asyncio.timeout(10):
        while [tool["name"] for tool in (await plain.get("/tools"))["tools"]] != ["example", "second"]:
            pass


# --- faults


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comfy_runner, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(comfy_client, "ANSWER_SECONDS", 1.0)


async def fails(service: Service, status: int) -> str:
    answer = await invoke(service, STYLES[0])
    assert answer.status_code == status, answer.text
    return answer.json()["detail"]


async def test_faults_of_a_workflow_are_named(service: Service, comfyui: FakeComfyUI, tmp_path: Path):
    path = tmp_path / "workflows" / "example.json"
    workflow = json.loads(path.read_text())
    workflow["3"]["inputs"]["steps"] = 20_000
    workflow["4"]["inputs"]["ckpt_name"] = "none.safetensors"
    path.write_text(json.dumps(workflow))
    async with asyncio.timeout(10):
        while "KSampler" not in (said := await fails_or_not(service)):
            pass
    assert "KSampler (node 3): steps must be ≤ 10000, and not 20000" in said
    assert "CheckpointLoaderSimple (node 4): ckpt_name must be one of v1-5-pruned-emaonly.safetensors" in said
    workflow["9"] = {"class_type": "NoSuchNode", "inputs": {}}
    path.write_text(json.dumps(workflow))
    sent = len(comfyui.prompts)
    async with asyncio.timeout(10):
        while "NoSuchNode" not in await fails_or_not(service):
            sent = len(comfyui.prompts)
    assert len(comfyui.prompts) == sent  # an unknown node type is found before anything is sent


async def test_one_bad_output_does_not_stop_the_others(service: Service, comfyui: FakeComfyUI, tmp_path: Path):
    path = tmp_path / "workflows" / "example.json"
    workflow = json.loads(path.read_text())
    workflow["20"] = {"class_type": "SaveImage", "inputs": {"filename_prefix": "second"}}
    workflow["21"] = {"class_type": "CLIPTextEncode", "inputs": {"text": "leads nowhere"}}
    path.write_text(json.dumps(workflow))
    async with asyncio.timeout(10):
        while not (answer := (await invoke(service, STYLES[0])).json()).get("warning"):
            pass
    assert answer["warning"] == (
        "1 of 2 outputs could not run: SaveImage (node 20): Required input is missing (images)."
    )
    assert len(answer["results"]) == 1


async def test_a_saved_picture_survives_a_later_error(service: Service, comfyui: FakeComfyUI):
    comfyui.outputs = {"9": {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}}
    comfyui.fails_after = ("9", "CUDA out of memory")
    answer = await invoke(service, STYLES[0])
    assert answer.status_code == 200
    assert "SaveImage (node 9): CUDA out of memory" in answer.json()["warning"]
    assert [result["media_type"] for result in answer.json()["results"]] == ["image/png"]


async def fails_or_not(service: Service) -> str:
    return (await invoke(service, STYLES[0])).text


async def test_a_node_that_fails_is_named(service: Service, comfyui: FakeComfyUI):
    comfyui.fail_at = ("KSampler", "CUDA out of memory")
    answer = await invoke(service, STYLES[0])
    assert answer.status_code == 502
    assert "KSampler (node 3): CUDA out of memory" in answer.json()["detail"]
    assert answer.json()["node_errors"]["3"][0]["message"] == "CUDA out of memory"
    assert "secret/path" not in answer.text
    comfyui.fail_at = None
    assert (await invoke(service, STYLES[0])).status_code == 200


async def test_nobody_is_there(start: Start, example: None):
    service = await start(comfyui_url="http://127.0.0.1:9")
    assert "COMFYUI_URL" in await fails(service, 503)


async def test_it_hangs(service: Service, comfyui: FakeComfyUI):
    comfyui.hang = True
    assert "did not answer" in await fails(service, 504)


async def test_it_answers_500(service: Service, comfyui: FakeComfyUI):
    comfyui.refuse = 500
    assert "HTTP 500" in await fails(service, 502)


async def test_the_socket_breaks_in_the_middle_and_the_history_is_the_truth(service: Service, comfyui: FakeComfyUI):
    comfyui.cut_socket = True
    assert (await invoke(service, STYLES[0])).status_code == 200
    assert len(comfyui.executed) == 1


async def test_an_answer_that_is_lost_does_not_make_it_run_twice(service: Service, comfyui: FakeComfyUI):
    comfyui.lose_answer = True
    assert (await invoke(service, STYLES[0])).status_code == 200
    assert (len(comfyui.prompts), len(comfyui.executed)) == (1, 1)


async def test_it_goes_away_and_does_not_come_back(start: Start, example: None, comfyui: FakeComfyUI):
    service = await start(comfyui_url=comfyui.url, comfyui_timeout=2)
    comfyui.hold = asyncio.Event()
    calling = asyncio.create_task(invoke(service, STYLES[0]))
    await comfyui.begun.wait()
    await comfyui.stop()
    answer = await calling
    assert (answer.status_code, "did not come back within 2 seconds" in answer.json()["detail"]) == (503, True)


async def test_a_short_break_does_not_lose_the_job(service: Service, comfyui: FakeComfyUI):
    comfyui.hold = asyncio.Event()
    calling = asyncio.create_task(invoke(service, STYLES[0]))
    await comfyui.begun.wait()
    comfyui.breaks = 8  # longer than a job that is gone is looked for
    async with asyncio.timeout(30):
        await comfyui.is_back.wait()
    comfyui.hold.set()
    assert (await calling).status_code == 200
    assert len(comfyui.executed) == 1


async def test_it_is_started_again_and_has_forgotten(service: Service, comfyui: FakeComfyUI):
    comfyui.hold = asyncio.Event()
    calling = asyncio.create_task(invoke(service, STYLES[0]))
    await comfyui.begun.wait()
    await comfyui.restart()
    answer = await calling
    assert (answer.status_code, "started again" in answer.json()["detail"]) == (502, True)
    assert len(comfyui.executed) == 1


async def test_it_takes_too_long_and_is_stopped(start: Start, example: None, comfyui: FakeComfyUI):
    service = await start(comfyui_url=comfyui.url, comfyui_timeout=0.5)
    comfyui.hold = asyncio.Event()
    assert "COMFYUI_TIMEOUT" in await fails(service, 504)
    assert comfyui.interrupted == comfyui.executed


async def test_who_goes_away_stops_the_job(service: Service, comfyui: FakeComfyUI):
    comfyui.hold = asyncio.Event()
    calling = asyncio.create_task(invoke(service, STYLES[0]))
    await comfyui.begun.wait()
    calling.cancel()
    async with asyncio.timeout(10):
        await comfyui.has_interrupted.wait()
    assert comfyui.interrupted == comfyui.executed


async def test_slow_previews_do_not_hold_anything_up(service: Service, comfyui: FakeComfyUI):
    comfyui.sends_previews = 500
    assert (await invoke(service, STYLES[0])).status_code == 200


async def test_a_large_output_is_kept_and_served_in_parts(service: Service, comfyui: FakeComfyUI):
    comfyui.output_bytes = 200 * 1024 * 1024
    answer = (await invoke(service, STYLES[0])).json()
    async with service.http() as http:
        part = await http.get(answer["resultUrl"], headers={"Range": f"bytes={200 * 1024 * 1024 - 2}-"})
    assert part.headers["content-range"] == f"bytes 209715198-209715199/{200 * 1024 * 1024}"


async def test_text_and_what_was_only_shown_are_outputs_too(service: Service, comfyui: FakeComfyUI):
    comfyui.outputs = {"9": {"text": ["a caption"], "images": [{"filename": "p.png", "type": "temp", "subfolder": ""}]}}
    results = (await invoke(service, STYLES[0])).json()["results"]
    assert [(r["media_type"], r.get("text")) for r in results] == [("text/plain", "a caption"), ("image/png", None)]
    comfyui.outputs = {"9": {"images": [{"filename": "p.html", "type": "temp", "subfolder": ""}]}}
    (shown,) = (await invoke(service, STYLES[0])).json()["results"]
    async with service.http() as http:
        got = await http.get(shown["url"])
    assert (got.headers["content-type"], "attachment" in got.headers["content-disposition"]) == (
        "application/octet-stream",
        True,
    )


async def test_a_file_of_nobody_is_not_found(plain: Service):
    async with plain.http() as http:
        for name in ("none", "..%2Ftoken", "x" * 65):
            assert (await http.get(f"/api/files/{name}")).status_code in (404, 422)
        assert (await http.get("/tools", headers={"Authorization": f"Bearer {TOKEN}x"})).status_code == 401
