"""What ended runs leave in memory: `python -m bench.memory`.

Answers of 7 MB, one after the other, then many small ones: the events of ended runs stay within the budget of the run log,
however large they are, and memory does not grow with their number.
"""

import argparse
import sys

import aiohttp
import orjson
import psutil
import uvloop

from bench import rig

LIMIT_GROWTH_MIB = 192
"""The log's 64 MiB, and what one answer of 7 MB passes through on its way (and the allocator keeps)."""

LIMIT_AFTER = 1.25
"""How much more memory the second half of the large answers may leave than the first."""


async def ask(url: str, count: int, model: str) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as ws:
        await ws.receive()
        for number in range(count):
            await ws.send_str(orjson.dumps({"type": "message", "content": f"go {number}", "model": model}).decode())
            while (kind := orjson.loads((await ws.receive()).data)["type"]) != "complete":
                if kind == "error":
                    raise SystemExit("a turn failed")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=20)
    parser.add_argument("--small", type=int, default=300)
    options = parser.parse_args()
    with rig.upstream() as base_url, rig.service_process(base_url) as (http_url, pid):
        url, process = rig.ws_url(http_url), psutil.Process(pid)

        def measured(count: int, model: str) -> float:
            uvloop.run(ask(url, count, model))
            return process.memory_info().rss / 2**20

        before = measured(10, "openai@bench")
        half = measured(options.answers // 2, "openai@large")
        whole = measured(options.answers - options.answers // 2, "openai@large")
        small = measured(options.small, "openai@bench")
    print(f"at first {before:.0f} MiB; after {options.answers // 2} answers of 7 MB {half:.0f}, ", end="")
    print(f"after {options.answers} {whole:.0f}, after {options.small} small ones {small:.0f}")
    growth, ratio = max(half, whole) - before, (whole - before) / max(1.0, half - before)
    missed = growth > LIMIT_GROWTH_MIB or ratio > LIMIT_AFTER
    print(
        f"growth {growth:.0f} MiB (at most {LIMIT_GROWTH_MIB}), twice the answers take {ratio:.2f} times (at most {LIMIT_AFTER})"
    )
    print(f"limits: {'MISSED' if missed else 'kept'}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
