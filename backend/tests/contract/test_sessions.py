"""Browser sessions, in every store."""

from datetime import timedelta

from app.core.domain.time import utc_now
from app.core.ports import Session, Store


def session(digest: str, *, token_mark: str = "mark", hours: float = 1) -> Session:
    return Session(digest, "ann", token_mark, utc_now() + timedelta(hours=hours))


async def test_a_session_is_found_by_its_digest_until_it_is_removed(store: Store):
    kept, other = session("a"), session("b")
    await store.sessions.add(kept)
    await store.sessions.add(other)
    assert await store.sessions.get("a") == kept
    assert await store.sessions.get("c") is None
    await store.sessions.remove("a")
    await store.sessions.remove("a")
    assert await store.sessions.get("a") is None
    assert await store.sessions.get("b") == other


async def test_ended_sessions_are_removed(store: Store):
    await store.sessions.add(session("valid"))
    await store.sessions.add(session("expired", hours=-1))
    await store.sessions.add(session("of-another-token", token_mark="other"))
    assert await store.sessions.remove_ended(utc_now(), "mark") == 2
    assert await store.sessions.remove_ended(utc_now(), "mark") == 0
    assert await store.sessions.get("valid") is not None
    assert await store.sessions.get("expired") is None
