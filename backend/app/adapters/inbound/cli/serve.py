"""`atelier serve`: bind the port, start the service, say where it is, and stop it without losing anything."""

import contextlib
import errno
import socket
from typing import Any

from fastapi import FastAPI
from pydantic import ValidationError

from app import logs
from app.adapters.inbound.addresses import TrustedProxies
from app.adapters.inbound.cli.output import complain, say
from app.adapters.inbound.connections import ConnectionLimits
from app.adapters.inbound.server import BACKLOG, Server
from app.bootstrap import make_accounts
from app.core.domain.errors import AtelierError
from app.core.domain.program import program
from app.main import create_app
from app.settings import AuthMode, Settings

OTHER_CONNECTIONS = 5_000
"""Connections beside the WebSockets."""


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
    try:
        listening = _bind(settings.host, settings.port)
    except OSError as error:
        return complain(_why_not(error, settings))
    with listening:
        try:
            accounts, token = make_accounts(settings)
            app = create_app(settings, accounts)
        except AtelierError as error:
            return complain(error.message)
        return _serve(app, settings, listening, token)


def _serve(app: FastAPI, settings: Settings, listening: socket.socket, token: str | None) -> int:
    server = Server(
        app,
        max_frame_bytes=settings.ws_max_frame_bytes,
        on_ready=lambda: _greet(app, _address(settings.host, listening), token),
        limits=ConnectionLimits(
            total=settings.max_sockets + OTHER_CONNECTIONS,
            per_address=settings.max_connections_per_address or None,
            proxies=TrustedProxies.of(settings.trusted_proxies),
        ),
        shutdown_seconds=settings.shutdown_seconds,
    )
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listening])
    return complain(server.refused.message) if server.refused else 0


def _greet(app: FastAPI, address: str, token: str | None) -> None:
    """Say where the service is, and how to talk to it."""
    model: str = app.state.services.catalog.default
    url = f"{address}/?token={token}" if token else f"{address}/"
    lines = [
        "",
        f"  Atelier is ready at  {url}",
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


def _address(host: str, listening: socket.socket) -> str:
    port = listening.getsockname()[1]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"


def _why_not(error: OSError, settings: Settings) -> str:
    place = f"{settings.host}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        return f"Port {settings.port} is in use. Stop what uses it, or choose another one with PORT or --port."
    if error.errno == errno.EACCES:
        return f"This user may not listen on {place}. Choose a port above 1023 with PORT or --port."
    return f"The service cannot listen on {place} ({error.strerror}). Check HOST and PORT."
