"""The REST surface, whole."""

import asyncio
import json
from typing import Any

import pytest

from tests.client import Service, text_of
from tests.integration.conftest import Start
from tests.upstream import Answer, Upstream, endless

BARE = [
    {"role": "user", "content": "What is 2 * 3?"},
    {
        "role": "assistant",
        "content": "",
        "metadata": {"tool_calls": [{"id": "c1", "name": "multiply", "args": {"a": 2, "b": 3}, "type": "tool_call"}]},
    },
    {"role": "tool", "content": "6", "metadata": {"tool_call_id": "c1", "name": "multiply", "status": "success"}},
    {"role": "assistant", "content": "Six."},
]


async def test_a_conversation_is_made_changed_and_deleted(service: Service):
    async with service.http() as http:
        made = await http.post("/api/conversations", json={"title": "Numbers", "model": "demo@offline"})
        assert made.status_code == 201
        conversation = made.json()
        assert set(conversation) == {
            "id", "title", "model", "next_model", "model_options", "system_prompt", "message_count", "archived", "pinned", "active_run_id",
            "tool_approval", "created_at", "updated_at",
        }  # fmt: skip
        assert conversation["created_at"].endswith("Z")
        path = f"/api/conversations/{conversation['id']}"
        changed = await http.patch(path, json={"title": "More numbers", "pinned": True, "system_prompt": "Count."})
        assert changed.status_code == 200
        assert (await http.get(path)).json() == changed.json()
        assert changed.json() | {"updated_at": 0} == conversation | {
            "title": "More numbers",
            "pinned": True,
            "system_prompt": "Count.",
            "updated_at": 0,
        }
        assert (await http.patch(path, json={"model": None})).json()["model"] is None
        assert (await http.delete(path)).status_code == 204
        for gone in (
            await http.get(path),
            await http.delete(path),
            await http.patch(path, json={}),
            await http.get(path + "/messages"),
        ):
            assert (gone.status_code, gone.json()["code"]) == (404, "not_found")


async def test_the_list_is_newest_first_and_goes_on_by_cursor(service: Service):
    async with service.http() as http:
        ids = [(await http.post("/api/conversations", json={"title": f"Number {n}"})).json()["id"] for n in range(7)]
        found: list[str] = []
        cursor: str | None = None
        for size in (3, 3, 1):
            page = (
                await http.get("/api/conversations", params={"limit": 3} | ({"cursor": cursor} if cursor else {}))
            ).json()
            assert len(page["items"]) == size
            found += [item["id"] for item in page["items"]]
            cursor = page["next_cursor"]
        assert cursor is None
        assert found == ids[::-1]
        await http.patch(f"/api/conversations/{ids[2]}", json={"archived": True})
        assert len((await http.get("/api/conversations", params={"archived": "false"})).json()["items"]) == 6
        assert [
            c["id"] for c in (await http.get("/api/conversations", params={"archived": "true"})).json()["items"]
        ] == [ids[2]]


async def test_search_finds_titles_and_what_was_said(service: Service, upstream: Upstream):
    upstream.says("The Möbius strip has one side.")
    async with service.socket() as socket:
        frames = await socket.ask("Tell me about topology")
        await socket.ask("Something else")
    for q in ("topology", "möbius", "MÖB one", "Tell top"):
        assert [c["id"] for c in (await service.get("/api/conversations", q=q))["items"]] == [
            frames[0]["conversation_id"]
        ], q
    for q in ("topologyx", "möbius else", '"; DROP TABLE', "NEAR("):
        assert (await service.get("/api/conversations", q=q))["items"] == [], q


async def test_history_is_read_in_pages_both_ways(service: Service):
    async with service.http() as http:
        many = [{"role": "user", "content": str(n)} for n in range(1, 26)]
        conversation = (await http.post("/api/conversations/import", json={"messages": many})).json()
        path = f"/api/conversations/{conversation['id']}/messages"

        async def page(**parameters: int | str) -> tuple[list[int], str | None]:
            answer = (await http.get(path, params=parameters)).json()
            return [message["seq"] for message in answer["items"]], answer["next_cursor"]

        assert await page(limit=10) == (list(range(16, 26)), "16")
        assert await page(limit=10, before=16) == (list(range(6, 16)), "6")
        assert await page(limit=10, before="6") == (list(range(1, 6)), None)
        assert await page(limit=10, after=0) == (list(range(1, 11)), "10")
        assert await page(limit=10, after=20) == (list(range(21, 26)), None)
        assert await page(limit=10, after=25) == ([], None)
        assert await page(before=1) == ([], None)


async def test_a_program_runs_a_turn_with_one_call(service: Service, upstream: Upstream):
    async with service.http() as http:
        made = (await http.post("/api/conversations", json={})).json()
        upstream.calls(("call_1", "multiply", '{"a": 12, "b": 34}'))
        upstream.says("408")
        body = {"content": "What is 12 * 34?", "message_id": "m-1"}
        answer = await http.post(f"/api/conversations/{made['id']}/messages", json=body)
        assert answer.status_code == 200
        turn = answer.json()
        assert turn["messages"] == await service.history(made["id"])
        assert [m["role"] for m in turn["messages"]] == ["user", "assistant", "tool", "assistant"]
        again = await http.post(f"/api/conversations/{made['id']}/messages", json=body)
        assert again.json() == turn
        run = (await http.get(f"/api/runs/{turn['run_id']}")).json()
        assert (run["status"], run["message_id"], run["finish_reason"]) == ("completed", "m-1", "stop")
        assert (await http.get(f"/api/conversations/{made['id']}")).json()["title"] == "What is 12 * 34?"


@pytest.mark.parametrize(
    ("status", "expected", "code"),
    [
        (429, 429, "provider_rate_limited"),
        (401, 503, "provider_not_configured"),
        (500, 502, "provider_unavailable"),
        (400, 502, "provider_rejected"),
    ],
)
async def test_a_turn_that_fails_is_a_problem_with_its_run(
    service: Service, upstream: Upstream, status: int, expected: int, code: str
):
    upstream.refuses(status, {"message": "no"})
    async with service.http() as http:
        made = (await http.post("/api/conversations", json={})).json()
        answer = await http.post(f"/api/conversations/{made['id']}/messages", json={"content": "Hi"})
        assert answer.status_code == expected
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["code"] == code
        assert problem["type"].endswith(code)
        assert (await http.get(f"/api/runs/{problem['run_id']}")).json()["status"] == "failed"
        assert [m["content"] for m in problem["messages"]] == ["Hi"]


async def events_of(
    service: Service, run_id: str, *, header: int | None = None, **parameters: Any
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    headers = {"Last-Event-ID": str(header)} if header is not None else {}
    async with (
        service.http() as http,
        http.stream("GET", f"/api/runs/{run_id}/events", params=parameters, headers=headers) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        event_id = None
        async for line in answer.aiter_lines():
            if line.startswith("id: "):
                event_id = int(line[4:])
            if line.startswith("data: "):
                found.append(json.loads(line[6:]))
                assert found[-1]["seq"] == event_id
    return found


async def test_the_events_of_a_run_are_a_stream_that_can_be_taken_up_again(service: Service, upstream: Upstream):
    gate = asyncio.Event()

    async def slow(answer: Answer) -> None:
        await answer.delta(content="One ")
        await gate.wait()
        await answer.say("two.")

    upstream.script(slow)
    async with service.socket() as socket:
        await socket.send(type="message", content="Hello")
        seen = await socket.until("token")
        listening = asyncio.create_task(events_of(service, seen["run_id"]))
        gate.set()
        await socket.until("complete")
    frames = socket.frames[1:]
    assert await listening == frames
    assert await events_of(service, seen["run_id"], after=seen["seq"]) == frames[seen["seq"] :]
    assert await events_of(service, seen["run_id"], header=seen["seq"]) == frames[seen["seq"] :]
    assert text_of(frames) == "One two."


async def test_a_run_is_stopped_over_rest(service: Service, upstream: Upstream):
    upstream.script(endless)
    async with service.socket() as socket, service.http() as http:
        await socket.send(type="message", content="Hello")
        seen = await socket.until("token")
        stopped = (await http.post(f"/api/runs/{seen['run_id']}/cancel")).json()
        assert stopped["status"] == "cancelled"
        assert (await http.post(f"/api/runs/{seen['run_id']}/cancel")).json() == stopped
    assert (await service.get(f"/api/conversations/{seen['conversation_id']}"))["active_run_id"] is None


async def test_a_conversation_that_is_being_answered_can_be_deleted(service: Service, upstream: Upstream):
    upstream.script(endless)
    async with service.socket() as socket, service.http() as http:
        await socket.send(type="message", content="Hello")
        seen = await socket.until("token")
        assert (await service.get(f"/api/conversations/{seen['conversation_id']}"))["active_run_id"] == seen["run_id"]
        assert (await http.delete(f"/api/conversations/{seen['conversation_id']}")).status_code == 204
        await socket.until("cancelled")
        assert (await http.get(f"/api/runs/{seen['run_id']}")).status_code == 404
    await asyncio.wait_for(upstream.closed_early.wait(), 5)


async def test_an_export_comes_back_as_it_was(service: Service, upstream: Upstream):
    upstream.calls(("call_1", "add", '{"a": 1, "b": 1}'))
    async with service.socket() as socket:
        frames = await socket.ask("Say *hello* — 日本")
    path = f"/api/conversations/{frames[0]['conversation_id']}"
    async with service.http() as http:
        export = await http.get(path + "/export")
        assert export.headers["content-disposition"] == 'attachment; filename="say-hello.json"'
        document = export.json()
        assert document["format"] == "atelier.conversation/1"
        history = await service.history(frames[0]["conversation_id"])
        assert document["messages"] == history

        copy = (await http.post("/api/conversations/import", json=document)).json()
        assert copy["id"] != document["conversation"]["id"]
        copied = await service.history(copy["id"])
        assert [m | {"conversation_id": 0} for m in copied] == [m | {"conversation_id": 0} for m in history]

        await http.delete(path)
        back = await http.post("/api/conversations/import", json=document)
        assert back.status_code == 201
        assert back.json()["id"] == frames[0]["conversation_id"]
        assert await service.history(back.json()["id"]) == history
        assert (await http.get(path + "/export")).json() == document
    async with service.socket() as socket:
        more = await socket.ask("Go on", conversation_id=frames[0]["conversation_id"])
    assert more[-1]["type"] == "complete"
    assert [m["seq"] for m in await service.history(frames[0]["conversation_id"])] == [1, 2, 3, 4, 5, 6]


async def test_an_export_for_people_is_markdown(service: Service, upstream: Upstream):
    upstream.calls(("call_1", "add", '{"a": 1, "b": 1}'))
    upstream.says("It is **two**.")
    async with service.socket() as socket:
        frames = await socket.ask("What is 1 + 1?")
    async with service.http() as http:
        export = await http.get(
            f"/api/conversations/{frames[0]['conversation_id']}/export", params={"format": "markdown"}
        )
    assert export.headers["content-type"] == "text/markdown; charset=utf-8"
    for part in ("# What is 1 + 1?", "It is **two**.", "add", "2"):
        assert part in export.text


async def test_bare_messages_are_imported_in_order(service: Service, upstream: Upstream):
    async with service.http() as http:
        made = (await http.post("/api/conversations/import", json={"title": "Old", "messages": BARE})).json()
    history = await service.history(made["id"])
    assert [(m["seq"], m["role"], m["content"]) for m in history] == [
        (n, m["role"], m["content"]) for n, m in enumerate(BARE, 1)
    ]
    assert (made["title"], made["message_count"]) == ("Old", 4)
    async with service.socket() as socket:
        await socket.ask("And now?", conversation_id=made["id"])
    assert [m["role"] for m in upstream.requests[-1]["messages"]] == ["user", "assistant", "tool", "assistant", "user"]


@pytest.mark.imports_broken_history
async def test_a_broken_history_is_repaired_for_the_model(service: Service, upstream: Upstream):
    broken = [
        BARE[0],
        BARE[1],
        BARE[3],
        BARE[2],
        {"role": "tool", "content": "stray", "metadata": {"tool_call_id": "nobody"}},
    ]
    async with service.http() as http:
        made = (await http.post("/api/conversations/import", json={"messages": broken})).json()
    async with service.socket() as socket:
        frames = await socket.ask("And now?", conversation_id=made["id"])
    assert frames[-1]["type"] == "complete"
    assert [m["role"] for m in upstream.requests[-1]["messages"]] == ["user", "assistant", "tool", "assistant", "user"]
    assert len(await service.history(made["id"])) == 7


async def test_ten_thousand_messages_are_imported_at_once_and_not_one_more(service: Service):
    many = [{"role": "user", "content": f"Message {n}"} for n in range(10_001)]
    async with service.http() as http:
        refused = await http.post("/api/conversations/import", json={"messages": many})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_frame")
        made = await http.post("/api/conversations/import", json={"messages": many[:-1]})
        assert made.json()["message_count"] == 10_000
    assert [
        m["seq"] for m in (await service.get(f"/api/conversations/{made.json()['id']}/messages", limit=2))["items"]
    ] == [9_999, 10_000]


async def test_models_health_and_figures(start: Start, service: Service):
    models = (await service.get("/api/models"))["items"]
    assert models[0] == {
        "id": "openai@scripted",
        "provider": "openai",
        "name": "scripted",
        "default": True,
        "retires_soon": False,
    }
    assert models[-1]["id"] == "demo@offline"
    async with service.http(headers={}) as http:
        for path in ("/api/health/live", "/api/health/ready"):
            answer = await http.get(path)
            assert (answer.status_code, answer.json()["status"]) == (200, "ok")
        assert (await http.get("/metrics")).status_code == 401
    async with service.socket() as socket:
        await socket.ask("Hi")
    async with service.http() as http:
        figures = (await http.get("/metrics")).text
    assert 'atelier_runs_total{status="completed"}' in figures
    assert "atelier_runs_active 0.0" in figures


async def test_the_page_of_the_interface_has_examples_and_needs_no_other_site(service: Service):
    async with service.http() as http:
        document = (await http.get("/openapi.json")).json()
        page = (await http.get("/docs")).text
    assert "https://" not in page.replace("https://fastapi.tiangolo.com", "")
    paths = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    for wanted in [
        ("POST", "/api/conversations"), ("GET", "/api/conversations"), ("GET", "/api/conversations/{conversation_id}"),
        ("PATCH", "/api/conversations/{conversation_id}"), ("DELETE", "/api/conversations/{conversation_id}"),
        ("GET", "/api/conversations/{conversation_id}/messages"), ("POST", "/api/conversations/{conversation_id}/messages"),
        ("GET", "/api/conversations/{conversation_id}/export"), ("POST", "/api/conversations/import"), ("GET", "/api/runs/{run_id}"),
        ("POST", "/api/runs/{run_id}/cancel"), ("GET", "/api/runs/{run_id}/events"), ("GET", "/api/models"),
        ("GET", "/api/health/live"), ("GET", "/api/health/ready"), ("GET", "/metrics"),
    ]:  # fmt: skip
        assert wanted in paths
    assert "example" in document["components"]["schemas"]["ConversationOut"]
    assert "examples" in document["components"]["schemas"]["NewMessage"]["properties"]["content"]
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    assert all(operation.get("summary") for operation in operations)
