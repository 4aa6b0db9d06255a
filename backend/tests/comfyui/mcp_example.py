"""An MCP server for tests: a tool that adds, one that fails, one that draws; over stdio, or over HTTP on a port."""

import sys

from mcp.server import MCPServer
from mcp.server.mcpserver import Context, Image
from mcp.server.mcpserver.exceptions import ToolError

from tests.comfyui.fake import PNG

server = MCPServer("example")


@server.tool()
async def join(left: str, right: str, ctx: Context) -> str:  # pyright: ignore
    """Join two texts."""
    await ctx.report_progress(1, 2, "half way")
    return left + right


@server.tool()
def fail() -> str:
    """Fail."""
    raise ToolError("it cannot be done")


@server.tool()
def draw() -> Image:
    """Draw."""
    return Image(data=PNG, format="png")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run(transport="streamable-http", port=int(sys.argv[1]))
    else:
        server.run()
