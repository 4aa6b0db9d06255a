"""`atelier serve`: bind the port, start the service, say where it is, and stop it without losing anything."""

import contextlib
import errno
import socket
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from pydantic import ValidationError

from app import logs
from app.adapters.inbound.addresses import TrustedProxies
from app.adapters.inbound.cli.output import complain, say
from app.adapters.inbound.cli.running import page_at, running_at, token_of, with_name
from app.adapters.inbound.connections import ConnectionLimits
from app.adapters.inbound.server import BACKLOG, Server
from app.bootstrap import make_accounts, make_address_file
from app.core.domain.errors import AtelierError
from app.core.domain.program import program
from app.main import create_app
from app.settings import AuthMode, Settings

OTHER_CONNECTIONS = 5_000
"""Connections beside the WebSockets."""
NEARBY = 20
PROBE_SECONDS = 0.5
MAX_PORT = 65_535


def run(given: dict[str, Any]) -> int:
    """Serve until a signal comes; the exit code. `given` are settings of the command line."""
    try:
        settings = Settings(**given)
    except ValidationError as error:
        for detail in error.errors(include_input=False, include_url=False):
            complain(f"{'_'.join(map(str, detail['loc'])).upper()}: {detail['msg']}")
        return 2
    logs.configure(settings.log_level, settings.log_format)
    if settings.auth_mode is AuthMode.NONE and not settings.listens_on_loopback:
        return complain("AUTH_MODE=none is for this machine alone: listen on 127.0.0.1, or choose AUTH_MODE=local.")
    with contextlib.ExitStack() as stack:
        try:
            listening = stack.enter_context(_bind(settings.host, settings.port))
        except OSError as error:
            return complain(_why_not(error, settings))
        twin = _bind_twin(listening)
        sockets = [listening] if twin is None else [listening, stack.enter_context(twin)]
        try:
            accounts, token = make_accounts(settings)
            app = create_app(settings, accounts)
        except AtelierError as error:
            return complain(error.message)
        return _serve(app, settings, sockets, token)


def _serve(app: FastAPI, settings: Settings, sockets: list[socket.socket], token: str | None) -> int:
    address = _address(settings.host, sockets[0])
    written = make_address_file(settings)
    is_ready = False

    def ready() -> None:
        nonlocal is_ready
        is_ready = True
        written.write(address)
        _greet(app, address, token, has_name=not _is_taken_by_others(sockets))

    server = Server(
        app,
        max_frame_bytes=settings.ws_max_frame_bytes,
        on_ready=ready,
        limits=ConnectionLimits(
            total=settings.max_sockets + OTHER_CONNECTIONS,
            per_address=settings.max_connections_per_address or None,
            proxies=TrustedProxies.of(settings.trusted_proxies),
        ),
        shutdown_seconds=settings.shutdown_seconds,
    )
    try:
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=sockets)
    finally:
        if is_ready:
            written.remove()
    if server.refused is None:
        return 0
    other = running_at(settings)
    where = f" The other one runs at {page_at(with_name(other), token)}" if other is not None else ""
    return complain(server.refused.message + where)


def _greet(app: FastAPI, address: str, token: str | None, *, has_name: bool) -> None:
    """Say where the service is, and how to talk to it."""
    model: str = app.state.services.catalog.default
    named = with_name(address) if has_name else address
    lines = ["", f"  Atelier is ready at  {page_at(named, token)}"]
    if named != address:
        lines += [f"  or, by address, at   {page_at(address, token)}"]
    lines += [
        f"  Talk to it with      {program()} chat" + ("" if address.endswith(":8000") else f" --url {address}"),
    ]
    if model.startswith("demo@"):
        lines += [
            "",
            "  It answers with a built-in offline demonstration. For a real model enter a provider's key:",
            f"  {program()} keys set mistral  (or openai, anthropic, gemini, …); it is used at once.",
        ]
    say("\n".join(lines) + "\n")


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    listening.setblocking(False)
    return listening


def _bind_twin(listening: socket.socket) -> socket.socket | None:
    """The same port of IPv6's loopback: browsers try that one first for `atelier.localhost`."""
    host, port = listening.getsockname()[:2]
    if host != "127.0.0.1":
        return None
    try:
        return _bind("::1", port)
    except OSError:
        return None


def _is_taken_by_others(sockets: list[socket.socket]) -> bool:
    """Whether another program has the port on IPv6's loopback, and would get what browsers send to `atelier.localhost`."""
    host, port = sockets[0].getsockname()[:2]
    if len(sockets) > 1 or host != "127.0.0.1":
        return False
    try:
        with socket.create_connection(("::1", port), timeout=PROBE_SECONDS):
            return True
    except OSError:
        return False


def _address(host: str, listening: socket.socket) -> str:
    port = listening.getsockname()[1]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"


def _why_not(error: OSError, settings: Settings) -> str:
    place = f"{settings.host}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        return _who_has_it(settings)
    if error.errno == errno.EACCES:
        return f"This user may not listen on {place}. Choose a port above 1023 with PORT or --port."
    return f"The service cannot listen on {place} ({error.strerror}). Check HOST and PORT."


def _who_has_it(settings: Settings) -> str:
    """What to say of a port that is taken."""
    address = running_at(settings)
    if address is not None and urlsplit(address).port == settings.port:
        return (
            f"Atelier is running already, at {page_at(with_name(address), token_of(settings))} "
            "Open it there; to start it again, stop that one first."
        )
    free = _free_port(settings.host, settings.port)
    return (
        f"Port {settings.port} is in use by another program. Stop that program, or start Atelier on another port: "
        f"port {free} is free (PORT={free}, or --port {free})."
    )


def _free_port(host: str, taken: int) -> int:
    """A port that is free now, near the one that is taken."""
    for port in (*range(taken + 1, min(taken + NEARBY, MAX_PORT) + 1), 0):
        try:
            with _bind(host, port) as probe:
                return probe.getsockname()[1]
        except OSError:
            continue
    return 0
