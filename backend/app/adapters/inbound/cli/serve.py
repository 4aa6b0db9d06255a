"""`atelier serve`: bind the port, start the service, say where it is, and stop it without losing anything."""

import errno
import logging
import socket
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from app import logs
from app.adapters.inbound.websocket_handler import WebSocketHandler
from app.bootstrap import make_accounts
from app.core.domain.errors import AtelierError
from app.main import create_app
from app.settings import AuthMode, Settings

logger = logging.getLogger(__name__)

BACKLOG = 2_048
PATIENCE_SECONDS = 10


def run(given: dict[str, Any]) -> int:
    """Serve until a signal comes; the exit code. `given` are settings of the command line."""
    try:
        settings = Settings(**given)
    except ValidationError as error:
        for detail in error.errors(include_input=False, include_url=False):
            _complain(f"{'_'.join(map(str, detail['loc'])).upper()}: {detail['msg']}")
        return 2
    logs.configure(settings.log_level, settings.log_format)
    if settings.auth_mode is AuthMode.NONE and not settings.listens_on_loopback:
        return _complain("AUTH_MODE=none is for this machine alone: listen on 127.0.0.1, or choose AUTH_MODE=local.")
    try:
        listening = _bind(settings.host, settings.port)
    except OSError as error:
        return _complain(_why_not(error, settings))
    with listening:
        try:
            accounts, token = make_accounts(settings)
            app = create_app(settings, accounts)
        except AtelierError as error:
            return _complain(error.message)
        return _serve(app, settings, listening, token)


def _serve(app: FastAPI, settings: Settings, listening: socket.socket, token: str | None) -> int:
    config = uvicorn.Config(
        app,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_max_size=settings.ws_max_frame_bytes,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=PATIENCE_SECONDS,
        backlog=BACKLOG,
    )
    server = _Server(app, config, _address(settings.host, listening), token)
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    except AtelierError as error:
        return _complain(error.message)
    if not server.started:
        return _complain(_startup_error(server))
    return 0


class _Server(uvicorn.Server):
    """Uvicorn's server, which says where it is, and tells WebSocket clients before it goes."""

    def __init__(self, app: FastAPI, config: uvicorn.Config, address: str, token: str | None) -> None:
        super().__init__(config)
        self._app = app
        self._address = address
        self._token = token

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then print the address to open."""
        await super().startup(sockets)
        if self.started:
            self._greet()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close every WebSocket with 1001, then stop."""
        handler: WebSocketHandler | None = getattr(self._app.state, "sockets", None)
        if handler is not None:
            await handler.close_all()
        await super().shutdown(sockets)

    def _greet(self) -> None:
        model: str = self._app.state.services.catalog.default
        url = f"{self._address}/?token={self._token}" if self._token else f"{self._address}/"
        lines = [
            "",
            f"  Atelier is ready at  {url}",
            "  Talk to it with      atelier chat"
            + ("" if self._address.endswith(":8000") else f" --url {self._address}"),
        ]
        if model.startswith("demo@"):
            lines += [
                "",
                "  It answers with a built-in offline demonstration. For a real model set OPENAI_API_KEY",
                "  (or OPENAI_BASE_URL for a server of your own) in the environment or in .env.",
            ]
        print("\n".join(lines) + "\n", flush=True)


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


def _startup_error(server: uvicorn.Server) -> str:
    return "The service could not start; the lines above say why."


def _complain(sentence: str) -> int:
    print(f"atelier: {sentence}", file=sys.stderr)
    return 1
