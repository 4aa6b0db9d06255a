"""`atelier mcp`: the workflow tools over standard input and output, for MCP clients that start their servers themselves."""

import asyncio
from pathlib import Path

from app.adapters.inbound.cli.output import complain
from app.core.domain.errors import AtelierError


def run(data_dir: Path | None, build: bool) -> int:
    """Serve until the client goes; the exit code."""
    from app.logs import configure
    from app.settings import settings_for

    settings = settings_for(data_dir)
    configure(settings.log_level, settings.log_format)
    try:
        asyncio.run(_serve(data_dir, build))
    except AtelierError as error:
        return complain(error.message)
    except KeyboardInterrupt:
        return 130
    return 0


async def _serve(data_dir: Path | None, build: bool) -> None:
    from mcp.server.stdio import stdio_server

    from app.adapters.inbound.mcp_server.server import make_builder_server, make_server
    from app.bootstrap import make_builder, run_tooling
    from app.core.domain.user import LOCAL_USER
    from app.settings import settings_for

    settings = settings_for(data_dir)
    base_url = f"http://{settings.host}:{settings.port}"
    async with run_tooling(settings) as tooling:

        def who(_: object) -> tuple[str, str]:
            return LOCAL_USER.id, base_url

        if build:
            server = make_builder_server(await make_builder(tooling, LOCAL_USER.id), tooling.files, who)
        else:
            server = make_server(tooling.tools, tooling.files, who)
        async with stdio_server() as (reading, writing):
            await server.run(reading, writing, server.create_initialization_options())
