"""Rate limits, on every wire."""

from typing import Any

import pytest

from app.core.domain.errors import RateLimited
from app.core.services import rate_limits
from app.core.services.rate_limits import ADDRESS_FACTOR, MAX_KEYS, Limited, RateLimits, Visitor
from tests.client import Service
from tests.integration.conftest import TOKEN, Start

USER = [{"role": "user", "content": "Hi"}]
CALLS: list[tuple[str, str, str, Any]] = [
    ("messages_per_minute", "POST", "/api/conversations/none/messages", {"content": "Hi"}),
    ("messages_per_minute", "POST", "/api/chat", {"id": "c"}),
    ("messages_per_minute", "POST", "/v1/chat/completions", {"model": "none@none", "messages": USER}),
    ("messages_per_minute", "POST", "/invoke", {"tool": "none"}),
    ("messages_per_minute", "POST", "/mcp", {}),
    ("uploads_per_minute", "POST", "/api/conversations/import", {"messages": []}),
    ("uploads_per_minute", "POST", "/api/workflows?name=t", {}),
    ("uploads_per_minute", "POST", "/api/skills/import", {}),
    ("searches_per_minute", "GET", "/api/conversations?q=word", None),
    ("sign_ins_per_minute", "POST", "/api/auth/login", {"token": "wrong"}),
    ("sign_ins_per_minute", "GET", "/?token=wrong", None),
]


@pytest.mark.parametrize(("setting", "method", "path", "body"), CALLS, ids=[call[2] for call in CALLS])
async def test_too_many_are_refused(start: Start, setting: str, method: str, path: str, body: Any):
    service = await start(**{setting: 2})
    async with service.http() as http:
        answers = [await http.request(method, path, json=body) for _ in range(3)]
        assert (await http.get("/api/conversations")).status_code == 200
    assert [answer.status_code == 429 for answer in answers] == [False, False, True]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 31
    assert "Try again in" in answers[2].text


async def test_a_socket_is_told_and_stays_open(start: Start):
    service = await start(messages_per_minute=1)
    async with service.socket() as client:
        assert (await client.ask("Hi"))[-1]["type"] == "complete"
        await client.send(type="message", content="And again")
        refused = await client.until("error")
        assert (refused["code"], refused["in_reply_to"], refused["retryable"]) == ("rate_limited", "message", True)
        assert 1 <= refused["retry_after"] <= 61
        await client.nothing_waits()


async def test_zero_is_no_limit(start: Start):
    service = await start(sign_ins_per_minute=0)
    async with service.http(headers={}) as http:
        answers = [await http.post("/api/auth/login", json={"token": "wrong"}) for _ in range(50)]
    assert {answer.status_code for answer in answers} == {401}


async def test_a_session_has_its_own_limit(start: Start):
    service = await start(searches_per_minute=1)
    for _ in range(2):
        async with service.http(headers={}) as http:
            await http.get("/", params={"token": TOKEN})
            statuses = [(await http.get("/api/conversations?q=word")).status_code for _ in range(2)]
        assert statuses == [200, 429]


async def test_ordinary_use_meets_no_limit(service: Service):
    async with service.http() as http:
        for _ in range(200):
            assert (await http.get("/api/conversations?q=word")).status_code == 200


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rate_limits, "time", clock)
    return clock


def test_a_limit_fills_up_again(clock: Clock):
    limits = RateLimits({Limited.MESSAGES: 60})
    ann = Visitor("session:a")
    for _ in range(60):
        limits.count(Limited.MESSAGES, ann)
    with pytest.raises(RateLimited) as refused:
        limits.count(Limited.MESSAGES, ann)
    assert refused.value.retry_after == pytest.approx(1)
    clock.now += 2.5
    for _ in range(2):
        limits.count(Limited.MESSAGES, ann)
    with pytest.raises(RateLimited):
        limits.count(Limited.MESSAGES, ann)
    limits.count(Limited.MESSAGES, Visitor("session:b"))
    limits.count(Limited.SEARCHES, ann)


def test_many_sessions_of_one_address_share_a_limit(clock: Clock):
    limits = RateLimits({Limited.MESSAGES: 5})
    for number in range(5 * ADDRESS_FACTOR):
        limits.count(Limited.MESSAGES, Visitor(f"session:{number}", "192.0.2.1"))
    with pytest.raises(RateLimited):
        limits.count(Limited.MESSAGES, Visitor("session:new", "192.0.2.1"))
    limits.count(Limited.MESSAGES, Visitor("session:new", "192.0.2.2"))


def test_what_is_remembered_is_bounded(clock: Clock):
    limits = RateLimits({Limited.MESSAGES: 5})
    for number in range(2 * MAX_KEYS):
        limits.count(Limited.MESSAGES, Visitor(f"session:{number}"))
    assert len(limits._done_at) == MAX_KEYS
