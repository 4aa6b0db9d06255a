"""The installed command in a process of its own."""

import os
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Queue

import pytest

from tests.client import Service
from tests.integration.conftest import start, upstream  # noqa: F401 - fixtures

COMMAND = str(Path(sys.executable).parent / "atelier")
START_SECONDS = 30
ADDRESS = re.compile(r"\bat\s+(http://(?:127\.|\[)\S+?)/(?:\?token=(\S+))?$")


class Command:
    """A running `atelier serve`."""

    def __init__(self, folder: Path, *arguments: str, files: str | None = None, **environment: str) -> None:
        limit = () if files is None else ("prlimit", f"--nofile={files}")
        self.process = subprocess.Popen(
            [*limit, COMMAND, "serve", *(() if "--port" in arguments else ("--port", "0")), *arguments],
            cwd=folder,
            env={**clean_environment(), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._queue: Queue[str | None] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def ready(self) -> Service:
        """Wait for the line that says where the service is."""
        while True:
            try:
                line = self._queue.get(timeout=START_SECONDS)
            except Empty:
                raise AssertionError(f"not ready: {self.lines}") from None
            assert line is not None, f"ended: {self.lines}"
            self.lines.append(line)
            if match := ADDRESS.search(line):
                return Service(match[1], match[2])

    def output(self) -> str:
        """Wait for the end; all that it said."""
        self.process.wait(START_SECONDS)
        while (line := self._queue.get(timeout=START_SECONDS)) is not None:
            self.lines.append(line)
        return "\n".join(self.lines)

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        """End it; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        return self.process.wait(START_SECONDS)

    def fill_disk(self, full: bool) -> None:
        """Let no file of the process grow, or let them again: what a full disk looks like from inside."""
        limit = 0 if full else resource.RLIM_INFINITY
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def clean_environment() -> dict[str, str]:
    """This environment without settings of the service."""
    return {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR", "COLUMNS")}


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    commands: list[Command] = []

    def begin(*arguments: str, **environment: str) -> Command:
        commands.append(Command(tmp_path, *arguments, **environment))
        return commands[-1]

    yield begin
    for command in commands:
        command.stop(signal.SIGKILL)
