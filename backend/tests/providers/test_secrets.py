"""A provider's key comes out nowhere: keys are planted, everything goes wrong, and all that came out is searched."""

import asyncio
import json
import logging
import subprocess
import sys
from typing import Any

import pytest

from tests.client import Service
from tests.e2e.conftest import COMMAND, clean_environment
from tests.integration.conftest import TOKEN, Start
from tests.providers.conftest import settings_of
from tests.providers.fakes import KEY, FakeProvider, Reply
from tests.providers.rules import NAMES

WRONG = "sk-planted-9f8e7d6c5b4a3210"
HELLO: Any = [{"role": "user", "content": "Hello"}]


async def _everything(service: Service, provider: str) -> str:
    """All that the service answers about a provider, whatever happens to it."""
    said: list[str] = []
    model = f"{provider}@fake-model"
    async with service.socket() as socket, service.http() as http:
        await socket.ask("Hello", model=model)
        said += [json.dumps(frame) for frame in socket.frames]
        for stream in (True, False):
            body = {"model": model, "messages": HELLO, "stream": stream}
            said.append((await http.post("/v1/chat/completions", json=body)).text)
        for path in ("/api/models?refresh=true", "/v1/models", "/metrics", "/api/conversations", "/openapi.json"):
            said.append((await http.get(path)).text)
    return "".join(said)


async def test_a_wrong_key_is_never_shown(
    start: Start, fake: FakeProvider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("LAB_KEY", WRONG)
    caplog.set_level(logging.DEBUG, logger="app")
    service = await start(**settings_of(fake.provider, fake, key=WRONG))
    said = await _everything(service, fake.provider)
    assert WRONG not in said + caplog.text
    assert WRONG[-6:] not in said  # providers repeat the ends of a key that they refuse
    assert KEY not in said + caplog.text


async def test_a_right_key_is_never_shown(start: Start, fake: FakeProvider, caplog: pytest.LogCaptureFixture):
    if fake.provider == "ollama":
        pytest.skip("Ollama has no key")
    caplog.set_level(logging.DEBUG, logger="app")
    service = await start(**settings_of(fake.provider, fake))
    echo = Reply(status=400, headers={"X-Key": KEY})
    fake.message = f"your key {KEY} is fine, your request is not"
    fake.says(Reply(("fine",)), echo, echo)
    said = await _everything(service, fake.provider)
    fake.says(Reply(cut=True), Reply(("x",), in_stream=fake.message), Reply(status=500))
    said += await _everything(service, fake.provider)
    assert KEY not in said + caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_no_key_stands_in_the_list_of_processes_or_in_the_log(tmp_path: Any):
    keys = {f"{name.upper()}_API_KEY": f"sk-planted-{name}-0123456789" for name in NAMES if name != "lab"}
    process = subprocess.Popen(
        [COMMAND, "serve", "--port", "0"],
        cwd=tmp_path,
        env={
            **clean_environment(),
            **keys,
            "LOG_LEVEL": "debug",
            "ATELIER_TOKEN": TOKEN,
            "OPENAI_BASE_URL": "http://127.0.0.1:9",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    while "ready at" not in (line := await asyncio.to_thread(process.stdout.readline)):
        lines.append(line)
        assert line, "ended: " + "".join(lines)
    listing = await asyncio.to_thread(subprocess.run, ["ps", "axww"], capture_output=True, text=True, check=True)
    asking = await asyncio.to_thread(
        subprocess.run,
        [COMMAND, "chat", "--url", line.rsplit(maxsplit=1)[-1].partition("/?")[0], "Hello"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**clean_environment(), "ATELIER_TOKEN": TOKEN},
        timeout=60,
        check=False,
    )
    process.terminate()
    rest, _ = await asyncio.to_thread(process.communicate, timeout=30)
    everything = "".join(lines) + line + rest + listing.stdout + asking.stdout + asking.stderr
    assert "cannot be reached" in everything  # it did ask a provider, with a key
    assert "sk-planted" not in everything
