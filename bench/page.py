"""The page in Chromium: `python -m bench.page`. Needs the built page and a Chromium.

What it weighs; how soon a conversation of 10,000 messages is there; how its frames come while one scrolls through it; and
the longest task of the page while an answer comes at 200 pieces a second.
"""

import argparse
import asyncio
import gzip
import re
import shutil
import statistics

import aiohttp
from playwright.async_api import Browser, Page, async_playwright

from bench import rig

MESSAGES = 10_000
LIMIT_SCRIPT = 350 * 1024
LIMIT_OPEN = 1_000
LIMIT_TASK = 50
STEPS = 120

WATCH_TASKS = """() => {
    window.tasks = [];
    new PerformanceObserver((list) => window.tasks.push(...list.getEntries().map((one) => one.duration)))
        .observe({ type: "longtask" });
}"""
OPEN = """async (last) => {
    const start = performance.now();
    document.querySelector("nav li a").click();
    while (![...document.querySelectorAll(".message")].some((one) => one.textContent.includes(last)))
        await new Promise((resolve) => requestAnimationFrame(resolve));
    return performance.now() - start;
}"""
SCROLL = """async (steps) => {
    const viewport = document.querySelector(".viewport");
    const frames = [];
    let before = performance.now();
    for (let step = 0; step < steps; step++) {
        viewport.scrollTop -= 120;
        const now = await new Promise((resolve) => requestAnimationFrame(resolve));
        frames.push(now - before);
        before = now;
    }
    return frames;
}"""


async def script_weight(url: str) -> int:
    """Bytes of compressed script that the first load asks for."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        async with session.get(url) as answer:
            index = await answer.text()
        total = 0
        for name in re.findall(r'(?:src|href)="(/assets/[^"]+\.js)"', index):
            async with session.get(url + name) as answer:
                total += len(gzip.compress(await answer.read()))
        return total


async def long_conversation(url: str) -> None:
    """Store one of MESSAGES messages."""
    messages = [
        {"role": ("user", "assistant")[n % 2], "content": f"Message number {n + 1}.\n\nWith *some* `Markdown` in it."}
        for n in range(MESSAGES)
    ]
    async with aiohttp.ClientSession() as session:
        body = {"title": "Long", "messages": messages}
        async with session.post(f"{url}/api/conversations/import", json=body) as answer:
            answer.raise_for_status()


async def opened(browser: Browser, url: str) -> tuple[Page, float]:
    """The page with the long conversation, and the milliseconds that it took."""
    page = await browser.new_page(viewport={"width": 1280, "height": 800})
    await page.goto(url)
    await page.get_by_role("link", name="Long").wait_for()
    return page, await page.evaluate(OPEN, f"Message number {MESSAGES}.")


async def measure(url: str, rounds: int) -> bool:
    """Print the figures; whether all limits are kept."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("Chromium is missing")
    weight = await script_weight(url)
    await long_conversation(url)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        times: list[float] = []
        for _ in range(rounds):
            page, took = await opened(browser, url)
            times.append(took)
        await page.evaluate(WATCH_TASKS)
        frames = await page.evaluate(SCROLL, STEPS)
        in_document = await page.locator(".message").count()
        scrolling = await page.evaluate("window.tasks")
        page = await browser.new_page(viewport={"width": 1280, "height": 800})
        await page.goto(url)
        await page.evaluate(WATCH_TASKS)
        await page.get_by_role("textbox", name="Message").fill("Go")
        await page.keyboard.press("Enter")
        await page.get_by_text("The end of it.").wait_for(timeout=60_000)
        writing = await page.evaluate("window.tasks")
        await browser.close()
    open_ms = statistics.median(times)
    print(f"first load: {weight / 1024:.0f} KB of compressed script (at most {LIMIT_SCRIPT // 1024})")
    print(f"{MESSAGES:,} messages: there after {open_ms:.0f} ms (at most {LIMIT_OPEN}), {in_document} in the document")
    print(
        f"scrolling: a frame every {statistics.median(frames):.0f} ms, the slowest of {STEPS} {max(frames):.0f} ms; "
        f"long tasks {[round(task) for task in scrolling]}"
    )
    print(f"200 pieces a second: long tasks {[round(task) for task in writing]} (none over {LIMIT_TASK} ms)")
    kept = weight <= LIMIT_SCRIPT and open_ms <= LIMIT_OPEN and max(writing, default=0) <= LIMIT_TASK
    print(f"limits: {'kept' if kept else 'MISSED'}")
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with rig.upstream() as base_url, rig.service(base_url, DEFAULT_MODEL="openai@prose") as url:
        return int(not asyncio.run(measure(url, options.rounds)))


if __name__ == "__main__":
    raise SystemExit(main())
