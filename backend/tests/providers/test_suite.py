"""What every provider gives: the same suite over each of their wires, on a real port, through the whole service."""

import asyncio
import json
from typing import Any

import pytest

from tests.client import Service, kinds, text_of
from tests.integration.conftest import Start
from tests.providers.conftest import settings_of
from tests.providers.fakes import FakeProvider, Reply

PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
ADD = ("add", '{"a": 1, "b": 2}')
MULTIPLY = ("multiply", '{"a": 3, "b": 4}')


@pytest.fixture
async def service(start: Start, fake: FakeProvider) -> Service:
    return await start(**settings_of(fake.provider, fake))


async def ask(service: Service, content: str, **fields: Any) -> list[dict[str, Any]]:
    async with service.socket() as socket:
        return await socket.ask(content, **fields)


async def test_an_answer_is_streamed_and_stored(service: Service, fake: FakeProvider):
    fake.says(Reply(("Good ", "day, ", "Jürgen 🎨"), gate=(gate := asyncio.Event())))
    async with service.socket() as socket:
        await socket.send(type="message", content="Hello")
        first = await socket.until("token")
        assert first["content"] == "Good "
        gate.set()
        end = await socket.until("complete")
    assert text_of(socket.frames) == "Good day, Jürgen 🎨"
    assert end["usage"] == {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}
    assert end["finish_reason"] == "stop"
    question, answer = await service.history(end["conversation_id"])
    assert answer["content"] == "Good day, Jürgen 🎨"
    assert answer["metadata"]["model"] == f"{fake.provider}@fake-model"
    assert question["content"] == "Hello"


async def test_reasoning_is_kept_apart_from_the_answer(service: Service, fake: FakeProvider):
    fake.says(Reply(("Yes.",), thought="Is it so?"))
    frames = await ask(service, "Is it?")
    assert [f["content"] for f in frames if f["type"] == "reasoning"] == ["Is it so?"]
    assert text_of(frames) == "Yes."
    answer = (await service.history(frames[0]["conversation_id"]))[-1]
    assert (answer["content"], answer["metadata"]["reasoning"]) == ("Yes.", "Is it so?")


async def test_a_tool_is_called_and_its_result_goes_back(service: Service, fake: FakeProvider):
    fake.says(Reply(("Let me see. ",), thought="I need the sum.", calls=(ADD,)), Reply(("It is 3.",)))
    frames = await ask(service, "1 + 2?")
    results = [f for f in frames if f["type"] == "tool_result"]
    assert [(f["name"], f["content"], f["is_error"]) for f in results] == [("add", "3", False)]
    assert (kinds(frames)[-1], text_of(frames)) == ("complete", "Let me see. It is 3.")
    assert len(fake.requests) == 2
    # The next turn sends all of it again, and the provider takes it.
    fake.says(Reply(("Sure.",)))
    again = await ask(service, "Are you sure?", conversation_id=frames[0]["conversation_id"])
    assert text_of(again) == "Sure."


async def test_two_calls_run_side_by_side(service: Service, fake: FakeProvider):
    fake.says(Reply(calls=(ADD, MULTIPLY)), Reply(calls=(ADD, ADD)), Reply(("Done.",)))
    frames = await ask(service, "Both")
    calls = [(f["tool_call_id"], f["name"], f["arguments"]) for f in frames if f["type"] == "tool_call"]
    assert [(name, arguments) for _, name, arguments in calls] == [
        ("add", {"a": 1, "b": 2}),
        ("multiply", {"a": 3, "b": 4}),
        ("add", {"a": 1, "b": 2}),
        ("add", {"a": 1, "b": 2}),
    ]
    results = {f["tool_call_id"]: f["content"] for f in frames if f["type"] == "tool_result"}
    assert [results[key] for key, _, _ in calls] == ["3", "12", "3", "3"]
    assert text_of(frames) == "Done."


async def test_what_a_tool_refuses_goes_back_as_an_error(service: Service, fake: FakeProvider):
    fake.says(Reply(calls=(("divide", '{"a": 1, "b": 0}'), ("no such tool!", "{}"))), Reply(("I see.",)))
    frames = await ask(service, "1 / 0?")
    results = {f["name"]: f for f in frames if f["type"] == "tool_result"}
    assert all(f["is_error"] for f in results.values())
    assert "There is no tool named" in results["no such tool!"]["content"]
    assert text_of(frames) == "I see."


async def test_large_arguments_in_any_alphabet_arrive_whole(service: Service, fake: FakeProvider):
    # An event may have 1 MiB: less for those that send the arguments of a call in one.
    times = 10_000 if fake.provider in ("mistral", "ollama", "bigmodel", "gemini") else 40_000
    text = 'Zoë 🎨 \\"quoted\\" \\u00fc ' * times
    fake.says(Reply(calls=(("draw", '{"text": "' + text + '"}'),)), Reply(("Drawn.",)))
    async with service.socket() as socket:
        await socket.send(type="message", content="Draw", client_tools=["draw"])
        call = await socket.until("tool_call")
        assert call["arguments"] == {"text": 'Zoë 🎨 "quoted" ü ' * times}
        result = {"said": "ß🎨" * 1_000}
        await socket.send(type="tool_result", run_id=call["run_id"], tool_call_id=call["tool_call_id"], result=result)
        await socket.until("complete")
    assert text_of(socket.frames) == "Drawn."


async def test_an_image_reaches_a_model_that_may_see_it(service: Service, fake: FakeProvider):
    data = PIXEL.partition(",")[2]
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    async with service.socket() as socket:
        frames = await socket.ask(content)
    assert text_of(frames) == f"Hello from {fake.provider}."
    sent = json.dumps(fake.requests[0]).replace("-", "+").replace("_", "/")
    assert data in sent


async def test_an_answer_that_is_cut_off_fails_and_the_next_turn_works(service: Service, fake: FakeProvider):
    fake.says(Reply(("Half an ",), cut=True))
    frames = await ask(service, "Hello")
    assert (frames[-1]["type"], frames[-1]["code"], frames[-1]["retryable"]) == ("error", "provider_unavailable", True)
    assert text_of(await ask(service, "Again", conversation_id=frames[0]["conversation_id"])) == (
        f"Hello from {fake.provider}."
    )


async def test_an_error_in_the_middle_of_an_answer_is_told(service: Service, fake: FakeProvider):
    fake.says(Reply(("Half an ",), in_stream="the machine is on fire"))
    frames = await ask(service, "Hello")
    assert (frames[-1]["type"], frames[-1]["code"]) == ("error", "provider_unavailable")
    assert "the machine is on fire" in frames[-1]["message"]


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (429, "provider_rate_limited", "Try again in 7 seconds"),
        (500, "provider_unavailable", "HTTP 500"),
        (404, "unknown_model", "fake-model"),
        (400, "provider_rejected", "the test says so"),
    ],
)
async def test_a_refusal_says_what_to_do(service: Service, fake: FakeProvider, status: int, code: str, words: str):
    fake.says(Reply(status=status, headers={"Retry-After": "7"}))
    frames = await ask(service, "Hello")
    assert (frames[-1]["type"], frames[-1]["code"]) == ("error", code)
    assert words in frames[-1]["message"]
    assert text_of(await ask(service, "Again", conversation_id=frames[0]["conversation_id"]))


async def test_a_wrong_key_names_its_variable_and_is_not_repeated(start: Start, fake: FakeProvider, monkeypatch: Any):
    if fake.provider == "ollama":
        pytest.skip("Ollama has no key")
    wrong = "sk-wrong-1234567890abcdef"
    monkeypatch.setenv("LAB_KEY", wrong)
    service = await start(**settings_of(fake.provider, fake, key=wrong))
    frames = await ask(service, "Hello")
    assert (frames[-1]["type"], frames[-1]["code"]) == ("error", "provider_not_configured")
    variable = "LAB_KEY" if fake.provider == "lab" else f"{fake.provider.upper()}_API_KEY"
    assert variable in frames[-1]["message"]
    assert "sk-wrong" not in str(frames)
    assert "cdef" not in str(frames)


async def test_the_models_that_it_lists_can_be_chosen(service: Service, fake: FakeProvider):
    name = "models/listed" if fake.provider == "gemini" else "listed"
    entry = {"name" if fake.provider in ("gemini", "ollama") else "id": name}
    fake.models = {"models" if fake.provider in ("gemini", "ollama") else "data": [entry]}
    listed = await service.get("/api/models", refresh=True)
    assert f"{fake.provider}@listed" in [model["id"] for model in listed["items"]]
    assert [p["configured"] for p in listed["providers"] if p["id"] == fake.provider] == [True]
    async with service.socket() as socket:
        frames = await socket.ask("Hello", model=f"{fake.provider}@listed")
    assert text_of(frames) == f"Hello from {fake.provider}."
