"""What LOG_LEVEL=debug shows, and what nothing ever shows."""

import pytest

from app import logs
from tests.client import Service
from tests.integration.conftest import TOKEN, Start
from tests.upstream import Upstream

pytestmark = pytest.mark.usefixtures("logging_as_it_was")


async def test_debug_shows_each_request_and_each_tool_call_with_its_run(
    service: Service, upstream: Upstream, capsys: pytest.CaptureFixture[str]
):
    logs.configure("debug", "text")
    upstream.calls(("call_1", "multiply", '{"a": 12, "b": 34}'))
    upstream.refuses(401, {"message": "Incorrect API key provided: sk-test-key"})
    async with service.socket() as socket:
        frames = await socket.ask("What is 12 * 34?")
    lines = capsys.readouterr().err.splitlines()
    run = f"run={frames[0]['run_id']}"
    assert len([line for line in lines if "for scripted" in line and run in line]) == 2
    [call] = [line for line in lines if "multiply" in line and "34" in line]
    assert run in call
    assert any("provider_not_configured" in line and run in line for line in lines)
    assert not any(secret in line for line in lines for secret in ("sk-test-key", TOKEN))


async def test_secrets_are_in_no_answer(service: Service, upstream: Upstream):
    upstream.refuses(401, {"message": "Incorrect API key provided: sk-test-key"})
    async with service.socket() as socket, service.http() as http:
        frames = await socket.ask("Hi")
        shown = [str(frames), (await http.get(f"/api/runs/{frames[0]['run_id']}")).text]
        shown += [
            (await http.get(path)).text for path in ("/api/models", "/metrics", "/openapi.json", "/", "/api/auth/me")
        ]
    assert not any("sk-test-key" in text or TOKEN in text for text in shown)


async def test_warnings_name_no_secret(start: Start, upstream: Upstream, capsys: pytest.CaptureFixture[str]):
    logs.configure("warning", "json")
    service = await start(openai_base_url="http://127.0.0.1:1/v1")
    async with service.socket() as socket:
        frames = await socket.ask("Hi")
    assert frames[-1]["code"] == "provider_unavailable"
    said = capsys.readouterr().err
    assert frames[0]["run_id"] in said
    assert "sk-test-key" not in said
