"""Workflow tools: `python -m bench.invoke`. Calls without ComfyUI, the list of a thousand tools, and their loading.

Calls are compared with an empty FastAPI endpoint that parses the same body, in the same rounds, at 16 connections.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from app.adapters.outbound.tool_files import ToolFiles
from bench import rig

LIMIT_RATE, LIMIT_LIST_MS, LIMIT_LOAD = 1 / 3, 20.0, 2.0
CONNECTIONS, NODES, TOOLS = 16, 40, 1_000
CALL = orjson.dumps({"tool": "tool_0", "params": {"text": "a portrait photo, cinematic lighting"}})


class Call(BaseModel):
    tool: str
    params: dict[str, Any]


def empty_app() -> FastAPI:
    app = FastAPI()

    @app.post("/invoke")
    async def invoke(call: Call) -> dict[str, Any]:
        return {}

    return app


@contextmanager
def empty() -> Iterator[str]:
    port = rig.free_port()
    with rig.process(rig.python("bench.invoke", "--serve-empty", str(port)), port):
        yield f"http://127.0.0.1:{port}"


def write_tools(folder: Path, count: int) -> None:
    """`count` tools, each with a workflow of its own."""
    for name in ("config", "workflows"):
        (folder / name).mkdir()
    nodes = {str(n): {"class_type": f"Node{n}", "inputs": {"text": "x" * 40, "value": n}} for n in range(NODES)}
    for number in range(count):
        fields = [
            {"name": "text", "type": "string", "required": True, "mapping": {"node": 0, "attribute": "text"}},
            {"name": "seed", "type": "integer", "generator": "seed", "mapping": {"node": 1, "attribute": "value"}},
        ]
        definition = [{"name": f"tool_{number}", "description": "A tool.", "fields": fields}]
        (folder / "config" / f"tool_{number}.json").write_bytes(orjson.dumps(definition))
        (folder / "workflows" / f"tool_{number}.json").write_bytes(orjson.dumps(nodes))


async def rate(url: str, requests: int) -> float:
    """Calls a second."""
    async with aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as session:
        left = iter(range(requests))

        async def worker() -> None:
            for _ in left:
                async with session.post(f"{url}/invoke", data=CALL) as answer:
                    body = await answer.read()
                    if answer.status != 200:
                        raise SystemExit(f"{url} answered {answer.status}: {body[:300]!r}")

        began = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))
        return requests / (time.perf_counter() - began)


async def listing(url: str) -> float:
    """The median of the milliseconds in which all tools are listed."""
    async with aiohttp.ClientSession() as session:
        took: list[float] = []
        for _ in range(30):
            began = time.perf_counter()
            async with session.get(f"{url}/tools") as answer:
                listed = len(orjson.loads(await answer.read())["tools"])
            took.append((time.perf_counter() - began) * 1_000)
            if listed != TOOLS:
                raise SystemExit(f"{listed} tools are listed")
        return statistics.median(took)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=1_500, help="calls a round")
    parser.add_argument("--serve-empty", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_empty:
        uvicorn.run(empty_app(), host="127.0.0.1", port=options.serve_empty, log_level="error", access_log=False)
        return 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_tools(folder, TOOLS)
        began = time.perf_counter()
        loaded = len(ToolFiles(folder / "config", folder / "workflows").tools())
        load = time.perf_counter() - began
        base_url = stack.enter_context(rig.upstream())
        settings = {
            "TOOLS_CONFIG_DIR": str(folder / "config"),
            "WORKFLOWS_DIR": str(folder / "workflows"),
            "COMFYUI_URL": "",
        }
        targets = {
            "empty endpoint": stack.enter_context(empty()),
            "atelier": stack.enter_context(rig.service(base_url, **settings)),
        }
        rounds: dict[str, list[float]] = {name: [] for name in targets}
        for number in range(options.rounds + 1):
            for name, url in targets.items():
                figure = asyncio.run(rate(url, options.requests))
                rounds[name] += [figure] if number else []  # the first round warms up
        ratio = statistics.median(a / b for a, b in zip(rounds["atelier"], rounds["empty endpoint"], strict=True))
        listed = asyncio.run(listing(targets["atelier"]))
    print(f"\ncalls of a {NODES}-node workflow at {CONNECTIONS} connections, {options.rounds} rounds")
    for name, figures in rounds.items():
        print(f"  {name:16} {statistics.median(figures):7.0f} /s")
    print(f"  {ratio:.0%} of the empty endpoint (at least {LIMIT_RATE:.0%})")
    print(f"{TOOLS:,} tools are listed in {listed:.1f} ms (at most {LIMIT_LIST_MS:.0f})")
    print(f"{loaded:,} definitions are loaded in {load:.2f} s (at most {LIMIT_LOAD:.0f})")
    failed = ratio < LIMIT_RATE or listed > LIMIT_LIST_MS or load > LIMIT_LOAD
    print("limits: " + ("MISSED" if failed else "kept"))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
