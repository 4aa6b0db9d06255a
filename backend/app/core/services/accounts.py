"""Who may use the service: one local user with a token, or anybody on this machine."""

import hashlib
import hmac
from typing import Protocol

from app.core.domain.user import LOCAL_USER, User

_SESSION_PURPOSE = b"atelier session"


class IAccounts(Protocol):
    """Tells who a credential belongs to."""

    def by_token(self, token: str) -> User | None:
        """The user whose bearer token this is."""
        ...

    def by_session(self, session: str) -> User | None:
        """The user whose browser session this is."""
        ...

    def log_in(self, token: str) -> str | None:
        """The session value for a browser that showed `token`; None where it is not valid."""
        ...

    @property
    def anonymous(self) -> User | None:
        """The user of a request without a credential, where none is asked for."""
        ...


class LocalAccounts:
    """One user, `local`, and one token. A browser session is derived from the token and ends when it changes."""

    anonymous = None

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._session = hmac.new(self._token, _SESSION_PURPOSE, hashlib.sha256).hexdigest()

    def by_token(self, token: str) -> User | None:
        return LOCAL_USER if hmac.compare_digest(token.encode("utf-8", "replace"), self._token) else None

    def by_session(self, session: str) -> User | None:
        same = hmac.compare_digest(session.encode("utf-8", "replace"), self._session.encode())
        return LOCAL_USER if same else None

    def log_in(self, token: str) -> str | None:
        return self._session if self.by_token(token) else None


class OpenAccounts:
    """No credential: whoever reaches the service is the local user."""

    anonymous = LOCAL_USER

    def by_token(self, token: str) -> User | None:
        return LOCAL_USER

    def by_session(self, session: str) -> User | None:
        return LOCAL_USER

    def log_in(self, token: str) -> str | None:
        return "open"
