"""ComfyUI's routes: each answer as JSON, each fault as an error in words."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, cast
from urllib.parse import quote

import aiohttp
import orjson

from app.core.domain.errors import AtelierError, NotFound
from app.core.domain.node_types import NodeType
from app.core.domain.workflow_errors import RunnerTimeout, RunnerUnavailable, WorkflowFailed

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 30.0
HEARTBEAT_SECONDS = 15.0
MAX_JSON_BYTES = 64 * 1024 * 1024
PIECE_BYTES = 256 * 1024

SUMMARY_MODELS = 20
HIDDEN_FOLDERS = frozenset({"custom_nodes", "configs"})
"""Folders that ComfyUI lists beside those for models, with code and settings in them."""


class ComfyClient:
    """One ComfyUI."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._object_info: Mapping[str, Any] | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    # --- requests

    async def get(self, *segments: str) -> Any:
        """The answer to a GET of the path that `segments` make; each stays one segment, whatever is in it.

        Raises:
            RunnerUnavailable, RunnerTimeout, WorkflowFailed: there is none, or not one that can be read.
        """
        path = "".join(f"/{quote(segment, safe='')}" for segment in segments)
        status, body = await self.request("GET", path)
        if status in _AWAY:
            raise unreachable()
        if status != 200:
            raise WorkflowFailed(f"ComfyUI answered {path} with HTTP {status}. Its log says more.")
        return body

    async def request(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Status and body (JSON, else text) of an answer.

        Raises:
            RunnerUnavailable, RunnerTimeout: there is none.
        """
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS),
                self.session().request(method, self.url + path, **options) as answer,
            ):
                data = await answer.content.read(MAX_JSON_BYTES)
                while not answer.content.at_eof():
                    data += await answer.content.read(MAX_JSON_BYTES)
                    if len(data) > MAX_JSON_BYTES:
                        raise RunnerUnavailable("ComfyUI answers with more than can be read.")
                return answer.status, _decode(data)
        except TimeoutError as error:
            raise RunnerTimeout(
                f"ComfyUI did not answer within {ANSWER_SECONDS:g} seconds. Look whether it hangs, then try again."
            ) from error
        except aiohttp.ClientError as error:
            raise unreachable() from error

    async def download(self, parameters: Mapping[str, str]) -> AsyncIterator[bytes]:
        """The bytes of a file that ComfyUI made.

        Raises:
            RunnerUnavailable, RunnerTimeout, WorkflowFailed: they cannot be had.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=ANSWER_SECONDS)
        try:
            async with self.session().get(f"{self.url}/view", params=parameters, timeout=timeout) as answer:
                if answer.status != 200:
                    raise WorkflowFailed(f"ComfyUI does not give out a file that it made (HTTP {answer.status}).")
                async for data in answer.content.iter_chunked(PIECE_BYTES):
                    yield data
        except TimeoutError as error:
            raise RunnerTimeout("ComfyUI stopped in the middle of a file that it made. Try again.") from error
        except aiohttp.ClientError as error:
            raise unreachable() from error

    async def socket(self, client_id: str) -> aiohttp.ClientWebSocketResponse:
        """Its messages to the client of that id.

        Raises:
            RunnerUnavailable, RunnerTimeout: it cannot be reached.
        """
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await self.session().ws_connect(
                    f"{self.url}/ws",
                    params={"clientId": client_id},
                    heartbeat=HEARTBEAT_SECONDS,
                    max_msg_size=MAX_JSON_BYTES,
                )
        except TimeoutError as error:
            raise RunnerTimeout(f"ComfyUI did not answer within {CONNECT_SECONDS:g} seconds.") from error
        except aiohttp.ClientError as error:
            raise unreachable() from error

    def session(self) -> aiohttp.ClientSession:
        """The connections of the running loop."""
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                json_serialize=lambda value: orjson.dumps(value).decode(),
            )
        return self._session

    # --- environment (IEnvironment)

    async def object_info(self, *, refresh: bool = False) -> Mapping[str, Any]:
        """Its node types by class; read once, and again on `refresh`."""
        if self._object_info is None or refresh:
            self._object_info = cast("Mapping[str, Any]", await self.get("object_info"))
        return self._object_info

    def known_object_info(self) -> Mapping[str, Any] | None:
        """Its node types by class, where they have been read."""
        return self._object_info

    def summary(self) -> str:
        """A few lines on what is installed, of what has been read so far."""
        info = self._object_info
        if info is None:
            return ""
        lines = [f"# ComfyUI\nIt has {len(info)} node types."]
        for node, name in (("CheckpointLoaderSimple", "ckpt_name"), ("UNETLoader", "unet_name")):
            entry = (
                next((one for one in NodeType(node, info[node]).widgets if one.name == name), None)
                if node in info
                else None
            )
            if entry is not None and entry.choices:
                shown = [str(one) for one in entry.choices[:SUMMARY_MODELS]]
                lines.append(f"Files for {node}: {', '.join(shown)}{' …' if len(shown) == SUMMARY_MODELS else ''}")
        return "\n".join(lines)

    async def models(self, folder: str | None = None) -> Mapping[str, Sequence[str]]:
        """Its model files by folder.

        Raises:
            NotFound: ComfyUI lists no such folder.
        """
        listed: list[Any] = await self.get("models")
        known = [name for name in listed if isinstance(name, str) and name not in HIDDEN_FOLDERS and _is_segment(name)]
        if folder is not None and folder not in known:
            raise NotFound(f"ComfyUI has no folder {folder[:100]!r} for models. Its folders: {', '.join(known)}.")
        folders = [folder] if folder is not None else known
        files = await asyncio.gather(*(self.get("models", name) for name in folders), return_exceptions=True)
        found: dict[str, Sequence[str]] = {}
        for name, names in zip(folders, files, strict=True):
            if isinstance(names, WorkflowFailed):
                continue
            if isinstance(names, BaseException):
                raise names
            found[name] = names
        return found

    async def queue(self) -> Mapping[str, Any]:
        """What runs and what waits, by the ids of the jobs."""
        document = await self.get("queue")
        pending: list[list[Any]] = document.get("queue_pending") or []
        waiting = sorted(pending, key=lambda job: job[0])
        running: list[list[Any]] = document.get("queue_running") or []
        return {
            "running": [job[1] for job in running],
            "pending": [job[1] for job in waiting],
        }

    async def cancel(self, prompt_id: str) -> bool:
        """Take a job out of the queue, or interrupt it."""
        queue = await self.queue()
        known = prompt_id in queue["running"] or prompt_id in queue["pending"]
        await self.request("POST", "/queue", json={"delete": [prompt_id]})
        if prompt_id in queue["running"]:
            await self.request("POST", "/interrupt", json={"prompt_id": prompt_id})
        return known

    async def system_stats(self) -> Mapping[str, Any]:
        """Its version, memory and devices."""
        return await self.get("system_stats")


_AWAY = (502, 503, 504)
"""What a proxy in front of ComfyUI answers while that is away."""


def unreachable() -> AtelierError:
    """No connection can be made."""
    return RunnerUnavailable("ComfyUI cannot be reached. Check COMFYUI_URL and that ComfyUI runs, then try again.")


def _is_segment(name: str) -> bool:
    """Whether a name can stand between two slashes of an address."""
    return name not in ("", ".", "..") and "/" not in name and "\\" not in name


def _decode(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return data.decode("utf-8", "replace")[:1_000]
