"""Who may use the service: one local user with a token, or anybody on this machine."""

import hashlib
import hmac
from collections.abc import Callable
from typing import Protocol

from app.core.domain.user import LOCAL_USER, User


class IAccounts(Protocol):
    """Tells who a credential belongs to."""

    def by_token(self, token: str) -> User | None:
        """The user whose bearer token this is."""
        ...

    @property
    def token_mark(self) -> str:
        """A mark of the present token, which does not tell it: another one when the token changes."""
        ...

    @property
    def anonymous(self) -> User | None:
        """The user of a request without a credential, where none is asked for."""
        ...


class LocalAccounts:
    """One user, `local`, and one token, which may change while the service runs."""

    anonymous = None

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token
        self._marked: tuple[str, str] = ("", "")

    def by_token(self, token: str) -> User | None:
        known = self._token()
        return LOCAL_USER if hmac.compare_digest(token.encode("utf-8", "replace"), known.encode()) else None

    @property
    def token_mark(self) -> str:
        token = self._token()
        if self._marked[0] != token:
            self._marked = (token, hmac.digest(token.encode(), b"atelier session", hashlib.sha256).hex()[:32])
        return self._marked[1]


class OpenAccounts:
    """No credential: whoever reaches the service is the local user."""

    anonymous = LOCAL_USER
    token_mark = "open"  # noqa: S105 - there is no token

    def by_token(self, token: str) -> User | None:
        return LOCAL_USER
