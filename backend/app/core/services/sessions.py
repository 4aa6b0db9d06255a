"""Browser sessions: begun with the token, ended by signing out, by time, or by another token."""

import hashlib
import logging
import secrets
import time
from datetime import timedelta

from app.core.domain.time import utc_now
from app.core.domain.user import User
from app.core.ports import ISessionRepository, Session
from app.core.services.accounts import IAccounts

logger = logging.getLogger(__name__)

LIFETIME = timedelta(days=30)
KNOWN_SECONDS = 5.0
"""How long a session is taken for valid without asking the store, which another server may have changed."""
MAX_KNOWN = 1_000


class SessionService:
    """Knows which browsers are signed in. A cookie's value is stored as its digest alone."""

    def __init__(self, repository: ISessionRepository, accounts: IAccounts) -> None:
        self._repository = repository
        self._accounts = accounts
        self._known: dict[str, tuple[Session, float]] = {}

    async def begin(self, token: str, replacing: str | None = None) -> str | None:
        """A new session for a browser that shows `token`, in place of the one that it had; None for a wrong token.

        Raises:
            StorageUnavailable: it cannot be stored.
        """
        user = self._accounts.by_token(token)
        if user is None:
            return None
        value = secrets.token_urlsafe(32)
        session = Session(digest_of(value), user.id, self._accounts.token_mark, utc_now() + LIFETIME)
        await self._repository.add(session)
        if replacing is not None:
            await self.end(replacing)
        return value

    async def user(self, value: str) -> User | None:
        """Who is signed in with the cookie's `value`.

        Raises:
            StorageUnavailable: the store cannot be asked.
        """
        session = await self._find(digest_of(value))
        return User(id=session.user_id, name=session.user_id) if session is not None else None

    async def end(self, value: str) -> None:
        """Sign the browser out.

        Raises:
            StorageUnavailable: the session is still stored.
        """
        digest = digest_of(value)
        await self._repository.remove(digest)
        self._known.pop(digest, None)

    async def is_valid(self, credential: str) -> bool:
        """Whether what a connection was opened with is still valid: `session:DIGEST`, `token:MARK` or nothing."""
        kind, _, value = credential.partition(":")
        if kind == "session":
            return await self._find(value) is not None
        return kind != "token" or value == self._accounts.token_mark

    async def remove_ended(self) -> None:
        """Remove the sessions that have ended from the store."""
        if removed := await self._repository.remove_ended(utc_now(), self._accounts.token_mark):
            logger.info("removed %d sessions that had ended", removed)

    async def _find(self, digest: str) -> Session | None:
        """The session with `digest`, if it is valid."""
        now = time.monotonic()
        known = self._known.get(digest)
        if known is not None and known[1] > now:
            session: Session | None = known[0]
        else:
            session = await self._repository.get(digest)
            self._remember(digest, session, now)
        if session is None or session.expires_at <= utc_now() or session.token_mark != self._accounts.token_mark:
            return None
        return session

    def _remember(self, digest: str, session: Session | None, now: float) -> None:
        self._known.pop(digest, None)
        if session is not None:
            self._known[digest] = (session, now + KNOWN_SECONDS)
            if len(self._known) > MAX_KNOWN:
                del self._known[next(iter(self._known))]


def digest_of(value: str) -> str:
    """How a cookie's value is stored."""
    return hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()
