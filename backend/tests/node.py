"""Programs in Node that tests run: the official clients of other people, from `node_clients`."""

import asyncio
import shutil
from pathlib import Path

from tests.servers import missing

FOLDER = Path(__file__).parent / "node_clients"
NODE_22 = "node_modules/node/bin/node"
"""The Node that comes as a package, for what needs a newer one than the machine may have."""


async def run_node(*arguments: str, node: str = "node", fails: bool = False) -> str:
    """What a program says on its standard output.

    Args:
        node: the interpreter, seen from the folder of the packages.
        fails: whether it may end with an error.
    """
    if shutil.which("node") is None or not (FOLDER / NODE_22).exists():
        missing("Node, or the packages of backend/tests/node_clients (npm ci)")
    process = await asyncio.create_subprocess_exec(
        node, *arguments, cwd=FOLDER, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(60):
            said, complained = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert fails or process.returncode == 0, complained.decode()
    return said.decode()
