"""A ComfyUI for tests, on a real port: it checks and answers as the recorded server did, and fails as a test tells it to.

`recorded/*.json` are whole exchanges with a real server; messages and records here are built after them.
"""

import asyncio
import struct
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from app.core.services.workflow_check import leading_to

RECORDED = Path(__file__).parent / "recorded"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6364f8cf500f000e03018"
    "05a34747d6b0000000049454e44ae426082"
)
OBJECT_INFO: dict[str, Any] = orjson.loads((RECORDED / "object_info.subset.json").read_bytes())
OBJECT_INFO["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0] = ["v1-5-pruned-emaonly.safetensors"]


def recorded(name: str) -> list[Any]:
    """A recorded exchange."""
    return orjson.loads((RECORDED / f"{name}.json").read_bytes())


class FakeComfyUI:
    """The server.

    Attributes:
        hold: jobs wait for it after their first node.
        fail_at: a class whose nodes fail, and with what words.
        refuse: answers every request with this status.
        hang: no request is answered.
        breaks: so many requests in a row break off without an answer; then `is_back` is set.
        fails_after: the node that fails after everything was made, and with what words.
        cut_socket: the socket breaks after a job's first node, and messages after that are lost.
        sends_previews: as many as it sends a node.
        lose_answer: the connection breaks after /prompt has taken the job.
        output_bytes: how large what SaveImage makes is.
        asked: the addresses that were asked, with their queries.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.prompts: list[dict[str, Any]] = []
        self.executed: list[str] = []
        self.interrupted: list[str] = []
        self.has_interrupted = asyncio.Event()
        self.uploads: dict[str, bytes] = {}
        self.hold: asyncio.Event | None = None
        self.begun = asyncio.Event()
        self.fail_at: tuple[str, str] | None = None
        self.refuse: int | None = None
        self.hang = False
        self.breaks = 0
        self.is_back = asyncio.Event()
        self.fails_after: tuple[str, str] | None = None
        self.cut_socket = False
        self.sends_previews = 0
        self.lose_answer = False
        self.output_bytes = len(PNG)
        self.outputs: dict[str, Any] | None = None
        self._history: dict[str, Any] = {}
        self._queue: list[tuple[int, str, dict[str, Any], str]] = []
        self._running: tuple[int, str, dict[str, Any], str] | None = None
        self._stop: set[str] = set()
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self._numbers = 0
        self._more = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._server: TestServer | None = None
        self._port: int | None = None
        self.url = ""

    def add_routes(self, app: web.Application) -> None:
        """The routes of the server; the real one has each behind `/api` too."""
        app.router.add_get("/ws", self._socket)
        for prefix in ("", "/api"):
            app.router.add_post(f"{prefix}/prompt", self._prompt)
            app.router.add_get(f"{prefix}/history/{{id}}", self._of_history)
            app.router.add_get(f"{prefix}/queue", self._get_queue)
            app.router.add_post(f"{prefix}/queue", self._delete)
            app.router.add_post(f"{prefix}/interrupt", self._interrupt)
            app.router.add_get(f"{prefix}/object_info", self._object_info)
            app.router.add_get(f"{prefix}/view", self._view)
            app.router.add_post(f"{prefix}/upload/image", self._upload)
            app.router.add_get(f"{prefix}/models", self._models)
            app.router.add_get(f"{prefix}/models/{{folder}}", self._models)
            app.router.add_get(f"{prefix}/system_stats", self._stats)

    async def start(self) -> None:
        app = web.Application(client_max_size=512 * 1024 * 1024, middlewares=[self._troubled])
        self.add_routes(app)
        self._server = TestServer(app, host="127.0.0.1", port=self._port)
        await self._server.start_server()
        self._port = self._server.port
        self.url = f"http://127.0.0.1:{self._port}"
        self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        for socket in list(self._sockets.values()):
            if socket._req is not None and socket._req.transport is not None:  # pyright: ignore
                socket._req.transport.abort()  # pyright: ignore
        if self._server is not None:
            await self._server.close()

    async def restart(self) -> None:
        """As after a crash: queue and history are forgotten."""
        await self.stop()
        self._history.clear()
        self._queue.clear()
        self._running = None
        self._sockets.clear()
        self._more = asyncio.Event()
        await self.start()

    # --- routes

    @web.middleware
    async def _troubled(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append(request.raw_path)
        if self.hang:
            await asyncio.Event().wait()
        if self.breaks:
            self.breaks -= 1
            if not self.breaks:
                self.is_back.set()
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if self.refuse is not None:
            return web.Response(status=self.refuse, text="no")
        return await handler(request)

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        client = request.query.get("clientId") or uuid.uuid4().hex
        self._sockets[client] = socket
        await socket.send_json({"type": "status", "data": {"status": self._status(), "sid": client}})
        async for message in socket:
            if message.type is WSMsgType.ERROR:
                break
        if self._sockets.get(client) is socket:
            del self._sockets[client]
        return socket

    async def _prompt(self, request: web.Request) -> web.Response:
        body = await request.json()
        prompt = body.get("prompt")
        self.prompts.append(body)
        verdict = _check(prompt)
        if "error" in verdict:
            return web.json_response(verdict, status=400)
        prompt_id = body.get("prompt_id") or uuid.uuid4().hex
        self._numbers += 1
        self._queue.append((self._numbers, prompt_id, _good(prompt, verdict), body.get("client_id") or ""))
        self._more.set()
        if self.lose_answer:
            self.lose_answer = False
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"prompt_id": prompt_id, "number": self._numbers, **verdict})

    async def _of_history(self, request: web.Request) -> web.Response:
        found = self._history.get(request.match_info["id"])
        return web.json_response({request.match_info["id"]: found} if found else {})

    async def _get_queue(self, request: web.Request) -> web.Response:
        def rows(jobs: Any) -> list[Any]:
            return [
                [number, prompt_id, prompt, {"client_id": client}, []] for number, prompt_id, prompt, client in jobs
            ]

        running = [self._running] if self._running else []
        return web.json_response({"queue_running": rows(running), "queue_pending": rows(self._queue)})

    async def _delete(self, request: web.Request) -> web.Response:
        gone = set((await request.json()).get("delete") or ())
        self._queue = [job for job in self._queue if job[1] not in gone]
        return web.Response()

    async def _interrupt(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else {}
        self.interrupted.append(body.get("prompt_id", ""))
        self.has_interrupted.set()
        if self._running is not None and body.get("prompt_id") in (None, self._running[1]):
            self._stop.add(self._running[1])
            if self.hold is not None:
                self.hold.set()
        return web.Response()

    async def _object_info(self, request: web.Request) -> web.Response:
        return web.json_response(OBJECT_INFO)

    async def _view(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        await response.prepare(request)
        left = self.output_bytes
        data = PNG if left == len(PNG) else bytes(1024 * 1024)
        while left > 0:
            await response.write(data[:left])
            left -= len(data)
        return response

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        image: Any = form["image"]
        self.uploads[image.filename] = image.file.read()
        return web.json_response({"name": image.filename, "subfolder": "", "type": "input"})

    async def _models(self, request: web.Request) -> web.Response:
        folders = {
            "checkpoints": ["v1-5-pruned-emaonly.safetensors"],
            "loras": ["detail.safetensors"],
            "custom_nodes": ["somebody/secrets.py"],
            "configs": ["v1-inference.yaml"],
        }
        folder = request.match_info.get("folder")
        if folder is None:
            return web.json_response(list(folders))
        return web.json_response(folders[folder]) if folder in folders else web.Response(status=404)

    async def _stats(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"system": {"comfyui_version": "0.3.64", "ram_total": 1}, "devices": [{"name": "cpu"}]}
        )

    # --- the work

    async def _work(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            while self._queue:
                self._running = self._queue.pop(0)
                await self._execute(*self._running)
                self._running = None

    async def _execute(self, number: int, prompt_id: str, prompt: dict[str, Any], client: str) -> None:
        messages: list[Any] = []
        outputs: dict[str, Any] = {}
        self.executed.append(prompt_id)

        async def say(kind: str, to_history: bool = False, **data: Any) -> None:
            data["prompt_id"] = prompt_id
            if to_history:
                messages.append([kind, data])
            await self._send(client, {"type": kind, "data": data})

        async def end(status: str, kind: str, **data: Any) -> None:
            messages.append([kind, {"prompt_id": prompt_id, **data}])
            record = {"status_str": status, "completed": status == "success", "messages": messages}
            self._history[prompt_id] = {
                "prompt": [number, prompt_id, prompt, {}, []],
                "outputs": self.outputs if self.outputs is not None else outputs,
                "status": record,
            }
            await self._send(client, {"type": kind, "data": {"prompt_id": prompt_id, **data}})

        await say("execution_start", True, timestamp=int(time.time() * 1000))
        await say("execution_cached", True, nodes=[])
        for place, (node, what) in enumerate(prompt.items()):
            await say("executing", node=node, display_node=node)
            for _ in range(self.sends_previews):
                await self._send(client, struct.pack(">II", 1, 2) + PNG)
            if what["class_type"] == "KSampler":
                steps = what["inputs"]["steps"]
                await say("progress", node=node, value=steps, max=steps)
            if place == 0:
                self.begun.set()
                if self.cut_socket:
                    self.cut_socket = False
                    await self._cut(client)
                if self.hold is not None:
                    await self.hold.wait()
            if prompt_id in self._stop:
                await end("error", "execution_interrupted", node_id=node, node_type=what["class_type"], executed=[])
                return
            if self.fail_at is not None and what["class_type"] == self.fail_at[0]:
                await end(
                    "error",
                    "execution_error",
                    node_id=node,
                    node_type=what["class_type"],
                    exception_message=self.fail_at[1],
                    exception_type="RuntimeError",
                    traceback=["secret/path.py"],
                )
                return
            if what["class_type"] in ("SaveImage", "PreviewImage"):
                kind = "output" if what["class_type"] == "SaveImage" else "temp"
                outputs[node] = {"images": [{"filename": "../a_00001_.png", "subfolder": "", "type": kind}]}
                await say("executed", node=node, display_node=node, output=outputs[node])
        if self.fails_after is not None:
            node, message = self.fails_after
            await end("error", "execution_error", node_id=node, exception_message=message)
            return
        await end("success", "execution_success", timestamp=int(time.time() * 1000))

    async def _send(self, client: str, message: Any) -> None:
        socket = self._sockets.get(client)
        if socket is None or socket.closed:
            return
        try:
            if isinstance(message, bytes):
                await socket.send_bytes(message)
            else:
                await socket.send_json(message)
        except (ConnectionError, RuntimeError):
            self._sockets.pop(client, None)

    async def _cut(self, client: str) -> None:
        socket = self._sockets.pop(client, None)
        if socket is not None and socket._req is not None and socket._req.transport is not None:  # pyright: ignore
            socket._req.transport.abort()  # pyright: ignore

    def _status(self) -> dict[str, Any]:
        waiting = len(self._queue) + (self._running is not None)
        return {"exec_info": {"queue_remaining": waiting}}


def _good(prompt: dict[str, Any], verdict: dict[str, Any]) -> dict[str, Any]:
    """The nodes of the outputs that can run."""
    bad = verdict["node_errors"].keys()
    outputs = [node for node, what in prompt.items() if OBJECT_INFO[what["class_type"]].get("output_node")]
    live = leading_to(prompt, [output for output in outputs if not leading_to(prompt, [output]) & bad])
    return {node: what for node, what in prompt.items() if node in live}


def _check(prompt: Any) -> dict[str, Any]:
    """What the real server says to a prompt: its `error` where it refuses it, and faults by node."""

    def refusal(kind: str, message: str, details: str, errors: dict[str, Any] | None = None) -> dict[str, Any]:
        error = {"type": kind, "message": message, "details": details, "extra_info": {}}
        return {"error": error, "node_errors": errors or {}}

    if not isinstance(prompt, dict) or not prompt:
        return refusal("no_prompt", "No prompt provided", "")
    for node, what in prompt.items():
        if what.get("class_type") not in OBJECT_INFO:
            message = f"Cannot execute because node {what.get('class_type')} does not exist."
            return refusal("invalid_prompt", message, f"Node ID '#{node}'")
    outputs = [node for node, what in prompt.items() if OBJECT_INFO[what["class_type"]].get("output_node")]
    if not outputs:
        return refusal("prompt_no_outputs", "Prompt has no outputs", "")
    errors = {
        node: {"errors": faults, "dependent_outputs": [], "class_type": prompt[node]["class_type"]}
        for node in leading_to(prompt, outputs)
        if (faults := list(_faults(prompt[node])))
    }
    if all(leading_to(prompt, [output]) & errors.keys() for output in outputs):
        return refusal("prompt_outputs_failed_validation", "Prompt outputs failed validation", "", errors)
    return {"node_errors": errors}


def _faults(what: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, config in OBJECT_INFO[what["class_type"]]["input"].get("required", {}).items():

        def fault(kind: str, message: str, details: str = "", **extra: Any) -> dict[str, Any]:
            extra_info = {"input_name": name, **extra}  # noqa: B023 - called at once
            return {"type": kind, "message": message, "details": details or name, "extra_info": extra_info}  # noqa: B023

        if name not in what["inputs"]:
            yield fault("required_input_missing", "Required input is missing")
            continue
        value = what["inputs"][name]
        options = config[1] if len(config) > 1 else {}
        known = {"input_config": config, "received_value": value}
        if isinstance(value, list):
            continue
        if isinstance(config[0], list):
            if value not in config[0] and not options.get("image_upload"):
                yield fault("value_not_in_list", "Value not in list", f"{name}: '{value}' not in {config[0]}", **known)
        elif value > options.get("max", value) if isinstance(value, int | float) else False:
            yield fault("value_bigger_than_max", f"Value {value} bigger than max of {options['max']}", **known)
