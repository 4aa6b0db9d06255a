"""What the application asks of the place where browser sessions are stored."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that is signed in.

    Attributes:
        digest: the SHA-256 of what its cookie holds, in hexadecimal.
        token_mark: a mark of the token that it signed in with: the session ends when the token changes.
    """

    digest: str
    user_id: str
    token_mark: str
    expires_at: datetime


class ISessionRepository(Protocol):
    """Sessions, shared by all servers of a store."""

    async def add(self, session: Session) -> None:
        """Store a new session."""
        ...

    async def get(self, digest: str) -> Session | None:
        """The session with this digest, expired or not."""
        ...

    async def remove(self, digest: str) -> None:
        """Remove a session; one that is not there already is removed."""
        ...

    async def remove_ended(self, now: datetime, token_mark: str) -> int:
        """Remove the sessions that have expired by `now`, or that another token began; how many there were."""
        ...
