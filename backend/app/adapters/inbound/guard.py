"""The guard at the door: which host, from which origin, and who. It stands before every HTTP and WebSocket route."""

import ipaddress
import re
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.adapters.inbound.addresses import NO_PROXIES, counted_as
from app.adapters.inbound.openai_api.errors import PREFIX, body_of, headers_of, status_of
from app.adapters.inbound.problems import problem
from app.adapters.inbound.security_headers import secured
from app.adapters.inbound.session_cookie import SessionCookie
from app.core.domain.errors import AtelierError, Forbidden, InvalidFrame, Unauthenticated
from app.core.domain.user import User
from app.core.services.accounts import IAccounts
from app.core.services.rate_limits import Visitor
from app.core.services.sessions import SessionService, digest_of

UNREAD_PATHS = frozenset({"/favicon.ico", "/api/auth/login", "/api/health/live", "/api/health/ready"})
"""Where nobody asks who somebody is, so that health is told while the store is away."""
OPEN_PATHS = UNREAD_PATHS | {"/"}


MAX_PORT = 65_535
_HOST = re.compile(
    r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?))(?::(?P<port>[0-9]{1,5}))?"
)


class Guard:
    """ASGI middleware that lets a request through with its user in `scope["state"]["user"]`, or refuses it.

    - The Host must be a name of this service, so that no foreign name can be pointed at it (DNS rebinding).
    - An Origin, where a browser sends one, must be this service's own or one that is allowed; `null` never is.
    - A bearer token or a session cookie must be valid, but for health and the login page. A WebSocket with a
      cookie must also say its Origin.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        accounts: IAccounts,
        sessions: Callable[[], SessionService],
        cookie: SessionCookie,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
    ) -> None:
        self._app = app
        self._accounts = accounts
        self._sessions = sessions
        self._cookie = cookie
        self._origins = {origin.rstrip("/").lower() for origin in origins}
        self._hosts = {"localhost", *(host.lower() for host in hosts)}
        self._hosts |= {urlsplit(origin).hostname or "" for origin in self._origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            _check_url(scope)
            self._check_host(headers)
            self._check_origin(headers)
            user, credential = await self._who(scope, headers)
            if user is None and scope["path"] not in OPEN_PATHS and not _is_preflight(scope, headers):
                raise Unauthenticated(
                    "This needs a token. Send it as 'Authorization: Bearer TOKEN', or open the address "
                    "that the service printed at its start."
                )
        except AtelierError as error:
            await refuse(error, scope, receive, send)
            return
        address = counted_as(scope["client"], NO_PROXIES) if scope.get("client") else None
        scope.setdefault("state", {}).update(user=user, visitor=Visitor(credential, address))
        await self._app(scope, receive, send)

    def _check_host(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        host = host_of(hosts[0]) if len(hosts) == 1 else ""
        if host in self._hosts or host.endswith(".localhost") or _is_address(host):
            return
        raise Forbidden("The service is not known by this host name. Add it to ALLOWED_HOSTS.")

    def _check_origin(self, headers: Headers) -> None:
        origin = headers.get("origin")
        if origin is None or origin.lower() in self._origins:
            return
        scheme, _, host = origin.lower().partition("://")
        if scheme in ("http", "https") and host == headers.get("host", "").lower():
            return
        raise Forbidden("Pages of this origin may not use the service. Add it to ALLOWED_ORIGINS.")

    async def _who(self, scope: Scope, headers: Headers) -> tuple[User | None, str]:
        """The user of a request, and the credential that shows it, as `SessionService.is_valid` knows it.

        Raises:
            StorageUnavailable: the sessions cannot be read.
        """
        authorization = headers.get("authorization")
        if authorization is not None:
            scheme, _, token = authorization.partition(" ")
            user = self._accounts.by_token(token.strip()) if scheme.lower() == "bearer" else None
            return user, f"token:{self._accounts.token_mark}"
        if scope["path"] in UNREAD_PATHS:
            return self._accounts.anonymous, ""
        session = self._cookie.read(headers.get("cookie"), scope["scheme"])
        if session is not None and (scope["type"] == "http" or "origin" in headers):
            user = await self._sessions().user(session)
            if user is not None:
                return user, f"session:{digest_of(session)}"
        return self._accounts.anonymous, ""


def host_of(header: str) -> str:
    """The name in a Host header without its port, in lower case; empty where the header is not `name` or `name:port`."""
    match = _HOST.fullmatch(header.lower())
    if match is None or int(match["port"] or 0) > MAX_PORT:
        return ""
    return match["address"] or match["name"]


def _check_url(scope: Scope) -> None:
    if "\0" in scope["path"] or b"%00" in scope["query_string"]:
        raise InvalidFrame("The address holds a NUL character. Remove it and send again.")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_preflight(scope: Scope, headers: Headers) -> bool:
    return scope["type"] == "http" and scope["method"] == "OPTIONS" and "access-control-request-method" in headers


async def refuse(error: AtelierError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the error: on HTTP as a problem, on a WebSocket by refusing the handshake with its status."""
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 4401 if isinstance(error, Unauthenticated) else 1008})
        return
    if scope["type"] == "http" and scope["path"].startswith(PREFIX):
        await Response(body_of(error), status_of(error), headers=_text(headers_of(error)))(scope, receive, send)
        return
    await problem(error)(scope, receive, secured(send) if scope["type"] == "websocket" else send)


def _text(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in headers}
