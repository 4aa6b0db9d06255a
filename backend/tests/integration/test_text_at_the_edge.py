"""Text that no store takes is refused on every wire, wherever it stands."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from pydantic import BaseModel

from app.adapters.inbound import frames
from app.core.domain.errors import AtelierError
from app.core.domain.run import RunStatus
from app.core.domain.user import LOCAL_USER
from app.core.services.answers import ToolApproval
from app.main import create_app
from app.settings import Settings
from tests.client import ENDS, Service
from tests.integration.conftest import Start
from tests.upstream import Upstream

SURROGATE = "bad \\ud800 text"
NUL = "bad \\u0000 text"
MARK = "MARK"
OPAQUE: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("POST", "/invoke"): [
        {"tool": MARK},
        {"tool": "t", "params": {"a": MARK}},
        {"name": MARK, "arguments": {"a": [MARK]}},
        {"type": "function", "function": {"name": "t", "arguments": MARK}},
    ],
    ("POST", "/api/workflows"): [{"1": {"class_type": MARK, "inputs": {"text": MARK}}}],
    ("POST", "/api/conversations/{conversation_id}/workflow/{tool}"): [{"nodeType": MARK}, {MARK: 1}],
    ("POST", "/api/auth/login"): [{"token": MARK}],
    ("POST", "/api/chat"): [
        {"id": "c", "messages": [{"id": MARK, "role": "user", "parts": []}]},
        {"id": "c", "messages": [{"id": "m", "role": "user", "parts": [{"type": "text", "text": MARK}]}]},
        *(
            {"id": "c", "messages": [{"id": "m", "role": "assistant", "parts": [{"toolCallId": "t", **part}]}]}
            for part in (
                {"state": "output-available", "output": {"a": [MARK]}},
                {"state": "output-error", "errorText": MARK},
                {"state": "approval-responded", "approval": {"approved": False, "reason": MARK}},
            )
        ),
    ],
    ("POST", "/v1/chat/completions"): [
        {"model": MARK, "messages": [{"role": "user", "content": "Hi"}]},
        {"model": "atelier", "messages": [{"role": "user", "content": MARK}]},
        {"model": "openai@scripted", "messages": [{"role": "user", "content": [{"type": "text", "text": MARK}]}]},
        {"model": "openai@scripted", "messages": [{"role": "user", "content": "Hi"}], "metadata": {"a": MARK}},
    ],
    ("POST", "/mcp"): [
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t", "arguments": {"a": MARK}}},
        {"jsonrpc": "2.0", "id": 1, "method": MARK},
    ],
    ("POST", "/mcp/builder"): [
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "addNode", "arguments": {"nodeType": MARK}},
        },
    ],
}
"""Bodies whose fields the OpenAPI document does not tell."""


def marked(schema: dict[str, Any], schemas: dict[str, Any]) -> Iterator[Any]:
    """Values of a JSON Schema, each with `MARK` in another place that takes text."""
    if "$ref" in schema:
        yield from marked(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    for option in schema.get("anyOf", ()):
        yield from marked(option, schemas)
    match schema.get("type"):
        case "string" if "enum" not in schema and "const" not in schema:
            yield MARK
        case "array":
            for item in marked(schema.get("items", {}), schemas):
                yield [item]
        case "object":
            for name, inner in schema.get("properties", {}).items():
                for value in marked(inner, schemas):
                    yield {name: value}
            if isinstance(extra := schema.get("additionalProperties"), dict):
                for value in marked(extra, schemas):
                    yield {"a": value}
            elif extra:
                yield {"a": {"b": [MARK]}}
                yield {MARK: 1}


def bodies() -> Iterator[tuple[str, str, Any]]:
    """Every call with a JSON body, with `MARK` in every place that takes text."""
    app = create_app(Settings(_env_file=None, auth_mode="none"))  # pyright: ignore[reportCallIssue, reportArgumentType]
    document = app.openapi()
    for path, item in document["paths"].items():
        for method, call in item.items():
            schema = call.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            if schema is None:
                continue
            found = list(marked(schema, document["components"]["schemas"]))
            assert found or (method.upper(), path) in OPAQUE, f"{method} {path} takes a body that nobody tries"
            yield from ((method.upper(), path, body) for body in found)
    for (method, path), examples in OPAQUE.items():
        yield from ((method, path, body) for body in examples)


CALLS = list(bodies())


@pytest.mark.parametrize("bad", [SURROGATE, NUL], ids=["surrogate", "nul"])
async def test_no_route_takes_bad_text(service: Service, bad: str, caplog: pytest.LogCaptureFixture):
    accept = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    async with service.http() as http:
        made = (await http.post("/api/conversations", json={})).json()["id"]
        for method, path, body in CALLS:
            text = json.dumps(body).replace(MARK, bad)
            url = path.replace("{conversation_id}", made).replace("{tool}", "addNode").replace("{slug}", "a-skill")
            url = url.replace("{run_id}", "run").replace("{provider}", "mistral")
            parameters = {"name": "tool", "save": "true"} if path == "/api/workflows" else {}
            answer = await http.request(method, url, params=parameters, content=text, headers=accept)
            where = f"{method} {path} {text}: {answer.status_code} {answer.text}"
            if path.startswith("/mcp"):
                assert answer.status_code == 400 or '"error"' in answer.text or '"isError":true' in answer.text, where
                continue
            assert answer.status_code in (400, 422), where
            assert "surrogate" in answer.text, where
            assert ".." not in answer.json().get("detail", ""), where
        assert (await service.history(made)) == []
        assert (await http.get("/api/conversations")).json()["items"][0]["title"] is None
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def frame_bodies() -> Iterator[tuple[str, dict[str, Any]]]:
    for model in frames.ClientFrame.__args__:
        kind: type[BaseModel] = model
        schema = kind.model_json_schema()
        name = schema["properties"]["type"]["const"]
        for body in marked(schema, schema.get("$defs", {})):
            yield name, {"type": name, **body}
    yield "tool_result", {"type": "tool_result", "run_id": "r", "tool_call_id": "c", "result": {"a": [MARK]}}
    yield "ping", {"type": "ping", "id": MARK}


@pytest.mark.parametrize("bad", [SURROGATE, NUL], ids=["surrogate", "nul"])
async def test_no_frame_takes_bad_text(service: Service, bad: str):
    async with service.socket() as client:
        for kind, body in frame_bodies():
            await client.connection.send(json.dumps(body).replace(MARK, bad))
            frame = await client.receive()
            assert (frame["type"], frame["code"]) == ("error", "invalid_frame"), (kind, body)
            assert "surrogate" in frame["message"], (kind, body)
        await client.nothing_waits()


@pytest.mark.parametrize("path", ["/api/conversations?q=%00", "/api/skills/a%00b", "/api/models?x=%00", "/%00"])
async def test_no_address_takes_a_nul(service: Service, path: str):
    async with service.http() as http:
        answer = await http.get(path)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_frame")


@pytest.mark.parametrize("body", ["[" * 500 + "]" * 500, '{"a":' * 80 + "1" + "}" * 80, '{"title": NaN}'])
@pytest.mark.parametrize("path", ["/api/conversations", "/v1/chat/completions", "/invoke", "/api/chat"])
async def test_nesting_and_no_numbers_are_refused(service: Service, path: str, body: str):
    async with service.http() as http:
        answer = await http.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert "nested" in answer.text or "not JSON" in answer.text


@pytest.mark.parametrize("field", ['name: "a\\0b"', 'name: "a\\ud800b"'])
async def test_a_skill_file_with_bad_text_is_refused(service: Service, field: str):
    text = f"---\n{field}\ndescription: What for\n---\nDo it.\n"
    async with service.http() as http:
        answer = await http.post("/api/skills/import", content=text, headers={"Content-Type": "text/markdown"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_frame")


async def test_an_answer_that_cannot_be_stored_does_not_hold_its_run(start: Start, upstream: Upstream):
    service = await start(tool_approval={"*": "ask"})

    upstream.calls(("c1", "add", '{"a": 1, "b": 2}'))
    async with service.socket() as client:
        await client.send(type="message", content="Add them")
        call = await client.until("tool_call")
    runs = service.app.state.services.runs
    while (await runs.get(LOCAL_USER, call["run_id"])).status is not RunStatus.WAITING:
        await asyncio.sleep(0.01)
    with suppress(AtelierError, TypeError, ValueError):
        await runs.answer(LOCAL_USER, call["run_id"], ToolApproval("c1", False, "bad \ud800 text"))
    async with service.socket() as client:
        await client.send(type="attach", run_id=call["run_id"])
        await client.until(*ENDS)
        assert (await client.ask("Still there?", conversation_id=call["conversation_id"]))[-1]["type"] == "complete"


async def test_a_long_model_name_is_told_in_characters(service: Service):
    async with service.http() as http:
        answer = await http.post("/api/conversations", json={"model": "m" * 201})
        assert "at most 200 characters" in answer.json()["detail"]
    async with service.socket() as client:
        await client.send(type="message", content="Hi", model="m" * 201)
        assert "at most 200 characters" in (await client.until("error"))["message"]


@pytest.mark.parametrize("key", ["sk-\u0000x", "sk-\nx", "sk-\u001bx", "sk x", "sk-ä", "  "])
async def test_what_cannot_be_a_key_is_refused(service: Service, key: str):
    async with service.http() as http:
        answer = await http.put("/api/providers/mistral/key", json={"key": key})
        assert answer.status_code == 422
        providers = (await http.get("/api/models")).json()["providers"]
    assert not next(one for one in providers if one["id"] == "mistral")["configured"]
