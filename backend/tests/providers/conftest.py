"""The service with one provider, whose server is a fake of it on a real port."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.conftest import Start, start, upstream  # noqa: F401 - fixtures
from tests.providers.fakes import KEY, FakeProvider
from tests.providers.oracles import faults_by_sdk
from tests.providers.rules import NAMES


def settings_of(provider: str, fake: FakeProvider, key: str = KEY) -> dict[str, Any]:
    """What makes `fake` the provider of that name, and its model the default."""
    common: dict[str, Any] = {
        "openai_base_url": None,
        "openai_api_key": None,
        "default_model": f"{provider}@fake-model",
    }
    if provider == "lab":
        return {**common, "custom_providers": [{"name": "lab", "base_url": fake.url, "key_variable": "LAB_KEY"}]}
    if provider == "openai":
        common["openai_api"] = "responses"
    return {**common, f"{provider}_base_url": fake.url, f"{provider}_api_key": None if provider == "ollama" else key}


@pytest.fixture(params=NAMES)
async def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeProvider]:
    monkeypatch.setenv("LAB_KEY", KEY)
    server = FakeProvider(request.param)
    await server.start()
    yield server
    await server.stop()
    assert server.refused == []
    assert [faults_by_sdk(server.provider, body) for body in server.requests] == [[]] * len(server.requests)
