"""Ids that cannot be stored or shown are refused with a sentence on every wire."""

from typing import Any

import pytest

from app.core.domain.ids import new_id
from tests.client import Service

BAD = {"lone surrogate": "\\ud800", "NUL": "\\u0000", "escape": "\\u001b]0;x", "C1": "a\\u009b"}
"""As they stand in JSON."""


def requests_with(bad: str, conversation_id: str) -> dict[str, tuple[str, str]]:
    """For each place that takes an id, a path and a body with `bad` in it."""
    user = '"role": "user", "parts": [{"type": "text", "text": "Hi"}]'
    tool = f'{{"type": "tool-add", "toolCallId": "{bad}", "state": "output-available", "input": {{}}, "output": 1}}'
    said = '"messages": [{"role": "user", "content": "Hi"}]'
    here = f'"id": "{conversation_id}"'
    return {
        "REST message": (
            f"/api/conversations/{conversation_id}/messages",
            f'{{"content": "Hi", "message_id": "{bad}"}}',
        ),
        "AI SDK chat": ("/api/chat", f'{{"id": "{bad}", "messages": [{{"id": "m", {user}}}]}}'),
        "AI SDK message": ("/api/chat", f'{{{here}, "messages": [{{"id": "{bad}", {user}}}]}}'),
        "AI SDK messageId": ("/api/chat", f'{{{here}, "messages": [{{"id": "m", {user}}}], "messageId": "{bad}"}}'),
        "AI SDK call": (
            "/api/chat",
            f'{{{here}, "messages": [{{"id": "m", "role": "assistant", "parts": [{tool}]}}]}}',
        ),
        "OpenAI conversation": (
            "/v1/chat/completions",
            f'{{"model": "atelier", {said}, "metadata": {{"conversation_id": "{bad}"}}}}',
        ),
        "OpenAI message": (
            "/v1/chat/completions",
            f'{{"model": "atelier", {said}, "metadata": {{"conversation_id": "{conversation_id}", "message_id": "{bad}"}}}}',
        ),
        "import": ("/api/conversations/import", f'{{"conversation": {{"id": "{bad}"}}, "messages": []}}'),
    }


def sentence_of(body: dict[str, Any]) -> str:
    return body["error"]["message"] if "error" in body else body["detail"]


PLACES = list(requests_with("", ""))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("bad", BAD.values(), ids=list(BAD))
async def test_a_bad_id_over_http_is_refused(service: Service, place: str, bad: str):
    async with service.http() as http:
        made = (await http.post("/api/conversations", json={})).json()
        path, body = requests_with(bad, made["id"])[place]
        refused = await http.post(path, content=body, headers={"Content-Type": "application/json"})
        assert refused.status_code in (400, 404, 422), refused.text
        assert sentence_of(refused.json()).endswith((".", "'."))
        assert [row["message_count"] for row in (await service.get("/api/conversations"))["items"]] == [0]


@pytest.mark.parametrize("bad", BAD.values(), ids=list(BAD))
async def test_a_bad_id_over_the_socket_is_refused(service: Service, bad: str):
    async with service.socket() as socket:
        for kind, field, rest in (
            ("message", "message_id", '"content": "Hi"'),
            ("message", "conversation_id", '"content": "Hi"'),
            ("edit", "message_id", f'"content": "Hi", "conversation_id": "{new_id()}"'),
            ("regenerate", "message_id", f'"conversation_id": "{new_id()}"'),
            ("retry", "message_id", f'"conversation_id": "{new_id()}"'),
            ("attach", "run_id", '"after": 0'),
            ("cancel", "run_id", '"after": 0'),
            ("tool_result", "tool_call_id", f'"run_id": "{new_id()}", "result": 1'),
            ("tool_approval", "tool_call_id", f'"run_id": "{new_id()}", "approved": true'),
        ):
            await socket.connection.send(f'{{"type": "{kind}", "{field}": "{bad}", {rest}}}')
            error = await socket.until("error")
            assert error["code"] == "invalid_frame"
            assert error["message"].endswith(("again.", "'.")), error["message"]
        await socket.nothing_waits()
    assert (await service.get("/api/conversations"))["items"] == []


@pytest.mark.parametrize("bad", ["%00", "%ED%A0%80", "%1B%5D0;x", "a%0A"])
async def test_a_bad_id_in_a_path_is_refused(service: Service, bad: str):
    async with service.http() as http:
        for path in (f"/api/conversations/{bad}", f"/api/runs/{bad}", f"/api/chat/{bad}/stream", f"/api/files/{bad}"):
            refused = await http.get(path)
            assert refused.status_code in (400, 404, 422), (path, refused.text)
            assert sentence_of(refused.json())
