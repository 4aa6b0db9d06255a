"""Signals: the first lets answers come to their end, the second does not, and the command ends with 0."""

import signal
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import pytest

from tests.client import text_of
from tests.e2e.conftest import Command
from tests.upstream import Upstream, endless

Serve = Callable[..., Command]


@pytest.fixture(params=["sqlite", "mongodb"])
def settings(request: pytest.FixtureRequest) -> dict[str, str]:
    if request.param == "sqlite":
        return {}
    return {"MONGODB_URL": request.getfixturevalue("mongodb_url"), "MONGODB_DATABASE": f"test_{uuid4().hex}"}


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    server = Upstream()
    await server.start()
    yield server
    await server.stop()


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_an_answer_finish_and_the_command_ends_with_0(
    serve: Serve, settings: dict[str, str], sent: signal.Signals
):
    command = serve(**settings)
    service = command.ready()
    async with service.socket() as connection:
        await connection.send(type="message", content="Hello!")
        await connection.until("token")
        command.process.send_signal(sent)
        await connection.until("complete")
        assert await connection.closed() == 1001
    assert "Traceback" not in command.output()
    assert command.process.returncode == 0
    service = serve(**settings).ready()
    [conversation] = (await service.get("/api/conversations"))["items"]
    history = await service.history(conversation["id"])
    assert history[1]["content"] == text_of(connection.frames)


async def test_a_second_signal_ends_the_command_at_once(serve: Serve, settings: dict[str, str], upstream: Upstream):
    upstream.script(endless)
    model = {"OPENAI_BASE_URL": upstream.url, "DEFAULT_MODEL": "openai@scripted"}
    command = serve(SHUTDOWN_SECONDS="3600", **model, **settings)
    service = command.ready()
    async with service.socket() as connection, service.socket() as idle:
        await connection.send(type="message", content="Hello!")
        seen = await connection.until("token")
        command.process.send_signal(signal.SIGTERM)
        assert await idle.closed() == 1001
        command.process.send_signal(signal.SIGTERM)
        assert await connection.closed() == 1001
    assert "Traceback" not in command.output()
    assert command.process.returncode == 0
    service = serve(**model, **settings).ready()
    async with service.socket() as connection:
        await connection.send(type="attach", run_id=seen["run_id"], after=seen["seq"])
        await connection.until("complete")
