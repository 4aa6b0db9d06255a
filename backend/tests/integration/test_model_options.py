"""How a conversation's model is to answer: set once by REST, and sent with each of its requests."""

import httpx
import pytest

from tests.client import Service
from tests.integration.conftest import Start
from tests.upstream import Upstream


@pytest.fixture
async def service(start: Start) -> Service:
    return await start()


async def test_options_reach_the_model_from_the_next_run_on(service: Service, upstream: Upstream):
    async with service.socket() as socket:
        frames = await socket.ask("Hello")
    conversation_id = frames[0]["conversation_id"]
    assert "reasoning_effort" not in upstream.requests[-1]
    options = {"reasoning_effort": "low", "temperature": 0.5, "max_output_tokens": 99}
    async with httpx.AsyncClient(base_url=service.url, headers=service.headers) as client:
        answer = await client.patch(f"/api/conversations/{conversation_id}", json={"model_options": options})
        assert answer.json()["model_options"] == options
        for wrong in ({"reasoning_effort": "much"}, {"temperature": 9}, {"top_k": 1}):
            refused = await client.patch(f"/api/conversations/{conversation_id}", json={"model_options": wrong})
            assert refused.status_code == 422
        async with service.socket() as socket:
            await socket.ask("Again", conversation_id=conversation_id)
        sent = upstream.requests[-1]
        assert (sent["reasoning_effort"], sent["temperature"], sent["max_completion_tokens"]) == ("low", 0.5, 99)
        await client.patch(f"/api/conversations/{conversation_id}", json={"model_options": {}})
        async with service.socket() as socket:
            await socket.ask("And now?", conversation_id=conversation_id)
    assert not {"reasoning_effort", "temperature", "max_completion_tokens"} & set(upstream.requests[-1])
