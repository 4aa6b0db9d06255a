"""The runner against exchanges that were recorded from a real ComfyUI: message for message, with its own ids."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from app.adapters.outbound.comfyui import runner as comfy_runner
from app.adapters.outbound.comfyui.client import ComfyClient
from app.adapters.outbound.comfyui.runner import ComfyRunner
from app.core.domain.workflow_errors import WorkflowFailed, WorkflowRefused
from app.core.ports import Progress
from tests.comfyui.fake import OBJECT_INFO, PNG, recorded

WORKFLOW = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 255}},
    "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "t"}},
}
OURS = "0199f3a0-7c1e-7a3b-8a4e-2f6d1c9b7e55"


class Replay:
    """Answers as a recorded exchange did, under the id that the client gives."""

    def __init__(self, exchange: list[Any]) -> None:
        self._answer = next((what, body) for what, body in exchange if what.startswith("POST /prompt"))
        self._messages = [body for what, body in exchange if what == "ws"]
        self._history: Any = next((body for what, body in exchange if what == "history"), {})
        self._theirs = next(iter(self._history), "")
        self._asked = asyncio.Event()
        self._over = False

    def make(self) -> TestServer:
        app = web.Application()
        app.router.add_get("/ws", self._socket)
        app.router.add_post("/prompt", self._prompt)
        app.router.add_get("/history/{id}", self._of_history)
        app.router.add_get("/queue", self._queue)
        app.router.add_get("/object_info", self._info)
        app.router.add_get("/view", self._view)
        return TestServer(app, host="127.0.0.1")

    def _ours(self, value: Any) -> Any:
        return (
            orjson.loads(orjson.dumps(value).replace(self._theirs.encode(), OURS.encode())) if self._theirs else value
        )

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await self._asked.wait()
        for message in self._messages:
            await socket.send_json(self._ours(message))
        self._over = True
        await socket.receive()
        return socket

    async def _prompt(self, request: web.Request) -> web.Response:
        what, body = self._answer
        self._asked.set()
        status = int(what.split()[-1])
        return web.Response(status=status, text=body, content_type="application/json")

    async def _of_history(self, request: web.Request) -> web.Response:
        return web.json_response(self._ours(self._history) if self._over else {})

    async def _queue(self, request: web.Request) -> web.Response:
        running = [[0, OURS, {}, {}, []]] if self._asked.is_set() and not self._over else []
        return web.json_response({"queue_running": running, "queue_pending": []})

    async def _info(self, request: web.Request) -> web.Response:
        return web.json_response(OBJECT_INFO)

    async def _view(self, request: web.Request) -> web.Response:
        return web.Response(body=PNG)


@asynccontextmanager
async def replayed(name: str) -> AsyncIterator[ComfyRunner]:
    server = Replay(recorded(name)).make()
    await server.start_server()
    client = ComfyClient(f"http://127.0.0.1:{server.port}")
    yield ComfyRunner(client, 20)
    await client.close()
    await server.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comfy_runner, "POLL_SECONDS", 0.05)


@pytest.mark.parametrize("name", ["save", "own_prompt_id", "cached", "runtime_or_validation"])
async def test_a_run_that_ended_well_gives_its_picture(name: str):
    heard: list[Progress] = []
    async with replayed(name) as runner:
        (output,) = (await runner.run(WORKFLOW, OURS, heard.append)).outputs
        data = b"".join([chunk async for chunk in output.chunks()])
    assert (output.media_type, data) == ("image/png", PNG)
    assert output.name.startswith("t_0000")
    assert name == "cached" or any("(node " in (progress.text or "") for progress in heard)


async def test_a_run_that_was_interrupted_says_so():
    async with replayed("interrupt") as runner:
        with pytest.raises(WorkflowFailed, match="interrupted"):
            await runner.run(WORKFLOW, OURS, lambda _: None)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bad_input", "EmptyImage (node 1): Failed to convert an input value to a INT value (width, abc"),
        ("missing_input", "ImageInvert (node 2): Required input is missing (image)"),
        ("missing_file", "Invalid image file: nope.png"),
        ("dangling_link", "Exception when validating inner node ('99')"),
        ("no_output", "Prompt has no outputs"),
        ("unknown_node", "node NoSuchNode does not exist"),
    ],
)
async def test_what_it_refused_is_told_in_its_words(name: str, said: str):
    async with replayed(name) as runner:
        with pytest.raises(WorkflowRefused) as refusal:
            await runner.run(WORKFLOW, OURS, lambda _: None)
    assert said in refusal.value.message
