"""Bad input: each has its code, the socket stays open where it can, and nothing is lost."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from app.core.domain.errors import StorageUnavailable
from tests.client import Service
from tests.integration.conftest import Start
from tests.upstream import Upstream


@pytest.mark.parametrize(
    ("text", "code", "in_reply_to"),
    [
        ("hello", "invalid_frame", None),
        ("", "invalid_frame", None),
        ("[]", "invalid_frame", None),
        (b"\x00\x01", "invalid_frame", None),
        ("[" * 100_000, "invalid_frame", None),
        ('{"type": "dance"}', "unknown_type", "dance"),
        ('{"content": "no type"}', "invalid_frame", None),
        ('{"type": "message"}', "invalid_frame", "message"),
        ('{"type": "message", "content": ""}', "empty_input", "message"),
        ('{"type": "message", "content": " \\n\\t "}', "empty_input", "message"),
        ('{"type": "message", "content": []}', "empty_input", "message"),
        ('{"type": "message", "content": [{"type": "text", "text": " "}]}', "empty_input", "message"),
        ('{"type": "message", "content": "a\\u0000b"}', "invalid_frame", "message"),
        ('{"type": "message", "content": "\\ud800"}', "invalid_frame", None),
        ('{"type": "message", "content": [{"type": "text", "text": "x", "n": NaN}]}', "invalid_frame", "message"),
        ('{"type": "message", "content": "Hi", "conversation_id": "no-such-one"}', "not_found", "message"),
        ('{"type": "message", "content": "Hi", "conversation_id": "../../etc"}', "invalid_frame", "message"),
        ('{"type": "message", "content": "Hi", "model": "nobody@nothing"}', "unknown_model", "message"),
        ('{"type": "message", "content": "Hi", "model": "gpt"}', "unknown_model", "message"),
        ('{"type": "attach", "run_id": "no-such-run"}', "not_found", "attach"),
        ('{"type": "cancel", "run_id": "no-such-run"}', "not_found", "cancel"),
        ('{"type": "attach", "run_id": "r", "after": -1}', "invalid_frame", "attach"),
    ],
)
async def test_a_bad_frame_has_its_code_and_the_socket_stays_open(
    service: Service, text: str | bytes, code: str, in_reply_to: str | None
):
    async with service.socket() as socket:
        await socket.connection.send(text)
        error = await socket.until("error")
        assert (error["code"], error.get("in_reply_to")) == (code, in_reply_to)
        assert "run_id" not in error
        assert error["message"]
        frames = await socket.ask("Still there?")
    assert frames[-1]["type"] == "complete"
    assert len((await service.get("/api/conversations"))["items"]) == 1


async def test_a_frame_that_is_too_large_closes_the_socket_and_nothing_else(service: Service):
    async with service.socket() as one, service.socket() as other:
        await one.connection.send(json.dumps({"type": "message", "content": "x" * 2 * 1024 * 1024}))
        assert await one.closed() == 1009
        assert (await other.ask("Hi"))[-1]["type"] == "complete"
    async with service.socket() as again:
        assert (await again.ask("x" * 900_000))[-1]["type"] == "complete"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/api/conversations?limit=-1", None, 422, "invalid_frame"),
        ("GET", "/api/conversations?limit=0", None, 422, "invalid_frame"),
        ("GET", "/api/conversations?limit=201", None, 422, "invalid_frame"),
        ("GET", "/api/conversations?limit=9223372036854775808", None, 422, "invalid_frame"),
        ("GET", "/api/conversations?cursor=garbage", None, 422, "invalid_frame"),
        ("GET", "/api/conversations?cursor=%00", None, 422, "invalid_frame"),
        ("GET", "/api/conversations?q=a%00b", None, 422, "invalid_frame"),
        ("GET", "/api/conversations/no-such-one", None, 404, "not_found"),
        ("GET", "/api/conversations/no%20id", None, 422, "invalid_frame"),
        ("GET", "/api/conversations/no-such-one/messages", None, 404, "not_found"),
        ("GET", "/api/conversations/no-such-one/messages?before=-1", None, 422, "invalid_frame"),
        ("GET", "/api/conversations/no-such-one/messages?before=99999999999999999999", None, 422, "invalid_frame"),
        ("GET", "/api/conversations/no-such-one/messages?before=1&after=1", None, 422, "invalid_frame"),
        ("GET", "/api/conversations/no-such-one/export?format=pdf", None, 422, "invalid_frame"),
        ("GET", "/api/runs/no-such-run", None, 404, "not_found"),
        ("GET", "/api/runs/no-such-run/events?after=x", None, 422, "invalid_frame"),
        ("POST", "/api/runs/no-such-run/cancel", None, 404, "not_found"),
        ("POST", "/api/conversations", "[]", 422, "invalid_frame"),
        ("POST", "/api/conversations", "{", 422, "invalid_frame"),
        ("POST", "/api/conversations", '{"title": 5}', 422, "invalid_frame"),
        ("POST", "/api/conversations", '{"title": "a\\u0000"}', 422, "invalid_frame"),
        ("POST", "/api/conversations", '{"model": "nobody@x"}', 422, "unknown_model"),
        ("POST", "/api/conversations/no-such-one/messages", '{"content": "Hi"}', 404, "not_found"),
        ("POST", "/api/conversations/no-such-one/messages", '{"content": ""}', 422, "empty_input"),
        (
            "POST",
            "/api/conversations/import",
            '{"messages": [{"role": "alien", "content": "x"}]}',
            422,
            "invalid_frame",
        ),
        ("POST", "/api/conversations/import", '{"messages": [{"content": "x"}]}', 422, "invalid_frame"),
        ("POST", "/api/conversations/import", '{"format": "other/1", "messages": []}', 422, "invalid_frame"),
        (
            "POST",
            "/api/conversations/import",
            '{"messages": [{"role": "user", "content": "x", "metadata": {"n": 1e999}}]}',
            422,
            "invalid_frame",
        ),
        (
            "POST",
            "/api/conversations/import",
            '{"messages": [{"role": "user", "content": "x", "metadata": {"tool_calls": 5}}]}',
            422,
            "invalid_frame",
        ),
        ("POST", "/api/conversations/import", '{"conversation": {"id": "../x"}, "messages": []}', 422, "invalid_frame"),
        *(
            (
                "POST",
                "/api/conversations/import",
                f'{{"messages": [], "workflow": {workflow}}}',
                422,
                "invalid_frame",
            )
            for workflow in (
                '{"nodes": []}',
                '{"nodes": {"1": {}}}',
                '{"nodes": {"0": {"type": "A"}}}',
                '{"nodes": {"1": {"type": "A", "links": {"in": [2, 0]}}}}',
                '{"nodes": {"1": {"type": "A", "values": {"seed": 1e999}}}}',
                '{"last_id": 4294967296}',
            )
        ),
        ("PUT", "/api/conversations", "{}", 405, "invalid_frame"),
        ("GET", "/api/nothing", None, 404, "not_found"),
    ],
)
async def test_a_bad_request_is_a_problem(
    service: Service, method: str, path: str, body: str | None, status: int, code: str
):
    async with service.http() as http:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        answer = await http.request(method, path, content=body, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    problem = answer.json()
    assert (problem["code"], problem["status"]) == (code, status)
    assert {"type", "title", "detail"} <= set(problem)
    assert "Traceback" not in answer.text


async def test_a_body_that_is_too_large_is_refused(service: Service):
    async with service.http() as http:
        answer = await http.post("/api/conversations", json={"system_prompt": "x" * 2_000_000})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_hostile_keys_and_text_come_back_as_they_were(service: Service):
    part: dict[str, Any] = {
        "type": "text",
        "text": "$where '; DROP TABLE messages; --",
        "$where": 1,
        "a.b": {"$gt": ""},
        "": "empty",
    }
    async with service.socket() as socket:
        frames = await socket.ask([part])
    assert (await service.history(frames[0]["conversation_id"]))[0]["content"] == [part]


async def test_what_a_model_sends_is_cleaned_before_it_is_kept(service: Service, upstream: Upstream):
    upstream.script(
        lambda answer: answer.raw(
            b'data: {"choices": [{"index": 0, "delta": {"content": "a\\u0000b"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
        )
    )
    async with service.socket() as socket:
        frames = await socket.ask("Hi")
    assert frames[-1]["type"] == "complete"
    assert (await service.history(frames[0]["conversation_id"]))[1]["content"] == "a\N{REPLACEMENT CHARACTER}b"


async def test_a_data_folder_that_is_a_file_is_told_at_the_start(start: Start, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageUnavailable, match="DATA_DIR"):
        await start(data_dir=tmp_path / "file")


async def test_the_files_of_the_service_are_for_its_user_alone(start: Start, tmp_path: Path):
    await start(atelier_token=None, data_dir=tmp_path / "new")
    assert stat.S_IMODE((tmp_path / "new" / "token").stat().st_mode) == 0o600


async def test_a_wrong_token_opens_nothing(service: Service):
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic c2VjcmV0"},
        {"Authorization": "Bearer"},
    ):
        async with service.http(headers=headers) as http:
            answer = await http.get("/api/conversations")
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
        assert answer.headers["www-authenticate"] == "Bearer"
        with pytest.raises(Exception, match="401"):
            async with connect(service.ws_url, additional_headers=headers):
                pass


async def test_a_socket_that_is_let_go_by_the_client_leaves_nothing_behind(service: Service):
    async with service.socket() as socket:
        await socket.send(type="message", content="Hi")
    with pytest.raises(ConnectionClosed):
        await socket.connection.recv()
    async with service.socket() as socket:
        assert (await socket.ask("Again"))[-1]["type"] == "complete"
    assert service.app.state.sockets.open <= 1
