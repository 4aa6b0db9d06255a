"""A service in a process of its own, under clients that send or hold as much as they can."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import httpx
import psutil
import pytest

from tests.client import Service
from tests.e2e.conftest import Command

Serve = Callable[..., Command]
MIB = 2**20
PATIENCE = 60


@contextmanager
def connected(service: Service) -> Iterator[socket.socket]:
    host, _, port = service.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        yield connection


def send(connection: socket.socket, pieces: Iterator[bytes]) -> int:
    """Send pieces until the other side has had enough; how many bytes it took."""
    sent = 0
    try:
        for piece in pieces:
            connection.sendall(piece)
            sent += len(piece)
    except OSError:
        pass
    return sent


@pytest.mark.parametrize(
    "piece", [b"a" * 65_536, b"A: b\r\n" * 10_000], ids=["one-header-of-300-mib", "two-million-headers"]
)
def test_an_endless_head_costs_next_to_nothing(serve: Serve, piece: bytes):
    command = serve()
    service = command.ready()
    process = psutil.Process(command.process.pid)
    before = process.memory_info().rss
    with connected(service) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
        sent: list[int] = []
        pieces = (piece for _ in range(300 * MIB // len(piece)))
        sending = threading.Thread(target=lambda: sent.append(send(connection, pieces)))
        sending.start()
        assert connection.recv(100).startswith(b"HTTP/1.1 431")
        sending.join(PATIENCE)
    assert sent[0] < 32 * MIB
    assert process.memory_info().rss - before < 32 * MIB
    assert httpx.get(f"{service.url}/api/health/live").status_code == 200


def test_silent_connections_beyond_the_limit_of_files(serve: Serve):
    service = serve(files="1024:1024").ready()
    with ExitStack() as stack:
        for _ in range(1_100):
            stack.enter_context(connected(service))
        for _ in range(5):
            assert httpx.get(f"{service.url}/api/health/ready", timeout=PATIENCE).status_code == 200


def test_a_low_limit_of_files_is_raised(serve: Serve):
    command = serve(files="256:4096")
    command.ready()
    assert psutil.Process(command.process.pid).rlimit(psutil.RLIMIT_NOFILE) == (4_096, 4_096)
