"""Headers that every answer has: a browser shows nothing of it in a frame, guesses no type, and runs no script in it."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

DEFAULTS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
)
"""What an answer gets that says nothing else itself."""

_STARTS = ("http.response.start", "websocket.http.response.start")


class SecurityHeaders:
    """An ASGI application that adds to the HTTP answers of another what they do not say themselves."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, secured(send) if scope["type"] == "http" else send)


def secured(send: Send) -> Send:
    """`send`, with the headers added to the answer that begins."""

    async def add(message: Message) -> None:
        if message["type"] in _STARTS:
            headers = list(message.get("headers", ()))
            said = {name.lower() for name, _ in headers}
            message = {**message, "headers": headers + [pair for pair in DEFAULTS if pair[0] not in said]}
        await send(message)

    return add
