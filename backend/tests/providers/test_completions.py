"""`app.completions`, as a program uses it, and `atelier ask`, as a person does."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app import completions
from app.completions import aget_completion, astream_completion, get_completion, stream_completion
from app.core.domain.errors import AtelierError, ProviderNotConfigured, ProviderRateLimited
from tests.e2e.conftest import COMMAND, clean_environment
from tests.providers.fakes import KEY, FakeProvider, Reply

HELLO = [{"role": "user", "content": "Hello"}]
TOOL: Any = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
CALLS = (("add", '{"a": 1}'), ("add", '{"a": 2}'))


@pytest.fixture(params=["openai", "mistral", "anthropic", "gemini"])
async def fake(request: pytest.FixtureRequest) -> AsyncIterator[FakeProvider]:
    server = FakeProvider(request.param)
    await server.start()
    yield server
    await server.stop()
    assert server.refused == []


@pytest.fixture(autouse=True)
def environment(fake: FakeProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """What names the fake to the library and to the command."""
    name = fake.provider.upper()
    variables = {f"{name}_BASE_URL": fake.url, "PROVIDER_RETRIES": "0"}
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv(f"{name}_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(completions, "_background", completions._Background())
    return variables


def model(fake: FakeProvider) -> str:
    return f"{fake.provider}@fake-model"


async def test_an_answer_at_once(fake: FakeProvider):
    fake.says(Reply(("Good ", "day."), thought="Hm."))
    reply = await aget_completion(HELLO, model(fake), KEY, tools=[TOOL])
    assert (reply.content, str(reply), reply.finish_reason) == ("Good day.", "Good day.", "stop")
    assert (reply.tool_calls, reply.reasoning) == ([], "Hm.")
    assert reply.usage == {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


async def test_without_asyncio(fake: FakeProvider):
    fake.says(Reply(("Good ", "day.")), Reply(("One ", "two")))
    reply = await asyncio.to_thread(get_completion, HELLO, model(fake), KEY, temperature=0.5)
    assert reply.content == "Good day."
    deltas = await asyncio.to_thread(lambda: list(stream_completion(HELLO, model(fake), KEY)))
    assert "".join(delta.message.content or "" for delta in deltas) == "One two"
    assert deltas[-1].finish_reason == "stop"


async def test_calls_come_whole_and_in_pieces(fake: FakeProvider):
    fake.says(Reply(calls=CALLS), Reply(("Hm. ",), calls=CALLS))
    reply = await aget_completion(HELLO, model(fake), KEY, tools=[TOOL], tool_choice="required")
    assert [json.loads(call["function"]["arguments"]) for call in reply.tool_calls] == [{"a": 1}, {"a": 2}]
    assert (reply.content, reply.finish_reason) == (None, "tool_calls")
    arguments: dict[int, str] = {}
    ids: dict[int, str] = {}
    async for delta in astream_completion(HELLO, model(fake), KEY, tools=[TOOL]):
        for fragment in delta.tool_calls or ():
            index = fragment["index"]
            ids.setdefault(index, fragment.get("id", ""))
            arguments[index] = arguments.get(index, "") + fragment["function"]["arguments"]
    assert [json.loads(arguments[index]) for index in (0, 1)] == [{"a": 1}, {"a": 2}]
    assert len(set(ids.values())) == 2


async def test_errors_say_what_is_missing(fake: FakeProvider):
    fake.says(Reply(status=429))
    with pytest.raises(ProviderRateLimited):
        await aget_completion(HELLO, model(fake), KEY)
    with pytest.raises(ProviderNotConfigured, match=f"{fake.provider.upper()}_API_KEY"):
        await aget_completion(HELLO, model(fake), "sk-wrong-key-000000")
    with pytest.raises(AtelierError):
        await aget_completion(HELLO, "nobody@nothing")


async def test_who_stops_listening_stops_the_model(fake: FakeProvider):
    fake.says(Reply(("One ", "two"), gate=asyncio.Event()))
    deltas = astream_completion(HELLO, model(fake), KEY)
    assert (await anext(deltas)).content == "One "
    await deltas.aclose()
    async with asyncio.timeout(10):
        await fake.left.wait()


async def command(environment: dict[str, str], *arguments: str, piped: str = "") -> "subprocess.CompletedProcess[str]":
    return await asyncio.to_thread(
        subprocess.run,
        [COMMAND, *arguments],
        input=piped,
        capture_output=True,
        text=True,
        env={**clean_environment(), **environment},
        timeout=60,
        check=False,
    )


async def test_the_command_asks_and_pipes(fake: FakeProvider, environment: dict[str, str]):
    environment = {**environment, f"{fake.provider.upper()}_API_KEY": KEY}
    ask = ("ask", "-p", fake.provider, "-m", "fake-model")
    fake.says(Reply(("Good ", "day.")), Reply(("One ", "two")), Reply(("Three",)))
    done = await command(environment, *ask, "Translate:", piped="Guten Tag\n")
    assert (done.stdout, done.stderr, done.returncode) == ("Good day.\n", "", 0)
    assert "Translate:\\n\\nGuten Tag" in json.dumps(fake.requests[0])
    done = await command(environment, *ask, "--stream", "Count")
    assert done.stdout == "One two\n"
    done = await command(environment, *ask, "--json", "Count")
    assert json.loads(done.stdout)["content"] == "Three"


async def test_the_command_offers_tools(fake: FakeProvider, environment: dict[str, str], tmp_path: Path):
    environment = {**environment, f"{fake.provider.upper()}_API_KEY": KEY}
    ask = ("ask", "-m", model(fake), "--tools", "tools.json", "Add")
    (tmp_path / "tools.json").write_text(json.dumps([TOOL]))
    for flag in ("--stream", "--no-stream"):
        fake.says(Reply(("Hm.",), calls=CALLS))
        done = await command(environment, *ask, flag)
        said, *calls = done.stdout.splitlines()
        assert said == "Hm."
        assert [json.loads(json.loads(call)["function"]["arguments"]) for call in calls] == [{"a": 1}, {"a": 2}]
    (tmp_path / "tools.json").write_text(json.dumps([{"type": "function", "function": {"name": "no good"}}]))
    done = await command(environment, *ask)
    assert (done.returncode, "tools[0].function.name" in done.stderr) == (1, True)


async def test_keys_are_entered_and_never_shown(fake: FakeProvider, environment: dict[str, str], tmp_path: Path):
    done = await command(environment, "keys", "set", fake.provider, piped=KEY + "\n")
    assert done.returncode == 0
    listed = await command(environment, "keys", "list")
    assert f"{fake.provider}" in listed.stdout
    assert "data folder" in listed.stdout
    asked = await command(environment, "ask", "-m", model(fake), "Hello")
    assert asked.stdout == f"Hello from {fake.provider}.\n"
    named = await command(environment, "models", fake.provider)
    assert model(fake) in named.stdout.splitlines()
    removed = await command(environment, "keys", "remove", fake.provider)
    assert removed.returncode == 0
    assert (await command(environment, "keys", "remove", fake.provider)).returncode == 1
    everything = "".join(p.stdout + p.stderr for p in (done, listed, asked, named, removed))
    assert KEY not in everything
    assert (await command(environment, "keys", "set", "nobody", piped="x\n")).returncode == 1
    assert (await command(environment, "keys", "set", fake.provider, piped="\n")).returncode == 1


async def test_the_doctor_says_what_works(fake: FakeProvider, environment: dict[str, str]):
    environment = {**environment, f"{fake.provider.upper()}_API_KEY": KEY}
    fake.says(
        Reply(("Hello",)),
        Reply(calls=CALLS[:1]),
        Reply(calls=CALLS[:1]),
        Reply(("Red",)),
        Reply(('{"city": "Vienna"}',)),
    )
    done = await command(environment, "doctor", fake.provider, "-m", "fake-model")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[:6] == [
        f"{fake.provider}@fake-model:",
        "plain works",
        "tools works",
        "parallel fails: it made 1 of 2 calls",
        "image works",
        "structured works",
    ]
    assert lines[6] == "55 tokens in, 35 out: an unknown price"
    assert (done.returncode, done.stderr) == (1, "")
    assert KEY not in done.stdout
    fake.says(*(Reply(status=400),) * 5)
    done = await command(environment, "doctor", fake.provider, "-m", "fake-model")
    assert done.stdout.count("fails: ") == 5
    assert "the test says so" in done.stdout
    assert (await command(environment, "doctor", "nobody")).returncode == 1
