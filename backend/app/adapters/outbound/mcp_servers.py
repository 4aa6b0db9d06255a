"""Other people's MCP servers as tools of the agent: listed in a file of the usual shape, each kept connected by itself.

    {"mcpServers": {"files": {"command": "npx", "args": ["some-server"]}, "wiki": {"url": "https://…/mcp", "headers": {…}}}}

A tool is named `server__tool`. It needs approval, unless its server says `"approval": "auto"` or the settings say otherwise.
"""

import asyncio
import base64
import logging
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import orjson
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from app.core.domain.errors import StorageUnavailable
from app.core.domain.text import clean_text
from app.core.domain.tool import Approval
from app.core.ports import IFileStore
from app.core.services.tools import FILES
from app.langgraph.context import current_call
from app.langgraph.messages import ShownFiles

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 30.0
CALL_SECONDS = 600.0
PING_SECONDS = 30.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
MAX_NAME = 64
_NO_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_VARIABLE = re.compile(r"\$\{(\w+)\}")


class ServerEntry(BaseModel):
    """One server in the file: a command that is started, or an address."""

    model_config = ConfigDict(extra="ignore")

    command: str | None = None
    args: list[str] = Field(default_factory=list[str])
    env: dict[str, str] = Field(default_factory=dict[str, str])
    cwd: str | None = None
    url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    headers: dict[str, str] = Field(default_factory=dict[str, str])
    disabled: bool = False
    approval: Literal["auto", "ask", "deny"] = "ask"


@dataclass(slots=True)
class _Server:
    """A server and what is known of it.

    Attributes:
        error: why it cannot be used now.
    """

    name: str
    entry: ServerEntry
    tools: dict[str, BaseTool] = field(default_factory=dict[str, BaseTool])
    error: str | None = "It has not answered yet."


class McpServers:
    """The servers in the file at `path`; without such a file there are none.

    Raises:
        StorageUnavailable: the file is there and cannot be read; the message says what is wrong in it.
    """

    def __init__(self, path: Path, files: IFileStore, reserved: Callable[[], Mapping[str, Any]]) -> None:
        self._files = files
        self._reserved = reserved
        self._servers = [_Server(name, entry) for name, entry in _read(path).items() if not entry.disabled]
        self._tasks: list[asyncio.Task[None]] = []
        self._merged: dict[str, BaseTool] = {}

    def start(self) -> None:
        """Begin to connect; nobody waits for it."""
        self._tasks = [asyncio.create_task(self._keep(server), name=f"mcp {server.name}") for server in self._servers]

    async def stop(self) -> None:
        """Disconnect."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def __call__(self) -> Mapping[str, BaseTool]:
        """The tools of the servers that answer, by their names."""
        return self._merged

    def approvals(self) -> Mapping[str, Approval]:
        """What each tool needs where nobody says otherwise."""
        return {name: Approval(server.entry.approval) for server in self._servers for name in server.tools}

    def status(self) -> list[dict[str, Any]]:
        """The servers, their tools, and what is wrong with those that do not answer."""
        return [
            {"name": s.name, "connected": s.error is None, "error": s.error, "tools": list(s.tools)}
            for s in self._servers
        ]

    # --- inside

    async def _keep(self, server: _Server) -> None:
        """Keep a server connected, for ever."""
        pause = FIRST_PAUSE
        while True:
            try:
                await self._connected(server)
            except Exception as error:  # noqa: BLE001 - whatever a server does, it is tried again
                reason = _reason(error)
                if server.error != reason:
                    logger.warning("the MCP server %s cannot be used: %s", server.name, reason)
                pause = FIRST_PAUSE if server.error is None else min(pause * 2, LONGEST_PAUSE)
                server.error = reason
            server.tools = {}
            try:
                self._merge()
            except Exception:
                logger.exception("the tools of the MCP servers could not be listed")
            await asyncio.sleep(pause)

    async def _connected(self, server: _Server) -> None:
        """One connection, from its beginning to its end."""
        from mcp import Client

        async with asyncio.timeout(CONNECT_SECONDS) as deadline, Client(_transport(server.entry)) as client:
            listed = await client.list_tools()
            deadline.reschedule(None)
            server.tools = {tool.name: tool for tool in (self._make(server, client, found) for found in listed.tools)}
            server.error = None
            self._merge()
            logger.info("the MCP server %s has %d tools", server.name, len(server.tools))
            while True:
                await asyncio.sleep(PING_SECONDS)
                await client.list_tools()

    def _merge(self) -> None:
        taken = self._reserved()
        merged: dict[str, BaseTool] = {}
        for server in self._servers:
            merged |= {name: tool for name, tool in server.tools.items() if name not in merged and name not in taken}
        self._merged = merged

    def _make(self, server: _Server, client: Any, found: Any) -> BaseTool:
        async def run(**arguments: Any) -> tuple[str, ShownFiles | None]:
            return await self._call(server, client, found.name, arguments)

        return StructuredTool(
            name=f"{_NO_NAME.sub('_', server.name)}__{_NO_NAME.sub('_', found.name)}"[:MAX_NAME],
            description=clean_text(found.description or f"{found.name} of {server.name}.")[:4_000],
            args_schema={"properties": {}, **found.input_schema},
            coroutine=run,
            response_format="content_and_artifact",
        )

    async def _call(
        self, server: _Server, client: Any, name: str, arguments: dict[str, Any]
    ) -> tuple[str, ShownFiles | None]:
        call = current_call.get()

        async def progress(done: float, total: float | None, message: str | None) -> None:
            if call is not None and call.recorder is not None:
                fields = {"progress": done, "total": total, "text": message}
                call.recorder.tool_progress(call.id, **{k: v for k, v in fields.items() if v is not None})

        try:
            async with asyncio.timeout(CALL_SECONDS):
                result = await client.call_tool(name, arguments, progress_callback=progress)
        except TimeoutError as error:
            raise ToolException(
                f"The MCP server {server.name} did not answer within {CALL_SECONDS:g} seconds."
            ) from error
        except Exception as error:
            raise ToolException(f"The MCP server {server.name} failed: {_reason(error)}") from error
        texts: list[str] = []
        shown: list[dict[str, Any]] = []
        for block in result.content:
            await self._take(block, call.user_id if call is not None else "", texts, shown)
        text = "\n".join(texts) or ("The user sees what it made." if shown else "It answered nothing.")
        if result.is_error:
            raise ToolException(text)
        return text, ShownFiles(shown) if shown else None

    async def _take(self, block: Any, user_id: str, texts: list[str], shown: list[dict[str, Any]]) -> None:
        """One part of a result: text for the model, pictures and sounds for the user."""
        match block.type:
            case "text":
                texts.append(block.text)
            case "image" | "audio":
                data = base64.b64decode(block.data)

                async def chunks() -> AsyncIterator[bytes]:
                    yield data

                stored = await self._files.save(user_id, block.type, block.mime_type, chunks())
                shown.append({"url": f"{FILES}{stored.id}", "media_type": stored.media_type, "name": stored.name})
            case "resource_link":
                texts.append(f"{block.name}: {block.uri}")
            case _:
                texts.append(getattr(getattr(block, "resource", None), "text", None) or f"({block.type})")


def _read(path: Path) -> dict[str, ServerEntry]:
    try:
        document: Any = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StorageUnavailable(f"{path.name}, the list of MCP servers, cannot be read: {error}.") from error
    listed: Any = cast("dict[str, Any]", document).get("mcpServers") if isinstance(document, dict) else None
    try:
        entries = TypeAdapter(dict[str, ServerEntry]).validate_python(_with_variables(listed))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise StorageUnavailable(f"{path.name}, the list of MCP servers, is not as it should be: {faults}.") from error
    for name, entry in entries.items():
        if (entry.command is None) == (entry.url is None):
            raise StorageUnavailable(f"{path.name}: the MCP server {name} needs either a command or a url.")
    return entries


def _with_variables(value: Any) -> Any:
    """`value` with `${NAME}` replaced by that variable of the environment."""
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: os.environ.get(match[1], ""), value)
    if isinstance(value, dict):
        return {key: _with_variables(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_with_variables(item) for item in cast("list[Any]", value)]
    return value


def _transport(entry: ServerEntry) -> Any:
    if entry.command is not None:
        from mcp import StdioServerParameters

        return StdioServerParameters(command=entry.command, args=entry.args, env=entry.env or None, cwd=entry.cwd)
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared._httpx_utils import create_mcp_http_client  # pyright: ignore[reportPrivateUsage]

    return streamable_http_client(entry.url or "", http_client=create_mcp_http_client(headers=entry.headers))


def _first(group: "BaseExceptionGroup[Any]") -> BaseException:
    return group.exceptions[0]


def _reason(error: BaseException) -> str:
    """Why it failed, in words: the first real error in a group of them."""
    while isinstance(error, BaseExceptionGroup):
        error = _first(cast("BaseExceptionGroup[Any]", error))
    if isinstance(error, TimeoutError):
        return "It does not answer."
    with suppress(AttributeError):
        return str(error)[:300] or type(error).__name__
    return type(error).__name__
