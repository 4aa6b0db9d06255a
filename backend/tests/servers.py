"""Servers that tests start on free ports of this machine and end with the session."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

START_SECONDS = 60


def missing(what: str) -> None:
    """A test whose server is not there is skipped and says so; in CI that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and CI must have it")
    pytest.skip(f"{what} is missing")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def tool(name: str) -> str | None:
    """The command `name`, from this virtual environment or from the system."""
    here = Path(sys.executable).parent / name
    return str(here) if here.exists() else shutil.which(name)


@contextmanager
def running(command: list[str], port: int, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process that listens on `port`, ended with the block."""
    process = subprocess.Popen(command, **options)  # pyright: ignore[reportCallIssue, reportArgumentType]
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended with {process.returncode}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not listen on {port}")
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def mongo_server(folder: Path, port: int | None = None) -> Iterator[str]:
    """MongoDB's wire: the server at MONGODB_URL where that is set, else one over SQLite."""
    if (url := os.environ.get("MONGODB_URL")) and port is None:
        yield url
        return
    command = tool("nx-27017")
    if command is None:
        missing("nx-27017, a server that speaks MongoDB's wire")
        return
    port = port or free_port()
    files = ["--data-dir", str(folder), "--log-file", str(folder / "mongo.log"), "--pid-file", str(folder / "pid")]
    with running(
        [command, "--host", "127.0.0.1", "--port", str(port), *files],
        port,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ):
        yield f"mongodb://127.0.0.1:{port}"


@contextmanager
def redis_server(folder: Path, port: int | None = None) -> Iterator[str]:
    """A Redis of our own that keeps nothing."""
    command = tool("redis-server")
    if command is None:
        missing("redis-server")
        return
    port = port or free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with running([command, *options], port, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        yield f"redis://127.0.0.1:{port}/0"
