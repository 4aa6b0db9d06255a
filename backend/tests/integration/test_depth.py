"""Deep nesting and absurd dimensions are a client's error on every wire, never a failure of the service."""

import io
import json
from typing import Any

import httpx
import pytest
from PIL import Image

from app.adapters.inbound.workflow_files import read_workflow
from app.core.domain.workflow import DefinitionError
from tests.client import Service

DEPTHS = [70, 300, 1_000, 5_000, 200_000]


def deep(levels: int, key: str = "properties") -> str:
    return f'{{"type": "object", "{key}": {{"a": ' * levels + "{}" + "}}" * levels


def png(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (1, 1)).save(out, "PNG")
    data = bytearray(out.getvalue())
    data[16:24] = width.to_bytes(4) + height.to_bytes(4)
    return bytes(data)


async def post(service: Service, path: str, body: str | bytes, kind: str = "application/json") -> httpx.Response:
    async with service.http() as http:
        return await http.post(path, content=body, headers={"Content-Type": kind})


@pytest.mark.parametrize("levels", DEPTHS)
async def test_deep_json_is_refused_on_every_wire(service: Service, levels: int):
    value = deep(levels)
    tool = f'{{"type": "function", "function": {{"name": "f", "parameters": {value}}}}}'
    hello = '"messages": [{"role": "user", "content": "Hi"}]'
    part = f'{{"type": "text", "text": "x", "more": {value}}}'
    async with service.http() as http:
        conversation = (await http.post("/api/conversations", json={})).json()["id"]
    bodies = {
        "/v1/chat/completions": f'{{"model": "atelier", {hello}, "tools": [{tool}]}}',
        f"/api/conversations/{conversation}/messages": f'{{"content": [{part}]}}',
        "/api/conversations/import": f'{{"messages": [{{"role": "user", "content": "x", "metadata": {value}}}]}}',
        "/api/chat": f'{{"id": "c", "trigger": "submit-message", "messages": [{{"id": "u", "role": "user", "parts": [{part}]}}]}}',
        "/api/workflows?name=deep": value,
        "/invoke": f'{{"tool": "x", "arguments": {value}}}',
    }
    for path, body in bodies.items():
        answer = await post(service, path, body)
        assert answer.status_code in (400, 404, 413, 415, 422), (path, answer.status_code, answer.text[:200])


async def test_deep_frames_are_refused(service: Service):
    async with service.socket() as socket:
        for levels in DEPTHS[:-1]:
            await socket.connection.send(f'{{"type": "message", "content": [{{"type": "x", "more": {deep(levels)}}}]}}')
            frame = await socket.receive()
            assert (frame["type"], frame["code"]) == ("error", "invalid_frame")
        await socket.nothing_waits()


@pytest.mark.parametrize(("width", "height"), [(2**31 - 1, 2**31 - 1), (100_000, 100_000), (0, 5)])
async def test_a_picture_of_absurd_dimensions_is_refused(service: Service, width: int, height: int):
    answer = await post(service, "/api/workflows?name=bomb", png(width, height), "image/png")
    assert answer.status_code == 422, answer.text
    assert "picture" in answer.json()["detail"]


def test_the_metadata_of_a_picture_may_be_nested_too_deeply():
    from PIL import PngImagePlugin

    info, out = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add_text("prompt", deep(1_000))
    Image.new("RGB", (1, 1)).save(out, "PNG", pnginfo=info)
    with pytest.raises(DefinitionError):
        read_workflow(out.getvalue())


def test_the_nesting_that_is_tested_is_json():
    value: Any = json.loads(deep(50))
    assert value["properties"]["a"]["type"] == "object"
