"""The OpenAI door against a minimal pass-through, and against LiteLLM's proxy: `python -m bench.gateway [--litellm]`.

All of them answer the same client from the same upstream, 50 pieces and no delay, one after the other in each round.
The service checks a token, counts the tokens and writes them down; the pass-through does nothing of the kind. LiteLLM is
installed into a folder of its own for this alone (`bench/results/litellm`), the first time.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import aiohttp
import orjson
import psutil

from bench import rig

LIMIT_STREAMS, LIMIT_JSON, LIMIT_LITELLM = 0.50, 0.40, 20.0
CONNECTIONS = 16
TOKEN = "bench-token"
LITELLM = rig.ROOT / "bench" / "results" / "litellm"
LITELLM_REQUESTS = 64
CONFIG = """
model_list:
  - model_name: openai@bench
    litellm_params: {{model: openai/bench, api_base: "{url}", api_key: none}}
general_settings: {{master_key: {token}}}
litellm_settings: {{telemetry: false}}
"""


@contextmanager
def passthrough(base_url: str) -> Iterator[tuple[str, int]]:
    port = rig.free_port()
    with rig.process(rig.python("bench.passthrough", str(port), base_url), port) as running:
        yield f"http://127.0.0.1:{port}", running.pid


@contextmanager
def litellm(base_url: str) -> Iterator[tuple[str, int]]:
    if not (LITELLM / "bin" / "litellm").exists():
        print("installing LiteLLM for this benchmark …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(LITELLM)], check=True)
        subprocess.run([str(LITELLM / "bin" / "pip"), "install", "--quiet", "litellm[proxy]"], check=True)
    config = LITELLM / "config.yaml"
    config.write_text(CONFIG.format(url=base_url, token=TOKEN))
    port = rig.free_port()
    command = [str(LITELLM / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with rig.process(command, port, env) as running:
        yield f"http://127.0.0.1:{port}", running.pid


async def ask(session: aiohttp.ClientSession, url: str, body: bytes) -> None:
    async with session.post(f"{url}/v1/chat/completions", data=body) as response:
        data = await response.read()
        if response.status != 200 or b"piece  49" not in data:
            raise SystemExit(f"{url} answered {response.status}: {data[:300]!r}")


async def rate(url: str, body: bytes, requests: int) -> float:
    """Requests a second, over CONNECTIONS at once."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:
        left = iter(range(requests))

        async def worker() -> None:
            for _ in left:
                await ask(session, url, body)

        began = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))
        return requests / (time.perf_counter() - began)


async def waits_for_nobody(url: str) -> float:
    """Seconds for a short request while CONNECTIONS slow streams are being read."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:
        slow = body_of(model="openai@paced-40")
        begun = [await session.post(f"{url}/v1/chat/completions", data=slow) for _ in range(CONNECTIONS)]
        began = time.perf_counter()
        await ask(session, url, body_of())
        took = time.perf_counter() - began
        for response in begun:
            response.close()
        return took


def body_of(*, stream: bool = True, model: str = "openai@bench") -> bytes:
    return orjson.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hello"}]})


def resident(pid: int) -> float:
    """Megabytes."""
    return psutil.Process(pid).memory_info().rss / 1_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=800, help="requests a round")
    parser.add_argument("--litellm", action="store_true", help="measure LiteLLM's proxy too")
    options = parser.parse_args()
    failed = False
    with ExitStack() as stack:
        base_url = stack.enter_context(rig.upstream())
        targets = {"pass-through": stack.enter_context(passthrough(base_url))}
        settings = {"AUTH_MODE": "local", "ATELIER_TOKEN": TOKEN}
        targets["atelier"] = stack.enter_context(rig.service_process(base_url, **settings))
        if options.litellm:
            targets["litellm"] = stack.enter_context(litellm(base_url))
        for streamed in (True, False):
            rounds: dict[str, list[float]] = {name: [] for name in targets}
            body = body_of(stream=streamed)
            for number in range(options.rounds + 1):
                for name, (url, _) in targets.items():
                    count = LITELLM_REQUESTS if name == "litellm" else options.requests
                    figure = asyncio.run(rate(url, body, count))
                    if number:  # the first round warms up
                        rounds[name].append(figure)
            print(
                f"\n{'streams' if streamed else 'JSON requests'} at {CONNECTIONS} connections, {options.rounds} rounds"
            )
            for name, figures in rounds.items():
                ratios = [a / b for a, b in zip(figures, rounds["pass-through"], strict=True)]
                print(
                    f"  {name:14} {statistics.median(figures):7.0f} /s  {statistics.median(ratios):7.1%} of the pass-through"
                )
            ratios = [a / b for a, b in zip(rounds["atelier"], rounds["pass-through"], strict=True)]
            failed |= statistics.median(ratios) < (LIMIT_STREAMS if streamed else LIMIT_JSON)
            if streamed and options.litellm:
                times = statistics.median(a / b for a, b in zip(rounds["atelier"], rounds["litellm"], strict=True))
                print(f"{'':17}{times:.0f} times LiteLLM (at least {LIMIT_LITELLM:.0f})")
                failed |= times < LIMIT_LITELLM
        print("\nresident: " + ", ".join(f"{name} {resident(pid):.0f} MB" for name, (_, pid) in targets.items()))
        print(
            f"a short request beside {CONNECTIONS} slow streams: {asyncio.run(waits_for_nobody(targets['atelier'][0])) * 1000:.1f} ms"
        )
    print(
        f"\nlimits: at least {LIMIT_STREAMS:.0%} of the streams and {LIMIT_JSON:.0%} of the JSON requests of the pass-through: "
        f"{'MISSED' if failed else 'kept'}"
    )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
