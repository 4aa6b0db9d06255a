"""Building workflows without a canvas: by the agent, by programs, and what is refused."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.core.domain.declared_tools import AddNode
from app.core.domain.graph import WorkflowDocument
from app.core.services.canvas import from_canvas
from app.core.services.graph_editor import GraphEditor, GraphError
from app.core.services.workflow_check import check
from tests.client import Service
from tests.comfyui.fake import OBJECT_INFO, FakeComfyUI
from tests.integration.conftest import Start
from tests.providers.test_completions import command
from tests.upstream import Upstream

ROOT = Path(__file__).parents[3]
NODES = (
    *("CheckpointLoaderSimple", "CLIPTextEncode", "CLIPTextEncode", "EmptyLatentImage"),
    *("KSampler", "VAEDecode", "SaveImage"),
)
LINKS = [
    (1, 0, 5, 0),
    (1, 1, 2, 0),
    (1, 1, 3, 0),
    (2, 0, 5, 1),
    (3, 0, 5, 2),
    (4, 0, 5, 3),
    (5, 0, 6, 0),
    (1, 2, 6, 1),
    (6, 0, 7, 0),
]


def calls(*wanted: tuple[str, dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(f"call_{place}", name, orjson.dumps(arguments).decode()) for place, (name, arguments) in enumerate(wanted)]


def add_and_connect(upstream: Upstream) -> None:
    """A model that adds the nodes of a text-to-image workflow and connects them."""
    upstream.calls(*calls(*(("addNode", {"nodeType": name}) for name in NODES)))
    names = ("sourceNodeId", "sourceSlot", "targetNodeId", "targetSlot")
    upstream.calls(
        *[
            (f"link_{i}", "connectNodes", json.dumps(dict(zip(names, link, strict=True))))
            for i, link in enumerate(LINKS)
        ]
    )


def build(upstream: Upstream) -> None:
    """A model that builds a text-to-image workflow and runs it."""
    add_and_connect(upstream)
    upstream.calls(
        ("set_1", "setNodeWidgetValue", '{"nodeId": 5, "widgetName": "steps", "value": 12}'),
        ("set_2", "fillPromptNode", '{"nodeId": 2, "text": "a fox"}'),
        ("set_3", "setNodeWidgetValue", '{"nodeId": 4, "widgetName": "width", "value": 5}'),
    )
    upstream.calls(("run", "executeWorkflow", "{}"))


async def test_an_agent_builds_a_workflow_from_the_terminal_and_runs_it(
    start: Start, example: None, upstream: Upstream, comfyui: FakeComfyUI, tmp_path: Path
):
    service = await start(comfyui_url=comfyui.url, tool_approval={"executeWorkflow": "auto"})
    build(upstream)
    upstream.says("There is your fox.")
    done = await command(
        {"ATELIER_TOKEN": "secret-token"},
        "chat",
        "--url",
        service.url,
        "Build a text-to-image workflow with a KSampler",
    )
    assert "There is your fox." in done.stdout
    async with service.http() as http:
        [conversation] = (await http.get("/api/conversations")).json()["items"]
        path = f"/api/conversations/{conversation['id']}/workflow"
        info = (await http.get(path)).json()
        api = (await http.get(path, params={"format": "api"})).json()
        exported = (await http.get(f"/api/conversations/{conversation['id']}/export")).json()
        copy = (await http.post("/api/conversations/import", json=exported)).json()
        copied = (await http.get(f"/api/conversations/{copy['id']}/workflow", params={"format": "api"})).json()
        download = await http.get(path, params={"format": "canvas"})
    assert [node["type"] for node in info["nodes"]] == list(NODES)
    assert [(e["source"], e["sourceSlot"], e["target"], e["targetSlot"]) for e in info["links"]] == sorted(
        LINKS, key=lambda link: (link[2], link[3])
    )
    assert info["nodes"][4]["widgets"]["steps"] == 12
    assert api["2"]["inputs"]["text"] == "a fox"
    assert api["4"]["inputs"]["width"] == 512  # 5 was refused
    check(api, OBJECT_INFO)
    assert copied == api
    assert "workflow-canvas.json" in download.headers["content-disposition"]
    assert comfyui.prompts[-1]["prompt"] == api
    history = await service.history(conversation["id"])
    refusal = next(m for m in history if m["metadata"].get("tool_call_id") == "set_3")
    assert refusal["metadata"]["status"] == "error"
    assert "from 16 to 16384" in refusal["content"]
    run = next(m for m in history if m["metadata"].get("tool_call_id") == "run")
    assert run["metadata"]["artifacts"][0]["media_type"] == "image/png"
    system = upstream.requests[0]["messages"][0]["content"]
    assert "You can build a ComfyUI workflow" in system
    async with service.socket() as socket:
        await socket.ask("And now?", conversation_id=conversation["id"])
    assert "v1-5-pruned-emaonly.safetensors" in upstream.requests[-1]["messages"][0]["content"]


async def test_a_canvas_that_is_downloaded_is_the_same_workflow(service: Service, upstream: Upstream):
    async with service.http() as http:
        made = (await http.post("/api/conversations", json={})).json()
        path = f"/api/conversations/{made['id']}/workflow"
        given = orjson.loads((ROOT / "workflows" / "example.json").read_bytes())
        given = {key: node for key, node in given.items() if node["class_type"] in OBJECT_INFO}
        answered = await http.put(path, json={"workflow": given})
        assert answered.status_code == 200, answered.text
        api = (await http.get(path, params={"format": "api"})).json()
        canvas = (await http.get(path, params={"format": "canvas"})).json()
        again = from_canvas(canvas, OBJECT_INFO)
        assert {key: (n["class_type"], n["inputs"]) for key, n in again.items()} == {
            key: (n["class_type"], n["inputs"]) for key, n in api.items()
        }
        places = [tuple(node["pos"]) for node in canvas["nodes"]]
        assert len(set(places)) == len(places)
        assert (await http.put(path, json={"workflow": canvas})).status_code == 200
        assert (await http.get(path, params={"format": "canvas"})).json() == canvas


async def test_programs_use_the_graph_tools_by_rest(service: Service, comfyui: FakeComfyUI):
    async with service.http() as http:
        made = (await http.post("/api/conversations", json={})).json()
        path = f"/api/conversations/{made['id']}/workflow"
        added = (
            await http.post(f"{path}/addNode", json={"nodeType": "EmptyImage", "position": {"x": 10, "y": 20}})
        ).json()
        assert added["nodeId"] == 1
        assert added["outputs"] == [{"slot": 0, "name": "IMAGE", "type": "IMAGE"}]
        await http.post(f"{path}/addNode", json={"nodeType": "SaveImage"})
        assert (
            await http.post(
                f"{path}/connectNodes", json={"sourceNodeId": 1, "sourceSlot": 0, "targetNodeId": 2, "targetSlot": 0}
            )
        ).status_code == 200
        ran = (await http.post(f"{path}/executeWorkflow", json={"timeout": 30})).json()
        assert ran["results"][0]["media_type"] == "image/png"
        wrong = await http.post(f"{path}/addNode", json={"nodeType": 3})
        assert wrong.status_code == 422
        assert wrong.json()["errors"][0]["path"] == "/nodeType"
        unknown = await http.post(f"{path}/addNode", json={"nodeType": "KSampla"})
        assert unknown.status_code == 422
        assert "KSampler" in unknown.json()["detail"]
        assert (await http.post(f"{path}/paint", json={})).status_code == 404
        assert [n["id"] for n in (await http.get(path)).json()["nodes"]] == [1, 2]
        assert (await http.get(path)).json()["nodes"][0]["position"] == {"x": 10.0, "y": 20.0}


async def test_without_a_comfyui_there_are_no_graph_tools(plain: Service, upstream: Upstream):
    async with plain.http() as http:
        made = (await http.post("/api/conversations", json={})).json()
        answer = await http.get(f"/api/conversations/{made['id']}/workflow")
    assert answer.status_code == 503
    assert "COMFYUI_URL" in answer.json()["detail"]
    async with plain.socket() as socket:
        await socket.ask("hello")
    names = {tool["function"]["name"] for tool in upstream.requests[-1]["tools"]}
    assert not names & {"addNode", "getWorkflowInfo", "searchInstalledNodes"}


async def test_a_turn_that_is_not_kept_has_no_workflow_to_build(service: Service, upstream: Upstream):
    async with service.http() as http:
        body = {"model": "atelier", "messages": [{"role": "user", "content": "hello"}]}
        assert (await http.post("/v1/chat/completions", json=body)).status_code == 200
    names = {tool["function"]["name"] for tool in upstream.requests[-1]["tools"]}
    assert {"example", "searchInstalledNodes"} <= names
    assert "addNode" not in names


async def test_nobody_sees_the_workflow_of_another(start: Start, service: Service):
    async with service.http() as http:
        for path in ("/api/conversations/nobody/workflow", "/api/conversations/nobody/context"):
            assert (await http.get(path)).status_code == 404


async def test_with_a_canvas_the_tools_run_there(service: Service, upstream: Upstream):
    upstream.calls(("call_1", "addNode", '{"nodeType": "KSampler"}'))
    async with service.socket() as socket:
        await socket.send(type="message", content="Add one", client_tools=["addNode"])
        call = await socket.until("tool_call")
        assert call["executor"] == "client"
        await socket.send(type="tool_result", run_id=call["run_id"], tool_call_id="call_1", result={"nodeId": 9})
        await socket.until("complete")
        conversation = call["conversation_id"]
    async with service.http() as http:
        assert (await http.get(f"/api/conversations/{conversation}/workflow")).json()["nodes"] == []
    assert "The user's ComfyUI is connected" in upstream.requests[0]["messages"][0]["content"]


async def test_a_call_that_is_repeated_changes_nothing(service: Service):
    async with service.http() as http:
        made = (await http.post("/api/conversations", json={})).json()
    call = service.app.state.services.graphs.call
    answers = [
        (await call("local", made["id"], AddNode(nodeType="KSampler"), call_id=call_id)).text
        for call_id in ("answer/call_0", "answer/call_0", "another/call_0")
    ]
    assert answers[0] == answers[1] != answers[2]
    assert len((await service.get(f"/api/conversations/{made['id']}/workflow"))["nodes"]) == 2


async def test_two_answers_may_use_the_same_ids_for_their_calls(service: Service, upstream: Upstream):
    for _ in range(2):
        upstream.calls(("call_0", "addNode", '{"nodeType": "KSampler"}'))
    async with service.socket() as socket:
        frames = await socket.ask("Add two")
    conversation_id = frames[0]["conversation_id"]
    assert len((await service.get(f"/api/conversations/{conversation_id}/workflow"))["nodes"]) == 2


# --- the editor itself


@pytest.fixture
def editor() -> GraphEditor:
    made = GraphEditor(WorkflowDocument(), OBJECT_INFO)
    for name in ("KSampler", "CLIPTextEncode", "LoadImage"):
        made.add_node(name)
    return made


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e: e.add_node("Nothing"), "no node type"),
        (lambda e: e.remove_node(9), "There is no node 9. The nodes: 1 (KSampler)"),
        (lambda e: e.connect(2, 3, 1, 1), "no output slot 3. Its outputs: 0: CONDITIONING"),
        (lambda e: e.connect(2, 0, 1, 99), "no input slot 99. Its inputs: 0: model (MODEL)"),
        (lambda e: e.connect(2, 0, 1, 0), "CONDITIONING fits its input slots 1 (positive), 2 (negative)"),
        (lambda e: e.connect(7, 0, 1, 0), "There is no node 7"),
        (lambda e: e.set_value(1, "stepz", 3), "no widget 'stepz'. Its widgets: seed, steps"),
        (lambda e: e.set_value(1, "steps", 0), "from 1 to 10000"),
        (lambda e: e.set_value(1, "steps", 2.5), "a whole number"),
        (lambda e: e.set_value(1, "steps", "many"), "a number"),
        (lambda e: e.set_value(1, "sampler_name", "eula"), "one of euler"),
        (lambda e: e.set_value(2, "text", 3), "text"),
        (lambda e: e.fill_prompt(1, "a fox"), "no text widget"),
        (lambda e: e.apply({"1": {"class_type": "Nothing", "inputs": {}}}), "no node type"),
        (lambda e: e.apply({"a": 1}), "no workflow"),
    ],
)
def test_what_cannot_be_done_says_what_could_and_changes_nothing(editor: GraphEditor, change: Any, words: str):
    before = editor.canvas()
    with pytest.raises(GraphError) as refused:
        change(editor)
    assert words in refused.value.message
    assert editor.canvas() == before


def test_a_circle_is_refused():
    editor = GraphEditor(WorkflowDocument(), OBJECT_INFO)
    for name in ("ImageInvert", "ImageInvert"):
        editor.add_node(name)
    editor.connect(1, 0, 2, 0)
    with pytest.raises(GraphError, match="circle"):
        editor.connect(2, 0, 1, 0)
    with pytest.raises(GraphError, match="circle"):
        editor.connect(1, 0, 1, 0)


def test_removing_a_node_removes_its_links(editor: GraphEditor):
    editor.connect(2, 0, 1, 1)
    editor.remove_node(2)
    assert editor.info()["links"] == []
    assert editor.add_node("CLIPTextEncode")["nodeId"] == 4


def test_a_value_goes_before_a_link_that_was_there():
    editor = GraphEditor(WorkflowDocument(), OBJECT_INFO)
    editor.add_node("PrimitiveInt")
    editor.add_node("KSampler")
    slots = {entry["name"]: entry["slot"] for entry in editor.info(details=True)["nodes"][1]["inputs"]}
    editor.connect(1, 0, 2, slots["steps"])
    assert editor.api()["2"]["inputs"]["steps"] == ["1", 0]
    editor.set_value(2, "steps", 7)
    assert editor.api()["2"]["inputs"]["steps"] == 7
