"""How soon the service is ready, and what it takes when idle: `python -m bench.start`.

From the command to the first 200 of the readiness check on an empty data folder and on one that was used, and the
resident memory of the process half a minute after that (with --settle), before and after a first turn.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from bench import rig

LIMIT_READY = 2.0
LIMIT_MEGABYTES = 130.0


def start(folder: str, settle: float) -> tuple[float, float]:
    """Seconds to readiness, and megabytes after `settle` seconds."""
    port = rig.free_port()
    command = [str(Path(sys.executable).parent / "atelier"), "serve", "--port", str(port), "--data-dir", folder]
    began = time.monotonic()
    environment = {**os.environ, "AUTH_MODE": "none"}
    running = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        rig.wait_ready(f"http://127.0.0.1:{port}")
        ready = time.monotonic() - began
        time.sleep(settle)
        return ready, psutil.Process(running.pid).memory_info().rss / 1e6
    finally:
        running.terminate()
        running.wait(20)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--settle", type=float, default=5.0, help="seconds until memory is read")
    options = parser.parse_args()
    start(tempfile.mkdtemp(), 0)
    with tempfile.TemporaryDirectory() as used:
        figures = [start(used, options.settle) for _ in range(options.rounds)]
    with tempfile.TemporaryDirectory() as empty:
        first, _ = start(empty, 0)
    ready = statistics.median(figure[0] for figure in figures)
    memory = statistics.median(figure[1] for figure in figures)
    missed = ready > LIMIT_READY or memory > LIMIT_MEGABYTES
    print(f"ready after {ready:.2f} s (on an empty folder {first:.2f} s; at most {LIMIT_READY} s)")
    print(f"idle: {memory:.0f} MB resident (at most {LIMIT_MEGABYTES:.0f} MB)")
    print(f"limits: {'MISSED' if missed else 'kept'}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
