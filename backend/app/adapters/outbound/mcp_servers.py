"""Other people's MCP servers as tools of the agent: listed in a file of the usual shape, each kept connected by itself.

    {"mcpServers": {"files": {"command": "npx", "args": ["some-server"]}, "wiki": {"url": "https://…/mcp", "headers": {…}}}}

A tool is named `server__tool`. It needs approval, unless its server says `"approval": "auto"` or the settings say otherwise.
"""

import asyncio
import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import orjson
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from app.adapters.outbound.json_schema import SchemaChecker, UnusableSchema
from app.adapters.outbound.mcp_results import take
from app.core.domain.errors import StorageUnavailable
from app.core.domain.text import MAX_DEPTH, clean_text, is_deeper_than
from app.core.domain.tool import Approval
from app.core.ports import IFileStore
from app.langgraph.context import CallInProgress, current_call
from app.langgraph.messages import ShownFiles

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 30.0
CALL_SECONDS = 600.0
PING_SECONDS = 30.0
PROGRESS_SECONDS = 0.25
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
MAX_NAME, MAX_DESCRIPTION, MAX_PROGRESS_TEXT = 64, 4_000, 200
MAX_TOOLS, MAX_SCHEMA_BYTES, MAX_ALL_SCHEMAS_BYTES, MAX_FAULTS = 200, 64 * 1024, 1024 * 1024, 20
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
        unset: the variables that its entry names and that are not set: it cannot be used before they are.
        error: why it cannot be used now.
        faults: what is wrong with tools of it that are left out.
    """

    name: str
    entry: ServerEntry
    unset: list[str] = field(default_factory=list[str])
    tools: dict[str, BaseTool] = field(default_factory=dict[str, BaseTool])
    error: str | None = "It has not answered yet."
    faults: list[str] = field(default_factory=list[str])


class McpServers:
    """The servers in the file at `path`; without such a file there are none.

    Args:
        reserved: the names that tools of others cannot have, as they are now.

    Raises:
        StorageUnavailable: the file is there and cannot be read; the message says what is wrong in it.
    """

    def __init__(self, path: Path, files: IFileStore, reserved: Callable[[], Mapping[str, Any]]) -> None:
        self._files = files
        self._reserved = reserved
        self._servers = _read(path)
        self._checker = SchemaChecker()
        self._tasks: list[asyncio.Task[None]] = []
        self._merged: dict[str, BaseTool] = {}
        self._owners: dict[str, _Server] = {}

    def start(self) -> None:
        """Begin to connect; nobody waits for it."""
        for server in self._servers:
            if server.unset:
                names = " and ".join(server.unset)
                server.error = f"{names} in its entry {'is' if len(server.unset) == 1 else 'are'} not set in the environment. Set it and start again."
                logger.warning("the MCP server %s cannot be used: %s", server.name, server.error)
            else:
                self._tasks.append(asyncio.create_task(self._keep(server), name=f"mcp {server.name}"))

    async def stop(self) -> None:
        """Disconnect."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._checker.close()

    def __call__(self) -> Mapping[str, BaseTool]:
        """The tools of the servers that answer, by their names."""
        return self._merged

    def approvals(self) -> Mapping[str, Approval]:
        """What each tool needs where nobody says otherwise: what the server says that the tool is of."""
        return {name: Approval(server.entry.approval) for name, server in self._owners.items()}

    def status(self) -> list[dict[str, Any]]:
        """The servers, their tools, and what is wrong with those that do not answer."""
        return [
            {
                "name": server.name,
                "connected": server.error is None,
                "error": server.error,
                "tools": [name for name in server.tools if self._owners.get(name) is server],
                "faults": [*server.faults, *self._names_taken(server)],
            }
            for server in self._servers
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

        connection = _Connection(server.name)
        transport = _transport(server.entry)
        async with (
            asyncio.timeout(CONNECT_SECONDS) as deadline,
            Client(transport, message_handler=connection.heard) as client,
        ):
            # The SDK would check results in our event loop, with regular expressions of the server's.
            client.session.validate_tool_result = _unchecked
            connection.client = client
            listed = await connection.tools()
            deadline.reschedule(None)
            server.tools = self._make_all(server, connection, listed)
            server.error = None
            self._merge()
            logger.info("the MCP server %s has %d tools", server.name, len(server.tools))
            while True:
                await connection.wait(PING_SECONDS)
                await client.list_tools()

    def _merge(self) -> None:
        taken = self._reserved()
        self._owners = {}
        merged: dict[str, BaseTool] = {}
        for server in self._servers:
            for name, tool in server.tools.items():
                if name not in merged and name not in taken:
                    merged[name], self._owners[name] = tool, server
        self._merged = merged

    def _names_taken(self, server: _Server) -> list[str]:
        return [
            f"{name} is left out: another tool has that name."
            for name in server.tools
            if self._owners.get(name) is not server
        ]

    def _make_all(self, server: _Server, connection: "_Connection", listed: list[Any]) -> dict[str, BaseTool]:
        """The tools of a server, as many and as large as are taken."""
        faults = _Faults()
        if len(listed) > MAX_TOOLS:
            faults.add(f"It has more than {MAX_TOOLS} tools; the first {MAX_TOOLS} are used.")
        tools: dict[str, BaseTool] = {}
        left = MAX_ALL_SCHEMAS_BYTES
        for found in listed[:MAX_TOOLS]:
            name = _name_of(server.name, found.name)
            size = _schema_bytes(found.input_schema)
            if size is None or size > MAX_SCHEMA_BYTES:
                faults.add(f"{name} is left out: its schema is larger than {MAX_SCHEMA_BYTES:,} bytes or too deep.")
            elif size > left:
                faults.add(f"{name} is left out: its server's schemas have more than {MAX_ALL_SCHEMAS_BYTES:,} bytes.")
            elif name in tools:
                faults.add(f"{name} is left out: its server has two tools of that name.")
            else:
                left -= size
                tools[name] = self._make(name, server, connection, found)
        server.faults = faults.said
        return tools

    def _make(self, name: str, server: _Server, connection: "_Connection", found: Any) -> BaseTool:
        async def run(**arguments: Any) -> tuple[str, ShownFiles | None]:
            return await self._call(connection, found, arguments)

        return StructuredTool(
            name=name,
            description=clean_text(found.description or f"{found.name} of {server.name}.")[:MAX_DESCRIPTION],
            args_schema={"properties": {}, **found.input_schema},
            coroutine=run,
            response_format="content_and_artifact",
        )

    async def _call(
        self, connection: "_Connection", found: Any, arguments: dict[str, Any]
    ) -> tuple[str, ShownFiles | None]:
        call = current_call.get()
        result = await connection.call(found.name, arguments, _Progress(call))
        if not result.is_error and found.output_schema is not None:
            await self._check(connection.name, found, result)
        taken = await take(result, self._files, call.user_id if call is not None else "")
        if result.is_error:
            raise ToolException(taken.text)
        return taken.text, ShownFiles(taken.shown) if taken.shown else None

    async def _check(self, server: str, found: Any, result: Any) -> None:
        """Check structured content against the schema that the server itself declares.

        Raises:
            ToolException: it does not fit.
        """
        try:
            faults = await self._checker.faults(found.output_schema, result.structured_content)
        except UnusableSchema as error:
            logger.debug("a result of %s of %s is not checked: %s", found.name, server, error)
            return
        if faults:
            said = "; ".join(f"{fault['path'] or '/'}: {fault['message']}" for fault in faults)
            raise ToolException(f"The MCP server {server} answered with what does not fit its own schema. {said}")


class _Faults:
    """What is wrong with a server's tools; only so much is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def add(self, fault: str) -> None:
        if len(self.said) < MAX_FAULTS:
            self.said.append(fault)


class _Connection:
    """One connection to a server."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.client: Any = None
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def heard(self, message: Any) -> None:
        """A notification, or an error of the transport: the connection is no more use then."""
        if isinstance(message, Exception) and not self._broken.done():
            self._broken.set_exception(message)
            self._broken.exception()  # it is told to whoever waits, and to nobody else

    async def wait(self, seconds: float) -> None:
        """Wait, for less if the connection breaks.

        Raises:
            Exception: why it broke.
        """
        await asyncio.wait([self._broken], timeout=seconds)
        if self._broken.done():
            self._broken.result()

    async def tools(self) -> list[Any]:
        """The server's tools, at most one more than are taken."""
        listed = await self.client.list_tools()
        tools = list(listed.tools)
        while listed.next_cursor and len(tools) <= MAX_TOOLS:
            listed = await self.client.list_tools(cursor=listed.next_cursor)
            tools += listed.tools
            if not listed.tools:
                break
        return tools[: MAX_TOOLS + 1]

    async def call(self, name: str, arguments: dict[str, Any], progress: "_Progress") -> Any:
        """Call a tool.

        Raises:
            ToolException: the server does not answer, or not as it should.
        """
        calling: asyncio.Future[Any] = asyncio.ensure_future(
            self.client.call_tool(name, arguments, progress_callback=progress.take)
        )
        calling.add_done_callback(lambda task: task.cancelled() or task.exception())  # told here, or to nobody
        try:
            await asyncio.wait([calling, self._broken], timeout=CALL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if calling.done():
                return calling.result()
            if self._broken.done():
                self._broken.result()
        except Exception as error:
            reason = _reason(self._broken.exception() or error if self._broken.done() else error)
            raise ToolException(f"The MCP server {self.name} failed: {reason}") from error
        finally:
            calling.cancel()
        raise ToolException(f"The MCP server {self.name} did not answer within {CALL_SECONDS:g} seconds.")


class _Progress:
    """Passes on how far a call is, but not more often than anybody can read."""

    def __init__(self, call: CallInProgress | None) -> None:
        self._call = call
        self._next = 0.0

    async def take(self, done: float, total: float | None, message: str | None) -> None:
        """What the server says."""
        now = asyncio.get_running_loop().time()
        if self._call is None or self._call.recorder is None or now < self._next:
            return
        self._next = now + PROGRESS_SECONDS
        text = clean_text(message)[:MAX_PROGRESS_TEXT] if message is not None else None
        fields = {"progress": done, "total": total, "text": text}
        self._call.recorder.tool_progress(self._call.id, **{k: v for k, v in fields.items() if v is not None})


async def _unchecked(name: str, result: Any) -> None:
    """In the place of the SDK's own check."""


def _name_of(server: str, tool: str) -> str:
    """What a tool is called here. Names that could be those of another server's tool as well end with a hash of both names."""
    plain = f"{server}__{tool}"
    cleaned = _NO_NAME.sub("_", plain)
    if cleaned == plain and len(plain) <= MAX_NAME and plain.count("__") == 1 and "___" not in plain:
        return plain
    digest = hashlib.sha256(f"{server}\0{tool}".encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{cleaned[: MAX_NAME - len(digest) - 1]}_{digest}"


def _schema_bytes(schema: Any) -> int | None:
    """How large a schema is; None where it is no JSON, or nested too deeply."""
    if is_deeper_than(schema, MAX_DEPTH):
        return None
    try:
        return len(orjson.dumps(schema))
    except orjson.JSONEncodeError:
        return None


def _read(path: Path) -> list[_Server]:
    try:
        document: Any = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise StorageUnavailable(f"{path.name}, the list of MCP servers, cannot be read: {error}.") from error
    listed: Any = cast("dict[str, Any]", document).get("mcpServers") if isinstance(document, dict) else None
    unset: dict[str, Counter[str]] = {}
    if isinstance(listed, dict):
        raw = cast("dict[str, Any]", listed)
        unset = {name: Counter() for name in raw}
        listed = {name: _with_variables(entry, unset[name]) for name, entry in raw.items()}
    try:
        entries = TypeAdapter(dict[str, ServerEntry]).validate_python(listed)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise StorageUnavailable(f"{path.name}, the list of MCP servers, is not as it should be: {faults}.") from error
    for name, entry in entries.items():
        if (entry.command is None) == (entry.url is None):
            raise StorageUnavailable(f"{path.name}: the MCP server {name} needs either a command or a url.")
    return [_Server(name, entry, list(unset[name])) for name, entry in entries.items() if not entry.disabled]


def _with_variables(value: Any, unset: Counter[str]) -> Any:
    """`value` with `${NAME}` replaced by that variable of the environment; those that are not set stay, and are counted."""

    def replaced(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found is None:
            unset[match[0]] += 1
        return match[0] if found is None else found

    if isinstance(value, str):
        return _VARIABLE.sub(replaced, value)
    if isinstance(value, dict):
        return {key: _with_variables(item, unset) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_with_variables(item, unset) for item in cast("list[Any]", value)]
    return value


def _transport(entry: ServerEntry) -> Any:
    from app.adapters.outbound.mcp_transport import over_http, over_stdio

    if entry.command is not None:
        return over_stdio(entry.command, entry.args, entry.env, entry.cwd)
    return over_http(entry.url or "", entry.headers)


def _first(group: "BaseExceptionGroup[Any]") -> BaseException:
    return group.exceptions[0]


def _reason(error: BaseException) -> str:
    """Why it failed, in words: the first real error in a group of them."""
    while isinstance(error, BaseExceptionGroup):
        error = _first(cast("BaseExceptionGroup[Any]", error))
    if isinstance(error, TimeoutError):
        return "It does not answer."
    with suppress(AttributeError):
        return clean_text(str(error))[:300] or type(error).__name__
    return type(error).__name__
