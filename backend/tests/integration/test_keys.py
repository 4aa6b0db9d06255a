"""A provider's key is stored once its provider has accepted it, on every surface."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.adapters.outbound.llm_providers.endpoint import Endpoint, HttpPool, TimeLimits
from app.adapters.outbound.llm_providers.listing import check_key
from app.adapters.outbound.llm_providers.providers import PROVIDERS
from app.core.domain.errors import KeyRefused
from app.settings import CustomProvider
from tests.client import Service
from tests.integration.conftest import Start
from tests.upstream import Upstream

KEYS = {"sk-right": ["scripted"], "sk-second": ["scripted"]}


async def begin(start: Start, upstream: Upstream, url: str | None = None) -> Service:
    own = CustomProvider(name="studio", base_url=url or upstream.url, key_variable="STUDIO_KEY", model="scripted")
    return await start(openai_base_url=None, openai_api_key=None, default_model=None, custom_providers=[own])


async def put(service: Service, key: str, **more: Any) -> httpx.Response:
    async with service.http() as http:
        return await http.put("/api/providers/studio/key", json={"key": key, **more})


async def default(service: Service) -> str:
    async with service.http() as http:
        return (await http.get("/api/models")).json()["items"][0]["id"]


def stored(folder: Path) -> dict[str, str]:
    file = folder / "keys.json"
    return json.loads(file.read_text()) if file.exists() else {}


async def test_a_refused_key_is_not_stored(start: Start, upstream: Upstream, tmp_path: Path):
    upstream.lists(KEYS)
    service = await begin(start, upstream)
    for more in ({}, {"keep": True}):
        refused = await put(service, "sk-wrong", **more)
        assert (refused.status_code, refused.json()["code"]) == (422, "key_refused")
        assert "does not accept this key" in refused.json()["detail"]
        assert "sk-wrong" not in refused.text
    assert stored(tmp_path) == {}
    assert await default(service) == "demo@offline"


async def test_an_accepted_key_is_used_at_once(start: Start, upstream: Upstream, tmp_path: Path):
    upstream.lists(KEYS)
    service = await begin(start, upstream)
    accepted = await put(service, " sk-right\n")
    assert (accepted.status_code, accepted.json()["key_source"]) == (200, "stored")
    assert "error" not in accepted.json()
    assert stored(tmp_path) == {"studio": "sk-right"}
    assert await default(service) == "studio@scripted"


async def test_a_refused_key_leaves_the_earlier_one(start: Start, upstream: Upstream, tmp_path: Path):
    upstream.lists(KEYS)
    service = await begin(start, upstream)
    await put(service, "sk-right")
    assert (await put(service, "sk-wrong")).json()["code"] == "key_refused"
    assert stored(tmp_path) == {"studio": "sk-right"}
    assert (await put(service, "sk-second")).status_code == 200
    assert stored(tmp_path) == {"studio": "sk-second"}


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:9/v1"], ids=["without a list", "unreachable"])
async def test_an_unchecked_key_needs_a_request(start: Start, upstream: Upstream, tmp_path: Path, url: str | None):
    service = await begin(start, upstream, url)
    unchecked = await put(service, "sk-any")
    assert (unchecked.status_code, unchecked.json()["code"]) == (502, "key_unchecked")
    assert stored(tmp_path) == {}
    assert await default(service) == "demo@offline"
    kept = await put(service, "sk-any", keep=True)
    assert kept.status_code == 200
    assert "stored without a check" in kept.json()["error"]
    assert stored(tmp_path) == {"studio": "sk-any"}


async def test_a_stored_key_is_tested_and_removed(start: Start, upstream: Upstream, tmp_path: Path):
    upstream.lists(KEYS)
    service = await begin(start, upstream)
    await put(service, "sk-right")
    async with service.http() as http:
        assert "error" not in (await http.post("/api/providers/studio/test")).json()
        upstream.lists({})
        assert "does not accept" in (await http.post("/api/providers/studio/test")).json()["error"]
        removed = (await http.delete("/api/providers/studio/key")).json()
        assert (removed["configured"], "key_source" in removed) == (False, False)
        assert (await http.post("/api/providers/nobody/test")).status_code == 422
    assert await default(service) == "demo@offline"


@pytest.mark.parametrize("key", ["", "two words", "sk-\N{LATIN SMALL LETTER E WITH ACUTE}", "sk-\0"])
async def test_what_cannot_be_a_key_is_refused(start: Start, upstream: Upstream, tmp_path: Path, key: str):
    service = await begin(start, upstream)
    assert (await put(service, key, keep=True)).status_code == 422
    assert stored(tmp_path) == {}


async def test_a_public_list_says_nothing_of_a_key(upstream: Upstream):
    """Anybody may read OpenRouter's list of models; its `/key` is what knows the key."""
    upstream.lists({"sk-wrong": ["scripted"]})
    pool = HttpPool()
    try:
        endpoint = Endpoint(PROVIDERS["openrouter"], upstream.url, False, "sk-wrong", pool, TimeLimits())
        with pytest.raises(KeyRefused):
            await check_key(endpoint)
    finally:
        await pool.close()
