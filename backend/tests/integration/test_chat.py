"""Turns over the WebSocket: what a client is sent, and what is kept."""

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from app import bootstrap
from app.adapters.outbound.run_log.memory import MemoryRunLog
from tests.client import Service, kinds, text_of
from tests.integration.conftest import Start
from tests.upstream import Answer, Upstream, paused


def roles(history: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(message["seq"], message["role"]) for message in history]


FOUR = [(1, "user"), (2, "assistant"), (3, "tool"), (4, "assistant")]


async def test_a_question_is_answered_with_a_tool_and_kept(demo: Service):
    async with demo.socket() as socket:
        frames = await socket.ask("What is 12 * 34?")
    expected = [
        "accepted",
        "started",
        "message",
        "message",
        "tool_call",
        "tool_result",
        "message",
        "token",
        "message",
        "complete",
    ]
    assert kinds(frames) == expected
    call = next(frame for frame in frames if frame["type"] == "tool_call")
    assert (call["name"], call["arguments"], call["executor"], call["needs_approval"]) == (
        "multiply",
        {"a": 12, "b": 34},
        "server",
        False,
    )
    result = next(frame for frame in frames if frame["type"] == "tool_result")
    assert (result["content"], result["is_error"], result["tool_call_id"]) == ("408", False, call["tool_call_id"])
    assert "408" in text_of(frames)

    history = await demo.history(frames[0]["conversation_id"])
    assert roles(history) == FOUR
    user, called, answered, final = history
    assert user["id"] == frames[0]["message_id"]
    assert called["metadata"]["tool_calls"] == [
        {"id": call["tool_call_id"], "name": "multiply", "args": {"a": 12, "b": 34}, "type": "tool_call"}
    ]
    assert answered["metadata"] == {"tool_call_id": call["tool_call_id"], "name": "multiply", "status": "success"}
    assert final["content"] == text_of(frames)
    assert [m["parent_id"] for m in history] == [None, user["id"], called["id"], answered["id"]]
    assert [frame["message"] for frame in frames if frame["type"] == "message"] == history


async def test_every_event_of_a_run_is_numbered_without_a_gap(demo: Service):
    async with demo.socket() as socket:
        frames = await socket.ask("Calculate 5 * 3, then multiply that by 2")
    assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    assert len({(frame["run_id"], frame["conversation_id"]) for frame in frames}) == 1


async def test_a_conversation_goes_on_after_a_restart(start: Start, upstream: Upstream):
    async def ten_more(service: Service, conversation_id: str) -> None:
        async with service.socket() as socket:
            for number in range(10):
                await socket.ask(f"Question {number}", conversation_id=conversation_id)

    first = await start()
    upstream.calls(("call_1", "multiply", '{"a": 12, "b": 34}'))
    upstream.says("It is ", "408.")
    async with first.socket() as socket:
        frames = await socket.ask("What is 12 * 34?")
    conversation_id = frames[0]["conversation_id"]
    before = await first.history(conversation_id)
    await first.stop()

    second = await start()
    assert await second.history(conversation_id) == before
    assert roles(before) == FOUR
    await ten_more(second, conversation_id)
    history = await second.history(conversation_id)
    assert [message["seq"] for message in history] == list(range(1, 25))
    assert len({message["id"] for message in history}) == 24
    assert history[:4] == before
    # The model saw all of it, once, each call with its result.
    last = upstream.requests[-1]["messages"]
    assert [message["role"] for message in last][:5] == ["user", "assistant", "tool", "assistant", "user"]
    assert len(last) == 23
    assert last[1]["tool_calls"][0]["id"] == last[2]["tool_call_id"] == "call_1"


async def test_a_message_sent_twice_runs_once(service: Service, upstream: Upstream):
    async with service.socket() as socket:
        first = await socket.ask("Hello", message_id="m-1")
        again = await socket.ask("Hello", message_id="m-1")
    assert again == first
    assert len(upstream.requests) == 1
    assert len(await service.history(first[0]["conversation_id"])) == 2


async def test_a_message_sent_twice_at_once_runs_once(service: Service, upstream: Upstream):
    async with service.socket() as one, service.socket() as two:
        first, second = await asyncio.gather(one.ask("Hello", message_id="m-1"), two.ask("Hello", message_id="m-1"))
    assert first == second
    assert len(upstream.requests) == 1


async def test_a_message_sent_again_while_it_runs_is_acknowledged_again(service: Service, upstream: Upstream):
    gate = asyncio.Event()
    upstream.script(paused(gate))
    async with service.socket() as socket:
        await socket.send(type="message", content="Hello", message_id="m-1")
        accepted = await socket.until("accepted")
        await socket.send(type="message", content="Hello", message_id="m-1")
        assert await socket.until("accepted") == accepted
        gate.set()
        await socket.until("complete")
    assert len(upstream.requests) == 1


async def test_a_queued_message_sent_again_once_it_runs_is_acknowledged_as_the_first_time(
    service: Service, upstream: Upstream
):
    first, second = asyncio.Event(), asyncio.Event()
    upstream.script(paused(first))
    upstream.script(paused(second))
    async with service.socket() as socket:
        await socket.send(type="message", content="First")
        begun = await socket.until("accepted")
        frame = {"content": "Second", "message_id": "m-2", "conversation_id": begun["conversation_id"]}
        await socket.send(type="message", **frame)
        accepted = await socket.until("accepted")
        assert accepted["queued"] is True
        first.set()
        while (await socket.until("started"))["run_id"] != accepted["run_id"]:
            pass
        await socket.send(type="message", **frame)
        assert await socket.until("accepted") == accepted
        second.set()


async def test_a_busy_conversation_refuses_when_asked_to(service: Service, upstream: Upstream):
    gate = asyncio.Event()
    upstream.script(paused(gate))
    async with service.socket() as socket:
        await socket.send(type="message", content="First")
        begun = await socket.until("token")
        await socket.send(type="message", content="Second", conversation_id=begun["conversation_id"], on_busy="reject")
        refused = await socket.until("error")
        assert (refused["code"], refused["retryable"], refused["in_reply_to"]) == ("conversation_busy", True, "message")
        assert "run_id" not in refused
        gate.set()
        await socket.until("complete")
    assert [m["content"] for m in await service.history(begun["conversation_id"])] == ["First", "One two."]


async def test_a_busy_conversation_queues_in_order(service: Service, upstream: Upstream):
    gate = asyncio.Event()
    upstream.script(paused(gate))
    async with service.socket() as socket:
        await socket.send(type="message", content="First")
        begun = await socket.until("token")
        for text in ("Second", "Third"):
            await socket.send(type="message", content=text, conversation_id=begun["conversation_id"])
            accepted = await socket.until("accepted")
            assert accepted["queued"] is True
        assert (await service.get(f"/api/runs/{accepted['run_id']}"))["status"] == "queued"
        gate.set()
        await socket.until("complete", where=lambda frame: frame["run_id"] == accepted["run_id"])
    history = await service.history(begun["conversation_id"])
    assert [m["content"] for m in history] == [
        "First",
        "One two.",
        "Second",
        "You said: Second",
        "Third",
        "You said: Third",
    ]
    of_last = [frame for frame in socket.frames if frame.get("run_id") == accepted["run_id"]]
    assert kinds(of_last) == ["accepted", "started", "message", "token", "message", "complete"]


async def test_a_new_message_can_take_the_place_of_the_answer(service: Service, upstream: Upstream):
    upstream.script(paused(asyncio.Event()))
    async with service.socket() as socket:
        await socket.send(type="message", content="First")
        begun = await socket.until("token")
        await socket.send(
            type="message", content="Second", conversation_id=begun["conversation_id"], on_busy="interrupt"
        )
        await socket.until("complete")
    history = await service.history(begun["conversation_id"])
    assert [m["content"] for m in history] == ["First", "One ", "Second", "You said: Second"]
    assert history[1]["metadata"]["partial"] is True
    assert (await service.get(f"/api/runs/{begun['run_id']}"))["status"] == "cancelled"
    assert upstream.closed_early.is_set()


async def test_a_run_goes_on_when_its_client_leaves(service: Service, upstream: Upstream):
    gate = asyncio.Event()
    upstream.script(paused(gate))
    async with service.socket() as socket:
        await socket.send(type="message", content="Hello")
        seen = await socket.until("token")
    gate.set()
    async with service.socket() as socket:
        await socket.send(type="attach", run_id=seen["run_id"], after=seen["seq"])
        await socket.until("complete")
        rest = socket.frames[1:]
    assert rest[0]["seq"] == seen["seq"] + 1
    assert text_of([seen, *rest]) == "One two."


async def test_a_second_socket_gets_everything_and_then_what_comes(service: Service, upstream: Upstream):
    gate = asyncio.Event()
    upstream.script(paused(gate))
    async with service.socket() as one, service.socket() as two:
        await one.send(type="message", content="Hello")
        seen = await one.until("token")
        await two.send(type="attach", run_id=seen["run_id"])
        await two.until("token")
        gate.set()
        await asyncio.gather(one.until("complete"), two.until("complete"))
        assert one.frames[1:] == two.frames[1:]


async def test_attaching_twice_with_nothing_between_tells_nothing_twice(service: Service, upstream: Upstream):
    gate = asyncio.Event()
    upstream.script(paused(gate))
    async with service.socket() as socket:
        await socket.send(type="message", content="Hello")
        seen = await socket.until("token")
        for _ in range(2):
            await socket.send(type="attach", run_id=seen["run_id"], after=seen["seq"])
            await socket.nothing_waits()
        gate.set()
        await socket.until("complete")
    tokens = [frame for frame in socket.frames if frame["type"] == "token"]
    assert text_of(tokens) == "One two."


async def test_a_run_that_has_ended_can_be_attached_to(service: Service, upstream: Upstream):
    upstream.says("Hello ", "there")
    async with service.socket() as socket:
        frames = await socket.ask("Hi")
        await socket.send(type="attach", run_id=frames[0]["run_id"], after=3)
        await socket.until("complete")
        assert socket.frames[1 + len(frames) :] == frames[3:]


async def test_a_run_is_told_again_number_for_number_after_a_restart(start: Start, upstream: Upstream):
    first = await start()
    upstream.calls(("call_1", "divide", '{"a": 1, "b": 0}'))
    upstream.script(paused(gate := asyncio.Event(), first="It has ", last="no result."))
    async with first.socket() as socket:
        await socket.send(type="message", content="What is 1 / 0?")
        await socket.until("token")
        gate.set()
        await socket.until("complete")
        frames = socket.frames[1:]
    await first.stop()
    second = await start()
    async with second.socket() as socket:
        await socket.send(type="attach", run_id=frames[0]["run_id"])
        await socket.until("complete")
        assert socket.frames[1:] == frames


async def test_a_stopped_answer_is_kept_and_marked(service: Service, upstream: Upstream):
    upstream.script(paused(asyncio.Event()))
    async with service.socket() as socket:
        await socket.send(type="message", content="Hello")
        seen = await socket.until("token")
        await socket.send(type="cancel", run_id=seen["run_id"])
        cancelled = await socket.until("cancelled")
        after = await socket.ask("Go on", conversation_id=seen["conversation_id"])
    history = await service.history(seen["conversation_id"])
    assert [m["content"] for m in history] == ["Hello", "One ", "Go on", "You said: Go on"]
    assert cancelled["message_id"] == history[1]["id"]
    assert (history[1]["metadata"]["partial"], history[1]["metadata"]["finish_reason"]) == (True, "cancelled")
    assert (await service.get(f"/api/runs/{seen['run_id']}"))["status"] == "cancelled"
    assert after[-1]["type"] == "complete"
    await asyncio.wait_for(upstream.closed_early.wait(), 5)


async def test_stopping_twice_or_too_late_changes_nothing(service: Service, upstream: Upstream):
    async with service.socket() as socket:
        frames = await socket.ask("Hello")
        for _ in range(2):
            await socket.send(type="cancel", run_id=frames[0]["run_id"])
            assert (await socket.until("complete"))["seq"] == frames[-1]["seq"]
    assert (await service.get(f"/api/runs/{frames[0]['run_id']}"))["status"] == "completed"


async def test_a_queued_run_can_be_stopped(service: Service, upstream: Upstream):
    gate = asyncio.Event()
    upstream.script(paused(gate))
    async with service.socket() as socket:
        await socket.send(type="message", content="First")
        begun = await socket.until("token")
        await socket.send(type="message", content="Second", conversation_id=begun["conversation_id"])
        waiting = await socket.until("accepted")
        await socket.send(type="cancel", run_id=waiting["run_id"])
        assert (await socket.until("cancelled"))["run_id"] == waiting["run_id"]
        gate.set()
        await socket.until("complete")
        await socket.ask("Third", conversation_id=begun["conversation_id"])
    # What was acknowledged is kept, though nobody answered it.
    contents = [m["content"] for m in await service.history(begun["conversation_id"])]
    assert contents == ["First", "One two.", "Second", "Third", "You said: Third"]


async def test_a_model_that_fails_leaves_a_failed_run_and_a_conversation_that_goes_on(
    service: Service, upstream: Upstream
):
    upstream.refuses(429, {"message": "slow down"}, **{"Retry-After": "7"})
    async with service.socket() as socket:
        frames = await socket.ask("Hello")
        error = frames[-1]
        assert (error["type"], error["code"], error["retryable"]) == ("error", "provider_rate_limited", True)
        assert error["seq"] == len(frames)
        run = await service.get(f"/api/runs/{error['run_id']}")
        assert (run["status"], run["error"]["code"]) == ("failed", "provider_rate_limited")
        assert run["ended_at"] is not None
        again = await socket.ask("Again", conversation_id=error["conversation_id"])
    assert again[-1]["type"] == "complete"
    assert [m["content"] for m in await service.history(error["conversation_id"])] == [
        "Hello",
        "Again",
        "You said: Again",
    ]


async def test_an_answer_that_breaks_off_is_kept_and_marked(service: Service, upstream: Upstream):
    async def break_off(answer: Answer) -> None:
        await answer.delta(content="Once upon")
        answer.cut()

    upstream.script(break_off)
    async with service.socket() as socket:
        frames = await socket.ask("Tell")
    history = await service.history(frames[0]["conversation_id"])
    assert frames[-1]["code"] == "provider_unavailable"
    assert history[1]["content"] == text_of(frames) == "Once upon"
    assert history[1]["metadata"]["partial"] is True


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("divide", '{"a": 1, "b": 0}', "Division by zero"),
        ("multiply", '{"a": 1e200, "b": 1e200}', "too large"),
        ("multiply", '{"a": "abc", "b": "xyz"}', "do not fit"),
        ("multiply", '{"a": 1', "not valid JSON"),
        ("multiply", "[1, 2]", "not a JSON object"),
        ("nothing", "{}", "no tool named 'nothing'"),
    ],
)
async def test_a_tool_error_is_seen_by_the_model_and_ends_nothing(
    service: Service, upstream: Upstream, name: str, arguments: str, said: str
):
    upstream.calls(("call_1", name, arguments))
    upstream.says("I see.")
    async with service.socket() as socket:
        frames = await socket.ask("Go")
    result = next(frame for frame in frames if frame["type"] == "tool_result")
    assert result["is_error"] is True
    assert said in result["content"]
    assert frames[-1]["type"] == "complete"
    seen = upstream.requests[1]["messages"][-1]
    assert (seen["role"], seen["tool_call_id"]) == ("tool", "call_1")
    assert said in seen["content"]
    assert roles(await service.history(frames[0]["conversation_id"])) == FOUR


async def test_tools_without_end_are_stopped_with_a_message(start: Start, upstream: Upstream):
    service = await start(max_tool_rounds=2)
    for number in range(3):
        upstream.calls((f"call_{number}", "add", '{"a": 1, "b": 1}'))
    async with service.socket() as socket:
        frames = await socket.ask("Go")
        assert (frames[-1]["type"], frames[-1]["code"]) == ("error", "tool_loop_limit")
        history = await service.history(frames[0]["conversation_id"])
        assert "MAX_TOOL_ROUNDS" in history[-1]["content"]
        assert len(history) == 6
        assert len(upstream.requests) == 2
        again = await socket.ask("And now?", conversation_id=frames[0]["conversation_id"])
    assert again[-1]["type"] == "complete"


async def test_usage_is_added_up_over_the_steps_of_a_run(service: Service, upstream: Upstream):
    upstream.calls(("call_1", "add", '{"a": 1, "b": 1}'))
    upstream.says("Two.")
    async with service.socket() as socket:
        frames = await socket.ask("Go")
    assert frames[-1]["usage"] == {"input_tokens": 20, "output_tokens": 10, "total_tokens": 30}
    assert frames[-1]["finish_reason"] == "stop"
    final = (await service.history(frames[0]["conversation_id"]))[-1]["metadata"]
    assert (final["model"], final["finish_reason"], final["usage"]["total_tokens"]) == ("openai@scripted", "stop", 15)


async def test_reasoning_is_streamed_and_kept_beside_the_answer(service: Service, upstream: Upstream):
    async def think(answer: Answer) -> None:
        await answer.delta(reasoning_content="Hm, ")
        await answer.delta(reasoning_content="yes.")
        await answer.say("Yes.")

    upstream.script(think)
    async with service.socket() as socket:
        frames = await socket.ask("Well?")
    thought = "".join(frame["content"] for frame in frames if frame["type"] == "reasoning")
    final = (await service.history(frames[0]["conversation_id"]))[-1]
    assert (thought, final["metadata"]["reasoning"], final["content"]) == ("Hm, yes.", "Hm, yes.", "Yes.")


async def test_content_parts_go_to_the_model_and_come_back(service: Service, upstream: Upstream):
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    async with service.socket() as socket:
        frames = await socket.ask(parts)
    assert upstream.requests[0]["messages"][-1]["content"] == parts
    assert (await service.history(frames[0]["conversation_id"]))[0]["content"] == parts


async def test_the_prompts_of_service_and_conversation_come_first(start: Start, upstream: Upstream):
    service = await start(system_prompt="Be kind.")
    async with service.http() as http:
        made = (await http.post("/api/conversations", json={"system_prompt": "Be brief."})).json()
    async with service.socket() as socket:
        await socket.ask("Hi", conversation_id=made["id"])
    assert upstream.requests[0]["messages"][0] == {"role": "system", "content": "Be kind.\n\nBe brief."}


async def test_only_what_fits_the_budget_is_sent(start: Start, upstream: Upstream):
    service = await start(context_tokens=500)
    async with service.socket() as socket:
        frames = await socket.ask("word " * 100)
        for _ in range(9):
            await socket.ask("word " * 100, conversation_id=frames[0]["conversation_id"])
    assert len(upstream.requests[-1]["messages"]) < 6
    assert upstream.requests[-1]["messages"][0]["role"] == "user"
    assert len(await service.history(frames[0]["conversation_id"])) == 20


async def test_one_socket_serves_many_conversations_at_once(service: Service, upstream: Upstream):
    async with service.socket() as socket:
        for number in range(20):
            await socket.send(type="message", content=f"Number {number}")
        ended: set[str] = set()
        while len(ended) < 20:
            ended.add((await socket.until("complete"))["run_id"])
    for run_id in ended:
        frames = [frame for frame in socket.frames if frame.get("run_id") == run_id]
        assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
        user = next(frame["message"] for frame in frames if frame["type"] == "message")
        assert text_of(frames) == f"You said: {user['content']}"


async def test_the_model_of_a_conversation_is_asked_unless_another_is_named(service: Service, upstream: Upstream):
    async with service.http() as http:
        made = (await http.post("/api/conversations", json={"model": "openai@other"})).json()
    async with service.socket() as socket:
        await socket.ask("Hi", conversation_id=made["id"])
        await socket.ask("Hi", conversation_id=made["id"], model="openai@third")
        frames = await socket.ask("Hi", conversation_id=made["id"], model="demo@offline")
    assert [request["model"] for request in upstream.requests] == ["other", "third"]
    started = next(frame for frame in frames if frame["type"] == "started")
    assert started["model"] == "demo@offline"
    assert frames[-1]["type"] == "complete"


async def test_a_shutdown_tells_clients_and_the_run_goes_on_at_the_next_start(start: Start, upstream: Upstream):
    first = await start()
    upstream.script(paused(asyncio.Event()))
    async with first.socket() as socket:
        await socket.send(type="message", content="Hello")
        seen = await socket.until("token")
        await first.stop()
        code = await socket.closed()
    assert code == 1001
    upstream.says("Hello ", "again")
    second = await start()
    async with second.socket() as socket:
        await socket.send(type="attach", run_id=seen["run_id"], after=seen["seq"])
        end = await socket.until("complete")
        rest = socket.frames[1:]
    assert rest[0]["type"] == "reset"
    assert rest[0]["message_id"] == seen["message_id"]
    assert rest[0]["seq"] > seen["seq"]
    assert [f["seq"] for f in rest] == list(range(rest[0]["seq"], end["seq"] + 1))
    history = await second.history(seen["conversation_id"])
    assert [m["content"] for m in history] == ["Hello", "Hello again"]
    assert text_of(rest) == "Hello again"


async def test_a_client_that_was_away_for_a_long_answer_misses_nothing(
    start: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bootstrap, "MemoryRunLog", partial(MemoryRunLog, events_a_run=20))
    service = await start()
    gate = asyncio.Event()

    async def long(answer: Answer) -> None:
        for number in range(60):
            await answer.delta(reasoning_content=".")
            await answer.delta(content=f"{number} ")
        await gate.wait()
        await answer.done()

    async def follow(run_id: str) -> list[dict[str, Any]]:
        """What a client sees that comes back whenever it was let go."""
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["type"] != "complete":
            async with service.socket() as socket:
                await socket.send(type="attach", run_id=run_id, after=seen[-1]["seq"] if seen else 0)
                with suppress(ConnectionClosed):
                    while not seen or seen[-1]["type"] != "complete":
                        frame = await socket.receive()
                        seen.append(frame)
                        if frame.get("content") == "59 ":
                            gate.set()
        return seen

    upstream.calls(("call_1", "add", '{"a": 1, "b": 1}'))
    upstream.script(long)
    async with service.socket() as socket:
        await socket.send(type="message", content="Count")
        accepted = await socket.until("accepted")
    frames = await follow(accepted["run_id"])
    assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    assert len(frames) > 120
    assert text_of(frames) == (await service.history(accepted["conversation_id"]))[-1]["content"]
