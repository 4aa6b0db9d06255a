"""The cookie of a browser session."""

from starlette.requests import cookie_parser
from starlette.responses import Response

from app.core.services.sessions import LIFETIME


class SessionCookie:
    """A cookie whose name two installations on one host do not share: cookies know no ports.

    Behind TLS it has the prefix that browsers accept from this host alone, and only over TLS.
    """

    def __init__(self, installation_id: str) -> None:
        self._name = f"atelier_session_{installation_id}"

    def name(self, scheme: str) -> str:
        """The cookie's name for requests of `scheme`."""
        return f"__Host-{self._name}" if scheme in ("https", "wss") else self._name

    def read(self, header: str | None, scheme: str) -> str | None:
        """The session in a Cookie header."""
        return cookie_parser(header).get(self.name(scheme)) if header else None

    def put(self, answer: Response, value: str, scheme: str) -> None:
        """Give a browser its session."""
        answer.set_cookie(
            self.name(scheme),
            value,
            max_age=int(LIFETIME.total_seconds()),
            path="/",
            httponly=True,
            samesite="strict",
            secure=scheme == "https",
        )

    def take_back(self, answer: Response, scheme: str) -> None:
        """Have a browser forget its session."""
        answer.delete_cookie(self.name(scheme), path="/", httponly=True, samesite="strict", secure=scheme == "https")
