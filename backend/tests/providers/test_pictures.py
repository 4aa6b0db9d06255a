"""Pictures by address through every wire of the service, to providers that are sent the bytes."""

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from PIL import Image

from tests.client import Service
from tests.integration.conftest import Start
from tests.providers.conftest import settings_of
from tests.providers.fakes import KEY, FakeProvider


class Site:
    """A picture, and a path that never answers."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        app = web.Application()
        app.router.add_get("/a.png", self._picture)
        app.router.add_get("/hang", self._hang)
        self._server = TestServer(app, host="127.0.0.1")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}"

    async def _picture(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        out = io.BytesIO()
        Image.new("RGB", (2, 2)).save(out, "PNG")
        return web.Response(body=out.getvalue(), content_type="image/png")

    async def _hang(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        await self.gate.wait()
        raise web.HTTPNotFound


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    await made._server.start_server()
    yield made
    await made._server.close()


@pytest.fixture(params=["gemini", "ollama", "moonshot", "lab"])
async def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeProvider]:
    monkeypatch.setenv("LAB_KEY", KEY)
    server = FakeProvider(request.param)
    await server.start()
    yield server
    await server.stop()


def content(url: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]


async def over_rest(service: Service, url: str) -> httpx.Response:
    async with service.http() as http:
        conversation = (await http.post("/api/conversations", json={})).json()["id"]
        return await http.post(f"/api/conversations/{conversation}/messages", json={"content": content(url)})


async def over_ai_sdk(service: Service, url: str) -> httpx.Response:
    parts = [{"type": "text", "text": "Hi"}, {"type": "file", "url": url, "mediaType": "image/png"}]
    message = {"id": "u1", "role": "user", "parts": parts}
    async with service.http() as http:
        return await http.post("/api/chat", json={"id": "c1", "messages": [message], "trigger": "submit-message"})


async def over_openai(service: Service, url: str, stream: bool = True) -> httpx.Response:
    async with service.http() as http:
        listed = (await http.get("/api/models")).json()["items"]
    body = {
        "model": next(item["id"] for item in listed if item["default"]),
        "messages": [{"role": "user", "content": content(url)}],
        "stream": stream,
    }
    async with service.http() as http:
        return await http.post("/v1/chat/completions", json=body)


async def over_openai_at_once(service: Service, url: str) -> httpx.Response:
    return await over_openai(service, url, stream=False)


async def over_an_import(service: Service, url: str) -> httpx.Response:
    messages = [{"role": "user", "content": content(url)}, {"role": "assistant", "content": "A dot."}]
    async with service.http() as http:
        made = await http.post("/api/conversations/import", json={"messages": messages})
        assert made.status_code == 201, made.text
        conversation = made.json()["id"]
        return await http.post(f"/api/conversations/{conversation}/messages", json={"content": "And now?"})


WIRES = [over_rest, over_ai_sdk, over_openai, over_openai_at_once, over_an_import]


@pytest.mark.parametrize("wire", WIRES)
async def test_private_addresses_are_not_asked_on_any_wire(start: Start, fake: FakeProvider, site: Site, wire: Any):
    service = await start(**settings_of(fake.provider, fake))
    answer = await wire(service, f"{site.url}/hang")
    assert site.asked == []
    assert site.url not in str(fake.requests)
    if wire is over_an_import:  # an old picture must not end a conversation for good
        assert "not a public address" in str(fake.requests)
    else:
        assert "not a public address" in answer.text
        assert fake.requests == []


@pytest.mark.parametrize("wire", WIRES)
async def test_pictures_are_sent_as_bytes_on_every_wire(start: Start, fake: FakeProvider, site: Site, wire: Any):
    service = await start(**settings_of(fake.provider, fake), image_networks="127.0.0.0/8")
    answer = await wire(service, f"{site.url}/a.png")
    assert "Hello from" in answer.text or answer.status_code == 200
    assert site.asked == ["/a.png"]
    assert site.url not in str(fake.requests)
    assert "iVBORw0KGgo" in str(fake.requests).replace("-", "+").replace("_", "/")


async def test_others_are_served_while_a_picture_hangs(start: Start, site: Site):
    fake = FakeProvider("gemini")
    await fake.start()
    service = await start(**settings_of("gemini", fake), image_networks="127.0.0.0/8")
    hanging = asyncio.create_task(over_rest(service, f"{site.url}/hang"))
    try:
        while not site.asked:
            await asyncio.sleep(0.01)
        async with service.http() as http:
            assert (await http.get("/api/health/live")).status_code == 200
        assert not hanging.done()
    finally:
        site.gate.set()
        await hanging
        await fake.stop()
