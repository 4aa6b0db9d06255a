"""The tab in ComfyUI's real frontend: every canvas tool on the real graph."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from playwright.async_api import Browser, Page, expect

from tests.client import Service
from tests.comfyui.frontend import TAB, VERSIONS, ComfyUIWithFrontend, files
from tests.integration.conftest import TOKEN, Start
from tests.page.conftest import PATIENCE, say
from tests.servers import missing
from tests.upstream import Answer, Upstream, paused

START = 60_000
BUTTON = "Atelier: build and run workflows by talking"


@pytest.fixture(params=VERSIONS)
async def studio(request: pytest.FixtureRequest, start: Start) -> AsyncIterator[tuple[ComfyUIWithFrontend, Service]]:
    """ComfyUI with its frontend, and a service that takes pages of its origin."""
    static = files(request.param)
    if static is None:
        missing(f"comfyui-frontend-package {request.param}")
    if not (TAB / "atelier.js").is_file():
        missing("The built tab (make setup, with Node)")
    comfyui = ComfyUIWithFrontend(request.param, static)
    await comfyui.start()
    service = await start(allowed_origins=[comfyui.url])
    comfyui.settings |= {"Atelier.Url": service.url, "Atelier.Token": TOKEN}
    yield comfyui, service
    await comfyui.stop()


@pytest.fixture
async def tab(studio: tuple[ComfyUIWithFrontend, Service], browser: Browser) -> AsyncIterator[Page]:
    """ComfyUI with an empty canvas and our tab open."""
    page = await open_tab(studio[0], browser)
    yield page
    await page.context.close()


async def open_tab(comfyui: ComfyUIWithFrontend, browser: Browser) -> Page:
    context = await browser.new_context(viewport={"width": 1500, "height": 900})
    context.set_default_timeout(PATIENCE)
    page = await context.new_page()
    await page.goto(comfyui.url, timeout=START)
    await page.wait_for_function(
        "window.app?.graph && Object.keys(window.LiteGraph.registered_node_types).length > 20", timeout=START
    )
    await page.get_by_role("button", name=BUTTON).wait_for(timeout=START)
    await page.keyboard.press("Escape")
    await page.evaluate("window.app.graph.clear()")
    await page.get_by_role("button", name=BUTTON).click()
    await expect(page.get_by_role("textbox", name="Message")).to_be_visible()
    return page


class Calls:
    """Has the model call one tool after the other; what the tab answered to each."""

    def __init__(self, page: Page, upstream: Upstream) -> None:
        self._page = page
        self._upstream = upstream
        self._count = 0

    async def __call__(self, name: str, **arguments: Any) -> Any:
        self._count += 1
        call_id = f"call_{self._count}"
        answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def end(answer: Answer) -> None:
            answered.set_result(answer.last["content"])
            await answer.say(f"Answer {call_id}.")

        self._upstream.calls((call_id, name, orjson.dumps(arguments).decode()))
        self._upstream.script(end)
        await say(self._page, f"Do {name}")
        async with asyncio.timeout(30):
            text = await answered
        await expect(self._page.get_by_text(f"Answer {call_id}.")).to_be_visible()
        return orjson.loads(text) if text[:1] in "{[" else text


@pytest.fixture
def call(tab: Page, upstream: Upstream) -> Calls:
    return Calls(tab, upstream)


async def graph(page: Page) -> dict[str, Any]:
    """What is on the canvas."""
    return await page.evaluate("window.app.graph.serialize()")


async def test_a_workflow_is_built_on_the_canvas_run_and_undone(
    studio: tuple[ComfyUIWithFrontend, Service], tab: Page, call: Calls, upstream: Upstream
):
    comfyui, service = studio
    image = await call("addNode", nodeType="EmptyImage", position={"x": 300, "y": 200})
    assert image["outputs"][0]["type"] == "IMAGE"
    save = await call("addNode", nodeType="SaveImage")
    await call("connectNodes", sourceNodeId=image["nodeId"], sourceSlot=0, targetNodeId=save["nodeId"], targetSlot=0)
    await call("setNodeWidgetValue", nodeId=image["nodeId"], widgetName="width", value=64)
    info = await call("getWorkflowInfo", includeNodeDetails=True, includeLayout=True, includeWidgetOptions=True)
    assert [node["type"] for node in info["nodes"]] == ["EmptyImage", "SaveImage"]
    assert info["nodes"][0]["widgets"]["width"] == 64
    assert info["nodes"][0]["position"] == {"x": 300, "y": 200}
    assert info["nodes"][0]["widgetOptions"]["width"]["min"] == 1
    assert len(info["links"]) == 1
    ran = await call("executeWorkflow", timeout=30)
    assert ran["status"] == "success"
    assert comfyui.prompts[-1]["prompt"][str(image["nodeId"])]["inputs"]["width"] == 64
    await expect(tab.get_by_role("button", name="Open the picture")).to_be_visible()
    # each change is one step of ComfyUI's own undo
    tracker = "window.app.extensionManager.workflow.activeWorkflow.changeTracker"
    await tab.evaluate(f"{tracker}.undo()")
    widths = [n["widgets_values"][0] for n in (await graph(tab))["nodes"] if n["type"] == "EmptyImage"]
    assert widths == [512]
    await tab.evaluate(f"{tracker}.undo()")
    assert (await graph(tab))["links"] == []
    async with service.http() as http:
        [conversation] = (await http.get("/api/conversations")).json()["items"]
    assert "The user's ComfyUI is connected" in upstream.requests[0]["messages"][0]["content"]
    assert [m["role"] for m in await service.history(conversation["id"])][:3] == ["user", "assistant", "tool"]


async def test_prompts_are_filled_nodes_removed_and_whole_workflows_applied(tab: Page, call: Calls):
    text = await call("addNode", nodeType="CLIPTextEncode")
    await call("fillPromptNode", nodeId=text["nodeId"], text="a fox in the snow")
    assert (await graph(tab))["nodes"][0]["widgets_values"] == ["a fox in the snow"]
    await call("removeNode", nodeId=text["nodeId"])
    assert (await graph(tab))["nodes"] == []
    api = {
        "3": {"class_type": "EmptyImage", "inputs": {"width": 32, "height": 32, "batch_size": 1, "color": 0}},
        "7": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "fox"}},
    }
    assert await call("applyWorkflowJson", workflow=api) == {"nodes": 2}
    drawn = await graph(tab)
    assert {node["id"]: node["type"] for node in drawn["nodes"]} == {3: "EmptyImage", 7: "SaveImage"}
    assert len(drawn["links"]) == 1
    full = await call("getWorkflowInfo", fullFormat=True)
    assert {node["id"] for node in full["nodes"]} == {3, 7}
    assert await call("applyWorkflowJson", workflow=full) == {"nodes": 2}
    assert len((await graph(tab))["links"]) == 1


async def test_what_is_installed_is_read_where_the_canvas_is(tab: Page, call: Calls):
    found = await call("searchInstalledNodes", query="sampler", limit=1)
    assert found["total"] >= 2
    assert [node["type"] for node in found["nodes"]] == ["KSampler"]
    assert "KSampler" in str(await call("readDocumentation", topic="ksampler"))
    assert "Close ones: KSampler" in str(await call("readDocumentation", topic="KSampla"))
    assert (await call("refreshEnvironment"))["nodes"] > 20
    assert isinstance(await call("getAvailableModels", category="checkpoints"), dict)


async def test_what_cannot_be_done_says_so_and_leaves_the_canvas(tab: Page, call: Calls):
    sampler = (await call("addNode", nodeType="KSampler"))["nodeId"]
    text = (await call("addNode", nodeType="CLIPTextEncode"))["nodeId"]
    before = await graph(tab)
    connect = {"sourceNodeId": text, "sourceSlot": 0, "targetNodeId": sampler, "targetSlot": 0}
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("addNode", {"nodeType": "KSampla"}, "Close ones: KSampler"),
        ("removeNode", {"nodeId": 99}, f"There is no node 99. The nodes: {sampler} (KSampler)"),
        ("connectNodes", {**connect, "sourceSlot": 4}, "no output slot 4. Its outputs: 0: CONDITIONING"),
        ("connectNodes", {**connect, "targetSlot": 99}, "no input slot 99"),
        ("connectNodes", connect, "does not fit input model (MODEL)"),
        ("setNodeWidgetValue", {"nodeId": sampler, "widgetName": "steps", "value": 0}, "from 1 to 10000"),
        ("setNodeWidgetValue", {"nodeId": sampler, "widgetName": "stepz", "value": 1}, "no widget stepz"),
        ("setNodeWidgetValue", {"nodeId": sampler, "widgetName": "sampler_name", "value": "eula"}, "one of euler"),
        ("fillPromptNode", {"nodeId": sampler, "text": "x"}, "no text widget"),
        ("applyWorkflowJson", {"workflow": {"1": {"class_type": "Nothing", "inputs": {}}}}, "node types Nothing"),
        ("applyWorkflowJson", {"workflow": {"a": 1}}, "no workflow"),
        ("removeNode", {"nodeId": "one"}, "valid integer"),
        ("executeWorkflow", {"timeout": 10}, "does not take the workflow"),
    ]
    for name, arguments, words in cases:
        assert words in str(await call(name, **arguments)), name
    after = await graph(tab)
    assert [(n["id"], n["type"], n["widgets_values"]) for n in after["nodes"]] == [
        (n["id"], n["type"], n["widgets_values"]) for n in before["nodes"]
    ]
    assert after["links"] == before["links"]


async def test_the_tab_has_comfyuis_colours(tab: Page):
    await expect(tab.locator(".tab")).to_have_attribute("data-theme", "dark")
    await tab.evaluate("window.app.extensionManager.setting.set('Comfy.ColorPalette', 'light')")
    await expect(tab.locator(".tab")).to_have_attribute("data-theme", "light")


async def test_the_agent_works_on_while_the_tab_is_closed(
    studio: tuple[ComfyUIWithFrontend, Service], tab: Page, call: Calls, upstream: Upstream
):
    comfyui, _ = studio
    hold = await begin_to_run(comfyui, tab, call, upstream)
    upstream.says("There it is.")
    await tab.get_by_role("button", name=BUTTON).click()
    await expect(tab.get_by_role("textbox", name="Message")).to_be_hidden()
    hold.set()
    async with asyncio.timeout(30):
        while upstream.requests[-1]["messages"][-1].get("tool_call_id") != "run":
            await tab.evaluate("new Promise(requestAnimationFrame)")
    await tab.get_by_role("button", name=BUTTON).click()
    await expect(tab.get_by_text("There it is.")).to_be_visible()
    assert '"success"' in upstream.requests[-1]["messages"][-1]["content"]
    assert len(comfyui.prompts) == 1


async def test_a_call_that_the_page_was_loaded_anew_in_is_answered(
    studio: tuple[ComfyUIWithFrontend, Service], tab: Page, call: Calls, upstream: Upstream
):
    hold = await begin_to_run(studio[0], tab, call, upstream)
    upstream.says("I had better look.")
    await tab.reload()
    await tab.get_by_role("button", name=BUTTON).click(timeout=START)
    await expect(tab.get_by_text("I had better look.")).to_be_visible()
    assert "Whether it was done is not known" in upstream.requests[-1]["messages"][-1]["content"]
    hold.set()


async def test_a_call_that_runs_too_long_is_stopped(
    studio: tuple[ComfyUIWithFrontend, Service], tab: Page, call: Calls, upstream: Upstream
):
    comfyui, _ = studio
    hold = await begin_to_run(comfyui, tab, call, upstream)
    await tab.get_by_label("Tool executeWorkflow: Waits for the program that runs it").wait_for()
    async with asyncio.timeout(30):
        await tab.get_by_role("button", name="Stop", exact=True).click()
        await comfyui.has_interrupted.wait()
    await tab.get_by_label("Tool executeWorkflow: Failed").wait_for()
    hold.set()
    await say(tab, "Leave it")
    await expect(tab.get_by_text("You said: Leave it")).to_be_visible()


async def begin_to_run(comfyui: ComfyUIWithFrontend, tab: Page, call: Calls, upstream: Upstream) -> asyncio.Event:
    """A workflow that the model has run, and that ends when the event is set."""
    image = await call("addNode", nodeType="EmptyImage")
    save = await call("addNode", nodeType="SaveImage")
    await call("connectNodes", sourceNodeId=image["nodeId"], sourceSlot=0, targetNodeId=save["nodeId"], targetSlot=0)
    comfyui.hold = asyncio.Event()
    upstream.calls(("run", "executeWorkflow", "{}"))
    await say(tab, "Run it")
    await tab.get_by_text("executeWorkflow").wait_for()
    async with asyncio.timeout(30):
        while not comfyui.prompts:
            await tab.evaluate("new Promise(requestAnimationFrame)")
    return comfyui.hold


async def test_a_workflow_that_was_built_elsewhere_comes_to_an_empty_canvas(
    studio: tuple[ComfyUIWithFrontend, Service], start: Start, browser: Browser, tmp_path: Path
):
    comfyui, _ = studio
    service = await start(comfyui_url=comfyui.url, allowed_origins=[comfyui.url], data_dir=tmp_path / "other")
    comfyui.settings |= {"Atelier.Url": service.url}
    async with service.http() as http:
        made = (await http.post("/api/conversations", json={"title": "From elsewhere"})).json()
        added = await http.post(f"/api/conversations/{made['id']}/workflow/addNode", json={"nodeType": "EmptyImage"})
        assert added.status_code == 200
    page = await browser.new_page(viewport={"width": 1500, "height": 900})
    await page.goto(comfyui.url, timeout=START)
    await page.get_by_role("button", name=BUTTON).wait_for(timeout=START)
    await page.keyboard.press("Escape")
    await page.evaluate("window.app.graph.clear()")
    await page.get_by_role("button", name=BUTTON).click()
    await page.get_by_label("Conversation", exact=True).select_option(label="From elsewhere")
    await page.wait_for_function("window.app.graph.nodes.some((node) => node.type === 'EmptyImage')")
    await page.close()


async def test_a_page_of_another_origin_is_refused(
    studio: tuple[ComfyUIWithFrontend, Service], start: Start, browser: Browser, tmp_path: Path
):
    comfyui, _ = studio
    closed = await start(allowed_origins=["http://127.0.0.1:1"], data_dir=tmp_path / "other")
    comfyui.settings |= {"Atelier.Url": closed.url}
    page = await browser.new_page()
    await page.goto(comfyui.url, timeout=START)
    await page.get_by_role("button", name=BUTTON).wait_for(timeout=START)
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name=BUTTON).click()
    await expect(page.get_by_text("ALLOWED_ORIGINS=")).to_be_visible()
    await page.close()


@pytest.fixture
async def asking(
    studio: tuple[ComfyUIWithFrontend, Service], start: Start, browser: Browser, upstream: Upstream, tmp_path: Path
) -> AsyncIterator[tuple[Page, Service]]:
    """The tab, in which the agent asks whether it may add a node."""
    comfyui, _ = studio
    service = await start(tool_approval={"addNode": "ask"}, allowed_origins=[comfyui.url], data_dir=tmp_path / "asking")
    comfyui.settings |= {"Atelier.Url": service.url}
    page = await open_tab(comfyui, browser)
    upstream.calls(("call_1", "addNode", '{"nodeType": "EmptyImage"}'))
    upstream.says("That is settled.")
    await say(page, "Add a node")
    await expect(page.get_by_role("button", name="Allow")).to_be_visible()
    yield page, service
    await page.context.close()


async def added_nodes(page: Page) -> int:
    return sum(node["type"] == "EmptyImage" for node in (await graph(page))["nodes"])


async def reload(page: Page) -> None:
    await page.reload()
    await page.get_by_role("button", name=BUTTON).click(timeout=START)


@pytest.mark.parametrize(("button", "count", "state"), [("Allow", 1, "Done"), ("Refuse", 0, "Refused")])
async def test_a_canvas_tool_waits_for_its_approval(
    asking: tuple[Page, Service], upstream: Upstream, button: str, count: int, state: str
):
    page, _ = asking
    assert await added_nodes(page) == 0
    await page.get_by_role("button", name=button).click()
    await expect(page.get_by_text("That is settled.")).to_be_visible()
    await expect(page.get_by_label(f"Tool addNode: {state}")).to_be_visible()
    assert await added_nodes(page) == count
    assert len(upstream.requests) == 2


async def test_an_approval_after_a_reload_runs_the_tool_once(asking: tuple[Page, Service], upstream: Upstream):
    page, _ = asking
    await reload(page)
    await expect(page.get_by_role("button", name="Allow")).to_be_visible(timeout=START)
    assert await added_nodes(page) == 0
    await page.get_by_role("button", name="Allow").click()
    await expect(page.get_by_text("That is settled.")).to_be_visible()
    assert await added_nodes(page) == 1


async def test_a_tool_approved_elsewhere_runs_after_a_reload(asking: tuple[Page, Service], upstream: Upstream):
    page, service = asking
    async with service.http() as http:
        [conversation] = (await http.get("/api/conversations")).json()["items"]
        run = f"/api/runs/{conversation['active_run_id']}"
        allowed = await http.post(f"{run}/approvals", json={"tool_call_id": "call_1", "approved": True})
        assert allowed.status_code == 200
    await reload(page)
    await expect(page.get_by_text("That is settled.")).to_be_visible(timeout=START)
    assert await added_nodes(page) == 1


async def test_an_approval_given_elsewhere_before_does_not_block_the_tab(
    asking: tuple[Page, Service], upstream: Upstream
):
    page, service = asking
    async with service.http() as http:
        [conversation] = (await http.get("/api/conversations")).json()["items"]
        run = f"/api/runs/{conversation['active_run_id']}"
        await http.post(f"{run}/approvals", json={"tool_call_id": "call_1", "approved": True})
    await page.get_by_role("button", name="Allow").click()
    await expect(page.get_by_text("That is settled.")).to_be_visible()
    assert await added_nodes(page) == 1


async def test_a_reload_while_the_model_answers_repeats_no_call(
    studio: tuple[ComfyUIWithFrontend, Service], tab: Page, call: Calls, upstream: Upstream
):
    comfyui, _ = studio
    image = await call("addNode", nodeType="EmptyImage")
    save = await call("addNode", nodeType="SaveImage")
    await call("connectNodes", sourceNodeId=image["nodeId"], sourceSlot=0, targetNodeId=save["nodeId"], targetSlot=0)
    upstream.calls(("run", "executeWorkflow", "{}"))
    upstream.script(paused(gate := asyncio.Event()))
    await say(tab, "Run it")
    await expect(tab.get_by_text("One", exact=True)).to_be_visible()
    await reload(tab)
    await expect(tab.get_by_text("One", exact=True)).to_be_visible(timeout=START)
    gate.set()
    await expect(tab.get_by_text("One two.")).to_be_visible()
    assert len(comfyui.prompts) == 1
