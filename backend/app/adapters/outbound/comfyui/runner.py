"""Runs a workflow on ComfyUI: its WebSocket tells how far it is, its history what is true."""

import asyncio
import contextlib
import logging
import mimetypes
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import aiohttp
import orjson

from app.adapters.outbound.comfyui.client import ComfyClient
from app.core.domain.errors import AtelierError
from app.core.domain.ids import new_id
from app.core.domain.node_types import choices_of, options_of
from app.core.domain.workflow import Workflow
from app.core.domain.workflow_errors import RunnerTimeout, RunnerUnavailable, WorkflowFailed, WorkflowRefused
from app.core.ports import Made, Output, Progress, Upload
from app.core.services.workflow_check import check, outputs_of, partial_outputs, refused, title

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""How often the history is asked: the socket may have missed the end."""

GONE_AFTER = 3
"""So often in a row must a job be in neither queue nor history before it is given up as forgotten, or as ended without a record."""

LAST_WORDS_SECONDS = 5.0
PREVIEW_SECONDS = 0.5
"""At most so often a preview is passed on."""

_FORMATS = {1: "image/jpeg", 2: "image/png"}
_PREVIEW_EVENTS = (1, 4)


@dataclass(slots=True)
class _Job:
    """A job while it runs.

    Attributes:
        changed: set when something was heard of it.
        warning: what is said of outputs that cannot run.
        is_away: whether ComfyUI could not be reached when it was asked last.
        over: set when the socket told of its end.
    """

    workflow: Workflow
    prompt_id: str
    on_progress: Callable[[Progress], None]
    is_ours_now: bool = False
    node: str | None = None
    previewed_at: float = 0.0
    error: AtelierError | None = None
    warning: str | None = None
    is_away: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)


class ComfyRunner:
    """An `IWorkflowRunner` over a ComfyUI.

    Args:
        patience: seconds that a job may take, from its sending to its end.
    """

    def __init__(self, client: ComfyClient, patience: float) -> None:
        self._client = client
        self._patience = patience

    async def run(
        self,
        workflow: Workflow,
        prompt_id: str,
        on_progress: Callable[[Progress], None],
        uploads: Sequence[Upload] = (),
    ) -> Made:
        job = _Job(workflow, prompt_id, on_progress)
        try:
            async with asyncio.timeout(self._patience):
                record = await self._run(job, uploads)
        except TimeoutError as error:
            await self._stop(prompt_id)
            if job.is_away:
                raise RunnerUnavailable(
                    f"ComfyUI went away in the middle of the workflow and did not come back within {self._patience:g} seconds. "
                    "Look at its log, start it again, and run the workflow again."
                ) from error
            raise RunnerTimeout(
                f"The workflow was not done within {self._patience:g} seconds and was stopped. "
                "Make it smaller, or raise COMFYUI_TIMEOUT."
            ) from error
        except asyncio.CancelledError:
            await self._stop(prompt_id)
            raise
        return Made(self._outputs(record), job.warning)

    async def _run(self, job: _Job, uploads: Sequence[Upload]) -> Mapping[str, Any]:
        """The job's record in the history, once it has ended well."""
        record = await self._record(job)
        if record is not None:
            return self._ended(job, record)
        if not await self._is_queued(job):
            for upload in uploads:
                job.workflow[upload.node]["inputs"][upload.input] = await self._upload(upload)
            await self._check(job)
        client_id = new_id()
        listening = asyncio.create_task(self._listen(job, client_id), name=f"comfyui {job.prompt_id}")
        try:
            await self._send(job, client_id)
            return await self._wait(job)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _check(self, job: _Job) -> None:
        """Look for faults before anything is sent; a node type that is not known may have been installed since."""
        info = await self._client.object_info()
        try:
            check(job.workflow, info)
        except WorkflowRefused:
            check(job.workflow, await self._client.object_info(refresh=True))

    async def _upload(self, upload: Upload) -> str:
        """Give ComfyUI an image; its name there."""
        form = aiohttp.FormData()
        form.add_field("image", upload.data, filename=upload.name, content_type="application/octet-stream")
        form.add_field("overwrite", "false")
        status, answer = await self._client.request("POST", "/upload/image", data=form)
        if status != 200 or not isinstance(answer, dict):
            raise WorkflowFailed(f"ComfyUI does not take the image {upload.name} (HTTP {status}).")
        names = cast("dict[str, Any]", answer)
        return f"{names['subfolder']}/{names['name']}" if names.get("subfolder") else str(names["name"])

    async def _send(self, job: _Job, client_id: str) -> None:
        """Send the job, once: where the answer was lost, it is looked for before it is sent again."""
        body = {"prompt": job.workflow, "client_id": client_id, "prompt_id": job.prompt_id}
        if await self._is_queued(job):
            return
        try:
            status, answer = await self._client.request("POST", "/prompt", json=body)
        except (RunnerUnavailable, RunnerTimeout):
            if await self._is_known(job):
                return
            raise
        if status != 200:
            raise _refusal(job.workflow, status, answer)
        if errors := _node_errors(job.workflow, answer):
            outputs = outputs_of(job.workflow, await self._client.object_info())
            job.warning = partial_outputs(job.workflow, outputs, errors)

    async def _is_known(self, job: _Job) -> bool:
        try:
            return await self._is_queued(job) or await self._record(job) is not None
        except (RunnerUnavailable, RunnerTimeout, WorkflowFailed):
            return False

    async def _is_queued(self, job: _Job) -> bool:
        queue = await self._client.queue()
        return job.prompt_id in queue["running"] or job.prompt_id in queue["pending"]

    async def _wait(self, job: _Job) -> Mapping[str, Any]:
        """Wait for the end, which the socket announces and the history records. A ComfyUI that is away is asked again."""
        missing = 0
        while True:
            try:
                record = await self._record(job)
                if record is not None:
                    return self._ended(job, record)
                queue = await self._client.queue()
            except (RunnerUnavailable, RunnerTimeout):
                job.is_away = True
                job.on_progress(Progress(text="ComfyUI cannot be reached. Waiting for it"))
            else:
                job.is_away = False
                if job.prompt_id in queue["pending"]:
                    before = len(queue["running"]) + queue["pending"].index(job.prompt_id)
                    job.on_progress(Progress(text=f"Waiting in ComfyUI's queue: {before} before it"))
                is_there = job.prompt_id in queue["running"] or job.prompt_id in queue["pending"]
                missing = 0 if is_there else missing + 1
                if missing > GONE_AFTER:
                    raise job.error or WorkflowFailed(
                        "ComfyUI does not know the workflow any more; it was probably started again. Run it again."
                    )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await job.over.wait()
                job.over.clear()

    async def _record(self, job: _Job) -> Mapping[str, Any] | None:
        history: Any = await self._client.get("history", job.prompt_id)
        found: Any = cast("dict[str, Any]", history).get(job.prompt_id) if isinstance(history, dict) else None
        return cast("dict[str, Any]", found) if isinstance(found, dict) else None

    def _ended(self, job: _Job, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """`record`, if the job ended well, or failed after it had saved something."""
        error = _error_in(job, record)
        if error is None:
            return record
        if not any(kind == "output" for kind, _ in self._found(record)):
            raise error
        job.warning = error.message
        return record

    # --- what it says while it runs

    async def _listen(self, job: _Job, client_id: str) -> None:
        """Hear of the job; a socket that breaks is opened again, and what it missed is in the history."""
        pause = 0.1
        while True:
            try:
                socket = await self._client.socket(client_id)
                async with socket:
                    pause = 0.1
                    async for message in socket:
                        if message.type is aiohttp.WSMsgType.TEXT:
                            self._hear(job, message.data)
                        elif message.type is aiohttp.WSMsgType.BINARY:
                            self._see(job, message.data)
            except (AtelierError, aiohttp.ClientError) as error:
                logger.debug("ComfyUI's socket is away: %s", error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)

    def _hear(self, job: _Job, text: str) -> None:
        try:
            message: Any = orjson.loads(text)
            kind: str = message["type"]
            data: dict[str, Any] = message.get("data") or {}
        except (orjson.JSONDecodeError, TypeError, KeyError):
            return
        if data.get("prompt_id") != job.prompt_id:
            if kind in ("execution_start", "executing"):
                job.is_ours_now = False
            return
        match kind:
            case "execution_start":
                job.is_ours_now = True
                job.on_progress(Progress(text="Started"))
            case "executing" if data.get("node"):
                job.is_ours_now, job.node = True, str(data.get("display_node") or data["node"])
                job.on_progress(Progress(text=title(job.workflow, job.node)))
            case "progress":
                job.is_ours_now = True
                text = title(job.workflow, str(data.get("node") or job.node or ""))
                job.on_progress(Progress(progress=data.get("value"), total=data.get("max"), text=text))
            case "execution_error":
                job.error = _failure(job.workflow, data)
                job.over.set()
            case "execution_interrupted":
                job.error = WorkflowFailed("The workflow was interrupted in ComfyUI.")
                job.over.set()
            case "execution_success":
                job.over.set()
            case _:
                pass

    def _see(self, job: _Job, data: bytes) -> None:
        """A preview: they do not say whose they are, so they are ours only while our job runs."""
        now = asyncio.get_running_loop().time()
        if not job.is_ours_now or len(data) < 9 or now - job.previewed_at < PREVIEW_SECONDS:
            return
        if int.from_bytes(data[:4], "big") == _PREVIEW_EVENTS[0] and (
            media_type := _FORMATS.get(int.from_bytes(data[4:8], "big"))
        ):
            job.previewed_at = now
            job.on_progress(Progress(preview=(data[8:], media_type)))

    # --- its end

    async def _stop(self, prompt_id: str) -> None:
        """Stop the job, so that it does not go on for nobody."""
        stopping = asyncio.ensure_future(self._client.cancel(prompt_id))
        try:
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await asyncio.shield(stopping)
        except (AtelierError, TimeoutError) as error:
            logger.warning("a workflow could not be stopped in ComfyUI: %s", type(error).__name__)

    def _outputs(self, record: Mapping[str, Any]) -> list[Output]:
        """What was made: what was saved, or, where no file was, what was only shown; and all texts."""
        found = list(self._found(record))
        has_saved = any(kind == "output" for kind, _ in found)
        return [output for kind, output in found if kind == "text" or (kind == "output") is has_saved]

    def _found(self, record: Mapping[str, Any]) -> Iterator[tuple[str, Output]]:
        """Everything that the job made, and whether it is an `output`, `temp` or `text`."""
        outputs: dict[str, Any] = record.get("outputs") or {}
        for node, kinds in outputs.items():
            for items in cast("dict[str, Any]", kinds).values() if isinstance(kinds, dict) else ():
                for item in cast("list[Any]", items) if isinstance(items, list) else ():
                    if isinstance(item, str):
                        yield "text", _text(node, item)
                    elif isinstance(item, dict) and isinstance(cast("dict[str, Any]", item).get("filename"), str):
                        entry = cast("dict[str, Any]", item)
                        yield str(entry.get("type", "output")), self._file(node, entry)

    def _file(self, node: str, item: Mapping[str, Any]) -> Output:
        where = {key: str(item.get(key) or "") for key in ("filename", "subfolder", "type")}
        media_type = mimetypes.guess_type(where["filename"])[0] or "application/octet-stream"
        return Output(node, where["filename"], media_type, partial(self._client.download, where))


def _text(node: str, text: str) -> Output:
    async def chunks() -> AsyncIterator[bytes]:
        yield text.encode()

    return Output(node, f"{node}.txt", "text/plain", chunks, text)


def _error_in(job: _Job, record: Mapping[str, Any]) -> AtelierError | None:
    """Why a job did not end well, by its record or by what the socket said; None where it did."""
    status: dict[str, Any] = record.get("status") or {}
    for kind, data in status.get("messages") or ():
        if kind == "execution_error":
            return _failure(job.workflow, data)
        if kind == "execution_interrupted":
            return WorkflowFailed("The workflow was interrupted in ComfyUI.")
    if job.error is None and status.get("status_str", "success") != "success":
        return WorkflowFailed("ComfyUI could not run the workflow to its end. Its log says more.")
    return job.error


def _node_errors(workflow: Workflow, answer: Any) -> dict[str, list[dict[str, Any]]]:
    """The faults by node in ComfyUI's answer to a workflow, in words."""
    document = cast("dict[str, Any]", answer) if isinstance(answer, dict) else {}
    found: Any = document.get("node_errors")
    errors: dict[str, list[dict[str, Any]]] = {}
    for node, what in cast("dict[str, Any]", found).items() if isinstance(found, dict) else ():
        for fault in what.get("errors") or ():
            extra: dict[str, Any] = fault.get("extra_info") or {}
            errors.setdefault(node, []).append({"message": _fault(fault, extra), "input": extra.get("input_name")})
    return errors


def _fault(fault: Mapping[str, Any], extra: Mapping[str, Any]) -> str:
    """One fault in words; those of values name the input, the value and what it may be."""
    details = str(fault.get("details") or "").strip()
    name, given = extra.get("input_name"), extra.get("received_value")
    config: Any = extra.get("input_config")
    options = options_of(config)
    match fault.get("type"):
        case "value_bigger_than_max" if name and "max" in options:
            return f"{name} must be ≤ {options['max']}, and not {given!r}"
        case "value_smaller_than_min" if name and "min" in options:
            return f"{name} must be ≥ {options['min']}, and not {given!r}"
        case "value_not_in_list" if name:
            choices = choices_of(config) or []
            shown = ", ".join(map(str, choices[:5]))
            if not shown:
                return f"{name} cannot be {given!r}: ComfyUI does not have it"
            return f"{name} must be one of {shown}{' …' if len(choices) > 5 else ''}, and not {given!r}"
        case _:
            return f"{fault.get('message', 'is wrong')}{f' ({details})' if details else ''}"


def _refusal(workflow: Workflow, status: int, answer: Any) -> AtelierError:
    """ComfyUI's answer to a workflow that it does not take, in words."""
    if errors := _node_errors(workflow, answer):
        return refused(workflow, errors)
    document = cast("dict[str, Any]", answer) if isinstance(answer, dict) else {}
    error = document.get("error")
    if isinstance(error, dict):
        fields = cast("dict[str, Any]", error)
        details = f" ({fields['details']})" if fields.get("details") else ""
        return WorkflowRefused(
            f"ComfyUI does not take the workflow: {fields.get('message', 'no reason given')}{details}"
        )
    if status >= 500:
        return WorkflowFailed(f"ComfyUI failed when it was given the workflow (HTTP {status}). Its log says more.")
    return WorkflowRefused(f"ComfyUI does not take the workflow (HTTP {status}).")


def _failure(workflow: Workflow, data: Mapping[str, Any]) -> WorkflowFailed:
    """A node's failure, in words."""
    node = str(data.get("node_id") or "")
    reason = str(data.get("exception_message") or "").strip() or "it failed without a word"
    said = f"{title(workflow, node)}: {reason[:1_000]}"
    return WorkflowFailed(
        f"ComfyUI could not run the workflow. {said}", {node: [{"message": reason[:1_000], "input": None}]}
    )
