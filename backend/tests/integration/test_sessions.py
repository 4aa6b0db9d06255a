"""Browser sessions: begun, rotated, and ended on the server."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import bootstrap
from app.adapters.outbound.token_file import TokenFile
from app.core.domain.time import utc_now
from app.core.services import sessions
from app.core.services.sessions import digest_of
from tests.client import Service
from tests.integration.conftest import TOKEN, Start


async def signed_in(service: Service, token: str = TOKEN, **cookies: str) -> str:
    """The session of a browser that has just signed in."""
    async with service.http(headers={}, cookies=cookies) as http:
        answer = await http.get("/", params={"token": token})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert token not in str(answer.headers)
    return answer.cookies[cookie(service)]


def cookie(service: Service, scheme: str = "http") -> str:
    return service.app.state.cookie.name(scheme)


async def status(service: Service, session: str) -> int:
    async with service.http(headers={}, cookies={cookie(service): session}) as http:
        return (await http.get("/api/conversations")).status_code


async def stored(service: Service, session: str) -> Any:
    return await service.app.state.services.store.sessions.get(digest_of(session))


async def test_every_session_is_another_and_only_its_digest_is_stored(service: Service, tmp_path: Path):
    first, second = await signed_in(service), await signed_in(service)
    assert first != second
    assert len(first) >= 43
    assert (await stored(service, first)).digest == digest_of(first)
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or first.encode() not in file.read_bytes(), file


async def test_signing_out_ends_the_session_on_the_server_and_its_sockets(service: Service):
    session = await signed_in(service)
    other = await signed_in(service)
    as_browser = {"Cookie": f"{cookie(service)}={session}", "Origin": service.url}
    service.headers = {}
    async with service.socket(**as_browser) as client:
        async with service.http(headers={}, cookies={cookie(service): session}) as http:
            assert (await http.post("/api/auth/logout")).status_code == 204
        assert await client.closed() == 4401
    assert await status(service, session) == 401
    assert await status(service, other) == 200
    assert await stored(service, session) is None


async def test_signing_in_again_ends_the_session_before(service: Service):
    first = await signed_in(service)
    second = await signed_in(service, **{cookie(service): first})
    assert [await status(service, session) for session in (first, second)] == [401, 200]


async def test_a_session_that_has_expired_is_worth_nothing(service: Service, monkeypatch: pytest.MonkeyPatch):
    session = await signed_in(service)
    assert await status(service, session) == 200
    monkeypatch.setattr(sessions, "utc_now", lambda: utc_now() + timedelta(days=31))
    assert await status(service, session) == 401
    await service.app.state.services.sessions.remove_ended()
    assert await stored(service, session) is None


async def test_sessions_outlive_a_restart(start: Start):
    service = await start()
    session = await signed_in(service)
    await service.stop()
    assert await status(await start(), session) == 200


async def test_another_token_ends_all_sessions_and_sockets(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bootstrap, "CHECK_SESSIONS_SECONDS", 0.05)
    service = await start(atelier_token=None)
    file = TokenFile(tmp_path / "token")
    old = file.load_or_make()
    session = await signed_in(service, old)
    service.headers = {"Authorization": f"Bearer {old}"}
    async with service.socket() as client:
        new = file.rotate()
        assert await client.closed() == 4401
    assert await status(service, session) == 401
    async with httpx.AsyncClient(base_url=service.url) as http:
        for token, expected in ((old, 401), (new, 200)):
            answer = await http.get("/api/conversations", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == expected
    assert await status(service, await signed_in(service, new)) == 200


async def test_behind_tls_the_cookie_is_for_this_host_alone(service: Service):
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7"}
    async with service.http(headers=forwarded) as http:
        answer = await http.post("/api/auth/login", json={"token": TOKEN})
    said = answer.headers["set-cookie"]
    assert said.startswith(f"__Host-{cookie(service)}=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=strict"} <= set(said.split("; "))
    assert "Domain" not in said
    session = said.split("=", 1)[1].partition(";")[0]
    async with service.http(headers=forwarded) as http:
        for name, expected in ((cookie(service, "https"), 200), (cookie(service), 401)):
            answer = await http.get("/api/conversations", headers={"Cookie": f"{name}={session}"})
            assert answer.status_code == expected


async def test_two_installations_on_one_host_have_cookies_of_their_own(start: Start, tmp_path: Path):
    one, other = await start(), await start(data_dir=tmp_path / "other")
    assert cookie(one) != cookie(other)


async def test_a_large_login_is_refused(service: Service):
    async with service.http(headers={}) as http:
        answer = await http.post("/api/auth/login", json={"token": "x" * 20_000})
    assert answer.status_code == 413
