"""A browser on the page of a running service. What the page complains of on its console fails the test."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, Page, Request, async_playwright, expect

from app.adapters.inbound.rest.web import FOLDER
from tests.client import Service
from tests.comfyui.conftest import comfyui, example  # noqa: F401 - fixtures
from tests.integration.conftest import TOKEN, Start, start, upstream  # noqa: F401 - fixtures
from tests.servers import missing

DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 780}
PATIENCE = 15_000
expect.set_options(timeout=PATIENCE)

Open = Callable[..., Awaitable[Page]]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Chromium, as the machine has it."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        missing("Chromium")
    if not (FOLDER / "index.html").is_file():
        missing("The built page (make setup, with Node)")
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        await launched.close()


class Watch:
    """What a page asks for and complains of.

    Attributes:
        hosts: the hosts that were asked.
        failures: addresses that answered with an error.
        expected: complaints that a test means to cause have one of these in them.
    """

    def __init__(self) -> None:
        self.hosts: set[str] = set()
        self.complaints: list[str] = []
        self.failures: list[str] = []
        self.expected: list[str] = []

    def of(self, page: Page) -> None:
        page.on("request", self._asked)
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        page.on("response", lambda answer: self.failures.append(answer.url) if answer.status >= 400 else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _asked(self, request: Request) -> None:
        if (host := urlsplit(request.url).hostname) is not None:
            self.hosts.add(host)

    @property
    def unexpected(self) -> list[str]:
        return [said for said in self.complaints if not any(known in said for known in self.expected)]


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    watched = Watch()
    yield watched
    assert watched.unexpected == [], watched.failures


@pytest.fixture
async def open_page(browser: Browser, watch: Watch) -> AsyncIterator[Open]:
    """Opens the page of a service, logged in."""
    contexts: list[BrowserContext] = []

    async def begin(service: Service, path: str = "/", **options: Any) -> Page:
        context = await browser.new_context(**{"viewport": DESKTOP, "permissions": ["clipboard-write"], **options})
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = await context.new_page()
        watch.of(page)
        await page.goto(f"{service.url}/?token={TOKEN}")
        if path != "/":
            await page.goto(f"{service.url}{path}")
        return page

    yield begin
    for context in contexts:
        await context.close()


async def say(page: Page, text: str) -> None:
    """Write a message and send it, once the answer before it has ended."""
    await page.get_by_role("textbox", name="Message").fill(text)
    await expect(page.get_by_role("button", name="Send", exact=True)).to_be_enabled()
    await page.keyboard.press("Enter")
