"""What the page is beside what it does: usable by all, light, and fast on long conversations."""

import asyncio
import gzip
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from app.adapters.inbound.rest.web import FOLDER
from tests.comfyui.fake import FakeComfyUI
from tests.integration.conftest import Start
from tests.page.conftest import DESKTOP, PHONE, Open, say
from tests.page.test_page import answers
from tests.servers import missing
from tests.upstream import Answer, Upstream

AXE = Path(__file__).parents[3] / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
MAX_SCRIPT = 350 * 1024
LONG_TASK = 50


async def violations(page: Page) -> list[str]:
    """What axe finds serious or worse."""
    if not AXE.is_file():
        missing("axe-core (make setup, with Node)")
    await page.evaluate(AXE.read_text(encoding="utf-8"))
    found = await page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{one['id']}: {node['html'][:200]} {node.get('failureSummary', '')[:300]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_axe_finds_nothing_serious(
    start: Start, upstream: Upstream, comfyui: FakeComfyUI, open_page: Open, scheme: str, size: dict[str, int]
):
    service = await start(tool_approval={"divide": "ask"}, comfyui_url=comfyui.url)
    page = await open_page(service, viewport=size, color_scheme=scheme, reduced_motion="reduce")
    assert await violations(page) == []
    upstream.calls(("a", "multiply", '{"a": 1, "b": 2}'), ("b", "addNode", '{"nodeType": "KSampler"}'))
    upstream.says(
        "# Title\n\nText with `code`, [a link](https://example.org).\n\n| a |\n|---|\n| 1 |\n\n```js\n1\n```\n"
    )
    await say(page, "Show everything")
    await expect(answers(page).get_by_role("table")).to_be_visible()
    assert await violations(page) == []
    upstream.calls(("c", "divide", '{"a": 1, "b": 2}'))
    await say(page, "Ask me")
    await expect(page.get_by_role("button", name="Allow")).to_be_visible()
    await page.get_by_role("textbox", name="Message").fill("/")
    await expect(page.get_by_role("option").first).to_be_visible()
    assert await violations(page) == []
    await page.get_by_role("textbox", name="Message").fill("")
    await page.get_by_role("button", name="Model:").click()
    assert await violations(page) == []
    await page.keyboard.press("Escape")
    for name in ("Workflow", "Context"):
        await page.get_by_role("button", name=name, exact=True).click()
        await expect(page.get_by_role("dialog", name=name)).to_be_visible()
        assert await violations(page) == []
        await page.keyboard.press("Escape")


async def test_everything_can_be_done_with_the_keyboard(start: Start, upstream: Upstream, open_page: Open):
    service = await start()
    page = await open_page(service)
    await expect(page.get_by_role("textbox", name="Message")).to_be_focused()
    await page.keyboard.type("hello")
    await page.keyboard.press("Enter")
    await expect(answers(page)).to_contain_text("You said: hello")
    reached: set[str] = set()
    for _ in range(40):
        await page.keyboard.press("Tab")
        reached.add(
            await page.evaluate(
                "(document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent).trim()"
            )
        )
    assert {"New conversation", "Search conversations", "Options of hello", "Copy", "Edit and send again"} <= reached
    assert {"Answer again", "Message", "Attach files", "Model: openai@scripted", "Skills", "Archive"} <= reached


def test_the_first_load_is_light():
    index = (FOLDER / "index.html").read_text()
    scripts = [
        FOLDER / "assets" / name.split('"')[0]
        for name in index.split("/assets/")[1:]
        if name.split('"')[0].endswith(".js")
    ]
    assert scripts
    size = sum(len(gzip.compress(script.read_bytes())) for script in scripts)
    assert size <= MAX_SCRIPT


async def test_a_conversation_of_10_000_messages_opens_and_only_what_is_seen_is_there(
    start: Start, open_page: Open, record_property: Any
):
    service = await start()
    messages = [
        {
            "role": "user" if place % 2 == 0 else "assistant",
            "content": f"Message number {place + 1}.\n\nWith a second line.",
        }
        for place in range(10_000)
    ]
    async with service.http() as http:
        made = (await http.post("/api/conversations/import", json={"title": "Long", "messages": messages})).json()
    page = await open_page(service)
    await expect(page.get_by_role("link", name="Long")).to_be_visible()
    took = await page.evaluate(
        """async () => {
            const start = performance.now();
            document.querySelector("nav li a").click();
            while (!document.body.textContent.includes("Message number 10000."))
                await new Promise((resolve) => requestAnimationFrame(resolve));
            return performance.now() - start;
        }"""
    )
    record_property("figures", f"a conversation of 10,000 messages is there after {took:.0f} ms")
    assert page.url.endswith(f"#{made['id']}")
    log = page.locator(".viewport")
    seen: set[int] = set()
    for _ in range(80):
        shown = await log.evaluate(
            """async (log) => {
                const place = log.getBoundingClientRect();
                const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
                const messages = () => [...document.querySelectorAll(".message")];
                const isFilled = () => {
                    const places = messages().map((one) => one.getBoundingClientRect());
                    const above = Math.min(...places.map((one) => one.top)) < place.top + 60;
                    return above && Math.max(...places.map((one) => one.bottom)) > place.bottom - 60;
                };
                for (let frames = 0; frames < 120 && !isFilled(); frames++) await frame(); // a busy machine is slow to draw
                const numbers = messages().map((one) => Number(/number (\\d+)/.exec(one.textContent)[1]));
                log.scrollTop -= 400;
                await frame();
                await frame();
                return numbers;
            }"""
        )
        assert len(shown) < 60
        seen |= set(shown)
    assert min(seen) < 9_850
    assert seen == set(range(min(seen), 10_001))  # nothing is jumped over when older pages come
    await expect(page.get_by_text("Message number 10000.")).not_to_be_attached()
    await page.get_by_role("button", name="To the newest message").click()
    await expect(page.get_by_text("Message number 10000.")).to_be_visible()


async def test_200_pieces_a_second_are_rendered_without_long_tasks(
    start: Start, upstream: Upstream, open_page: Open, record_property: Any
):
    async def quick(answer: Answer) -> None:
        for paragraph in range(20):
            for word in range(30):
                await answer.delta(content=f"word{word} ")
                await asyncio.sleep(1 / 200)  # the rate that is tested
            await answer.delta(content=f"\n\n**Paragraph {paragraph}** with `code`.\n\n")
        await answer.done()

    service = await start()
    upstream.script(quick)
    page = await open_page(service)
    await page.evaluate(
        """() => {
            window.tasks = [];
            new PerformanceObserver((list) => window.tasks.push(...list.getEntries().map((one) => one.duration)))
                .observe({ type: "longtask" });
        }"""
    )
    await say(page, "Go")
    await expect(answers(page)).to_contain_text("Paragraph 19", timeout=20_000)
    tasks = await page.evaluate("window.tasks")
    record_property("figures", f"long tasks while 600 pieces came: {[round(task) for task in tasks]} ms")


async def test_the_api_page_works_under_its_policy(start: Start, open_page: Open):
    page = await open_page(await start(), "/docs")
    await page.get_by_text("/api/health/live").click()
    await page.get_by_role("button", name="Try it out").click()
    await page.get_by_role("button", name="Execute").click()
    await expect(page.locator(".responses-inner .live-responses-table")).to_contain_text('"status": "ok"')
