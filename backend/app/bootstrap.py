"""The one place that knows everybody: settings become adapters, adapters become services."""

import asyncio
import gc
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from app.adapters.inbound.mcp_server.http import McpDoors
from app.adapters.inbound.openai_api.door import OpenAIDoor
from app.adapters.inbound.rest.services import Services
from app.adapters.inbound.websocket_handler import WebSocketHandler
from app.adapters.outbound.address_file import AddressFile
from app.adapters.outbound.backup import Places, Restored, Taken, restore, take
from app.adapters.outbound.comfyui.client import ComfyClient
from app.adapters.outbound.comfyui.runner import ComfyRunner
from app.adapters.outbound.file_folder import FileFolder
from app.adapters.outbound.llm_providers.catalog import ModelCatalog, usual_model
from app.adapters.outbound.llm_providers.gateway import ModelGateway
from app.adapters.outbound.llm_providers.keys import ProviderKeys
from app.adapters.outbound.persistence.memory import MemoryStore
from app.adapters.outbound.persistence.sqlite import open_sqlite, open_sqlite_to_check
from app.adapters.outbound.private_file import make_private
from app.adapters.outbound.run_log.memory import MemoryRunLog
from app.adapters.outbound.run_log.metered import MeteredRunLog
from app.adapters.outbound.token_file import TokenFile, is_weak
from app.adapters.outbound.tool_files import ToolFiles
from app.core.domain.conversation import Conversation
from app.core.domain.declared_tools import DECLARED_TOOLS
from app.core.domain.errors import AtelierError, StorageUnavailable
from app.core.ports import (
    IAgent,
    IRunCommands,
    IRunLog,
    IToolServers,
    ITurnRecorder,
    NoOtherProcess,
    NoToolServers,
    Preview,
    Store,
    Turn,
)
from app.core.services.accounts import IAccounts, LocalAccounts, OpenAccounts
from app.core.services.approvals import DefaultApprovals
from app.core.services.builder import Builder
from app.core.services.compaction import Compaction
from app.core.services.context_view import ContextView
from app.core.services.environment import Environment
from app.core.services.history import HistoryService
from app.core.services.passing import PassingTurns
from app.core.services.previews import Previews
from app.core.services.prompt import PromptService
from app.core.services.rate_limits import Limited, RateLimits
from app.core.services.run_limits import RunLimits
from app.core.services.runs import RunService
from app.core.services.sessions import SessionService
from app.core.services.skills import SkillService
from app.core.services.tools import ToolService
from app.core.services.usage import UsageService
from app.core.services.workshop import Workshop
from app.loop_watchdog import watched_loop
from app.settings import AuthMode, Settings, settings_for

__all__ = [
    "make_catalog",
    "make_key_catalog",
    "make_keys",
    "open_store",
    "open_store_to_check",
    "restore_backup",
    "run_application",
    "take_backup",
    "usual_model",
]

logger = logging.getLogger(__name__)


CHECK_SESSIONS_SECONDS = 5.0
REMOVE_SESSIONS_SECONDS = 3_600.0

RESERVED_TOOLS = frozenset(
    [
        *DECLARED_TOOLS,
        *("add", "subtract", "multiply", "divide"),
    ]
)
"""The names of the agent's own tools, which no workflow may take."""


@dataclass(frozen=True, slots=True)
class Application:
    """The running application: what its wires use."""

    services: Services
    sockets: WebSocketHandler
    door: OpenAIDoor
    mcp: McpDoors


@asynccontextmanager
async def run_application(
    settings: Settings, accounts: IAccounts, catalog: ModelCatalog
) -> AsyncGenerator[Application]:
    """Open the store, take over what a process before left, and close everything at the end.

    Raises:
        StorageUnavailable: the store cannot be used; the message names the setting to change.
    """
    store = await open_store(settings)
    try:
        async with (
            watched_loop(settings.loop_block_seconds),
            _run_log(settings) as (log, commands),
            run_tooling(settings) as tooling,
        ):
            skills = SkillService(store.skills)
            sessions = SessionService(store.sessions, accounts)
            rates = make_rate_limits(settings)
            graphs = Workshop(store.workflows, tooling.comfyui, tooling.tools)
            agent = WarmingAgent(catalog, settings.max_tool_rounds, tooling, graphs, skills)
            limits = RunLimits(
                context_tokens=settings.context_tokens,
                lease=timedelta(seconds=settings.lease_seconds),
                store_patience=settings.store_patience_seconds,
                max_runs=settings.max_runs,
                max_queued=settings.max_queued,
                tool_approval=settings.tool_approval,
                default_approval=tooling.default_approvals(),
            )
            usage = UsageService(store.usage, catalog.facts)
            prompts = PromptService(
                skills, settings.system_prompt, tooling.summary, builds_workflows=tooling.comfyui is not None
            )
            runs = RunService(store, MeteredRunLog(log), agent, catalog, limits, prompts, commands, usage.count)
            passing = PassingTurns(agent, limits, usage.count)
            services = Services(
                runs=runs,
                history=HistoryService(store, catalog),
                catalog=catalog,
                keys=catalog.keys,
                sessions=sessions,
                rates=rates,
                store=store,
                gateway=ModelGateway(catalog),
                passing=passing,
                skills=skills,
                graphs=graphs,
                contexts=ContextView(store, agent, catalog, prompts, limits),
                compaction=Compaction(store, catalog, passing, settings.context_tokens),
                usage=usage,
                tools=tooling.tools,
                files=tooling.files,
                previews=tooling.previews,
                definitions=tooling.definitions,
                object_info=tooling.object_info,
                mcp_status=tooling.mcp_servers.status,
            )
            agent.begin()
            usage.start()
            tooling.mcp_servers.start()
            await runs.start()
            environment = Environment(tooling.comfyui) if tooling.comfyui is not None else None
            builder = Builder(graphs, environment, services.history.scratch)
            mcp = McpDoors(tooling.tools, tooling.files, builder)
            sockets = WebSocketHandler(runs, rates, max_sockets=settings.max_sockets)
            looking = asyncio.create_task(_look_after_sessions(sessions, sockets), name="sessions")
            try:
                yield Application(services, sockets, OpenAIDoor(services), mcp)
            finally:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)
                await mcp.stop()
                await tooling.mcp_servers.stop()
                await runs.stop()
                await usage.stop()
                await agent.stop()
                await catalog.close()
    finally:
        await store.close()


async def _look_after_sessions(sessions: SessionService, sockets: WebSocketHandler) -> None:
    """Close sockets whose session or token has ended, and remove ended sessions from time to time."""
    removed_at = float("-inf")
    while True:
        try:
            await sockets.close_ended(sessions.is_valid)
            if time.monotonic() - removed_at > REMOVE_SESSIONS_SECONDS:
                removed_at = time.monotonic()
                await sessions.remove_ended()
        except StorageUnavailable as error:
            logger.warning("sessions are checked later: %s", error.message)
        except Exception:
            logger.exception("sessions could not be checked")
        await asyncio.sleep(CHECK_SESSIONS_SECONDS)


def make_rate_limits(settings: Settings) -> RateLimits:
    """The rate limits of the settings."""
    return RateLimits(
        {
            Limited.MESSAGES: settings.messages_per_minute,
            Limited.UPLOADS: settings.uploads_per_minute,
            Limited.SEARCHES: settings.searches_per_minute,
            Limited.SIGN_INS: settings.sign_ins_per_minute,
        }
    )


@asynccontextmanager
async def _run_log(settings: Settings) -> AsyncGenerator[tuple[IRunLog, IRunCommands]]:
    """Where run events are kept, and the way to other servers: Redis where it is configured, else this process alone.

    Raises:
        StorageUnavailable: Redis does not answer.
    """
    if settings.redis_url is None:
        yield MemoryRunLog(), NoOtherProcess()
        return
    from app.adapters.outbound.run_log.redis import RedisCommands, RedisRunLog, connect

    client = await connect(settings.redis_url.get_secret_value())
    log, commands = RedisRunLog(client), RedisCommands(client)
    try:
        yield log, commands
    finally:
        await commands.close()
        await log.close()


@dataclass(frozen=True, slots=True)
class Tooling:
    """What works with ComfyUI.

    Attributes:
        comfyui: it itself; None where none is configured.
        mcp_servers: the tools of others; they connect once they are started.
    """

    tools: ToolService
    definitions: ToolFiles
    files: FileFolder
    previews: Previews
    comfyui: ComfyClient | None
    mcp_servers: IToolServers

    def summary(self) -> str:
        """A few lines on what ComfyUI has installed, as far as it is known now."""
        return self.comfyui.summary() if self.comfyui is not None else ""

    def default_approvals(self) -> DefaultApprovals:
        """What tools need by default."""
        known = self.comfyui.known_object_info if self.comfyui is not None else lambda: None
        return DefaultApprovals(self.tools.tools, known, self.mcp_servers.approvals)

    async def object_info(self) -> Mapping[str, Any] | None:
        """ComfyUI's node types; None where none is configured."""
        return await self.comfyui.object_info() if self.comfyui is not None else None


@asynccontextmanager
async def run_tooling(settings: Settings) -> AsyncGenerator[Tooling]:
    """The workflow tools, and the ComfyUI that runs them where one is configured."""
    files = FileFolder(settings.files_dir or settings.data_dir / "files")
    definitions = make_definitions(settings)
    client = ComfyClient(settings.comfyui_url) if settings.comfyui_url is not None else None
    runner = ComfyRunner(client, settings.comfyui_timeout) if client is not None else None
    reading = asyncio.create_task(_look_around(client)) if client is not None else None
    try:
        servers = _mcp_servers(settings, files, definitions)
        yield Tooling(ToolService(definitions, runner, files), definitions, files, Previews(), client, servers)
    finally:
        if client is not None and reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await client.close()


async def _look_around(client: ComfyClient) -> None:
    """Read what is installed, so that the first turn can tell of it; a ComfyUI that is away is read when it is needed."""
    try:
        await client.object_info()
    except AtelierError as error:
        logger.info("ComfyUI's nodes are not read yet: %s", error.message)


def _mcp_servers(settings: Settings, files: FileFolder, definitions: ToolFiles) -> IToolServers:
    """The MCP servers of others; what speaks with them is imported only where there are some.

    Raises:
        StorageUnavailable: their list cannot be read.
    """
    if not settings.mcp_servers.exists():
        return NoToolServers()
    from app.adapters.outbound.mcp_servers import McpServers

    return McpServers(settings.mcp_servers, files, definitions.tools)


def make_definitions(settings: Settings) -> ToolFiles:
    """The workflow tools in the folders of the settings."""
    return ToolFiles(settings.tools_config_dir, settings.workflows_dir, lambda: RESERVED_TOOLS)


def make_accounts(settings: Settings) -> tuple[IAccounts, str | None]:
    """Who may use the service, and the token to show to the one who starts it.

    Raises:
        StorageUnavailable: the token cannot be kept.
    """
    if settings.auth_mode is AuthMode.NONE:
        return OpenAccounts(), None
    given = settings.atelier_token
    if given is not None:
        token = given.get_secret_value()
        if is_weak(token):
            logger.warning("ATELIER_TOKEN can be guessed. Set a longer one, or leave it empty for one that is made.")
        return LocalAccounts(given.get_secret_value), token
    file = make_token_file(settings)
    token = file.load_or_make()
    return LocalAccounts(file.current), token


def make_token_file(settings: Settings) -> TokenFile:
    """The file with the token of the installation."""
    return TokenFile(settings.token_file)


def make_address_file(settings: Settings) -> AddressFile:
    """The file that says where the service is."""
    return AddressFile(settings.address_file)


def make_catalog(data_dir: Path | None = None) -> ModelCatalog:
    """The models of the settings, for commands that ask without the service.

    Raises:
        UnknownModel, ProviderNotConfigured: DEFAULT_MODEL cannot be asked.
    """
    return ModelCatalog(settings_for(data_dir))


def make_key_catalog(data_dir: Path | None = None) -> ModelCatalog:
    """The providers and their keys, also where the settings name a model that has no key yet."""
    return ModelCatalog(settings_for(data_dir), checks_models=False)


def make_keys(data_dir: Path | None = None) -> ProviderKeys:
    """The keys of providers."""
    return ProviderKeys(settings_for(data_dir))


async def open_store(settings: Settings) -> Store:
    """MongoDB where it is configured, else the SQLite file in the data folder.

    Raises:
        StorageUnavailable: it cannot be used; the message names the setting to change.
    """
    if settings.mongodb_url is not None:
        from app.adapters.outbound.persistence.mongo import open_mongo

        if settings.data_dir.is_dir():
            await asyncio.to_thread(make_private, settings.data_dir)

        return await open_mongo(
            settings.mongodb_url.get_secret_value(), settings.mongodb_database, driver=settings.mongodb_driver.value
        )
    return await asyncio.to_thread(open_sqlite, settings.data_dir)


async def open_store_to_check(settings: Settings) -> Store:
    """The store of the settings; an SQLite file that a running service holds is opened to be read.

    Raises:
        StorageUnavailable: it cannot be used.
    """
    if settings.mongodb_url is not None:
        return await open_store(settings)
    return await asyncio.to_thread(open_sqlite_to_check, settings.data_dir)


def take_backup(settings: Settings, target: Path, *, force: bool, secrets: bool) -> Taken:
    """Write everything that an installation on SQLite keeps to the archive `target`.

    Raises:
        BackupFailed, StorageDamaged: nothing was written; the message says why.
    """
    return take(_places(settings), target, force=force, secrets=secrets)


def restore_backup(settings: Settings, archive: Path, *, force: bool) -> Restored:
    """Put what is in `archive` in its place.

    Raises:
        BackupFailed, StorageUnavailable: nothing has changed; the message says why.
    """
    return restore(archive, _places(settings), force=force)


def _places(settings: Settings) -> Places:
    return Places(
        data=settings.data_dir,
        files=settings.files_dir or settings.data_dir / "files",
        config=settings.tools_config_dir,
        workflows=settings.workflows_dir,
        mcp=settings.mcp_servers,
    )


async def make_builder(tooling: Tooling, user_id: str) -> Builder:
    """The tools that build a workflow, for one program; the workflow goes when the program does."""
    store = MemoryStore()
    made = await store.conversations.create(Conversation(user_id=user_id))

    async def only_one(_: str) -> str:
        return made.id

    environment = Environment(tooling.comfyui) if tooling.comfyui is not None else None
    return Builder(Workshop(store.workflows, tooling.comfyui, tooling.tools), environment, only_one)


class WarmingAgent:
    """The LangGraph agent, imported beside the start of the service: whoever is first waits for what is left of it."""

    def __init__(
        self, catalog: ModelCatalog, max_tool_rounds: int, tooling: Tooling, graphs: Workshop, skills: SkillService
    ) -> None:
        self._graphs = graphs
        self._skills = skills
        self._catalog = catalog
        self._tooling = tooling
        self._max_tool_rounds = max_tool_rounds
        self._made: asyncio.Task[IAgent] | None = None

    def begin(self) -> None:
        """Import and build the agent in a thread."""
        self._made = asyncio.create_task(asyncio.to_thread(self._make))

    async def stop(self) -> None:
        """Wait for an import that has begun: a thread cannot be stopped in the middle of one."""
        if self._made is not None:
            await asyncio.gather(self._made, return_exceptions=True)

    async def run(self, turn: Turn, recorder: ITurnRecorder) -> None:
        """Run `turn` with the agent, once that is there."""
        await (await self._agent()).run(turn, recorder)

    async def preview(self, turn: Turn) -> Preview:
        """What the first call of `turn` would send."""
        return await (await self._agent()).preview(turn)

    async def _agent(self) -> IAgent:
        assert self._made is not None
        return self._made.result() if self._made.done() else await asyncio.shield(self._made)

    def _make(self) -> IAgent:
        from app.langgraph.agent import LangGraphAgent, ToolSource
        from app.langgraph.tools import MATH_TOOLS
        from app.langgraph.tools.graph_tools import environment_tools, graph_tools
        from app.langgraph.tools.skill_tools import skill_tool_source
        from app.langgraph.tools.workflow_tools import WorkflowToolSource

        tooling = self._tooling
        tools = list(MATH_TOOLS)
        if tooling.comfyui is not None:
            tools += environment_tools(Environment(tooling.comfyui))
            tools += graph_tools(self._graphs, tooling.previews.keep)
        workflows = WorkflowToolSource(tooling.tools, tooling.previews.keep)
        sources: list[ToolSource] = [
            skill_tool_source(self._skills, builds_workflows=tooling.comfyui is not None),
            lambda _: workflows(),
            lambda _: tooling.mcp_servers(),
        ]
        agent = LangGraphAgent(self._catalog, tools, sources=sources, max_tool_rounds=self._max_tool_rounds)
        self._catalog.warm_up()
        # What is loaded by now stays: the collector need not walk through it again and again.
        gc.collect()
        gc.freeze()
        return agent
