"""Which models can be asked, with which keys, and what is known of them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from app.adapters.outbound.key_file import KeyFile
from app.adapters.outbound.llm_providers import facts
from app.adapters.outbound.llm_providers.catalog import DEMO, ModelCatalog
from app.adapters.outbound.llm_providers.facts import FactBook
from app.adapters.outbound.llm_providers.providers import PROVIDERS
from app.core.domain.errors import ProviderNotConfigured, ProviderRejected, StorageUnavailable, UnknownModel
from app.core.services.usage import cost_of
from app.settings import Settings


def settings(folder: Path, **changes: Any) -> Settings:
    return Settings(_env_file=None, data_dir=folder, **changes)


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.endswith(("_API_KEY", "_BASE_URL")):
            monkeypatch.delenv(name)


def test_without_a_key_the_demo_answers(tmp_path: Path):
    assert ModelCatalog(settings(tmp_path)).default == DEMO


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_first_provider_with_a_key_is_the_default(tmp_path: Path, provider: str):
    catalog = ModelCatalog(settings(tmp_path, **{f"{provider}_api_key": "k"}))
    assert catalog.default == f"{provider}@{PROVIDERS[provider].model}"


@pytest.mark.parametrize(("variable", "provider"), [("GOOGLE_API_KEY", "gemini"), ("ZHIPUAI_API_KEY", "bigmodel")])
def test_keys_have_a_second_name_where_people_know_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, provider: str
):
    monkeypatch.setenv(variable, "k")
    assert ModelCatalog(settings(tmp_path)).default.startswith(f"{provider}@")


def test_a_key_that_is_entered_is_used_at_once_and_the_environment_goes_first(tmp_path: Path):
    catalog = ModelCatalog(settings(tmp_path, groq_api_key="from the environment"))
    with pytest.raises(ProviderNotConfigured, match="MISTRAL_API_KEY"):
        catalog.check("mistral@m")
    keys = KeyFile(tmp_path / "keys.json")
    keys.set("mistral", "entered")
    keys.set("groq", "entered")
    assert catalog.endpoint("mistral@m")[0].secret == "entered"
    assert catalog.endpoint("groq@m")[0].secret == "from the environment"
    keys.remove("mistral")
    with pytest.raises(ProviderNotConfigured):
        catalog.check("mistral@m")


@pytest.mark.parametrize("name", ["", "gpt-4o", "openai@", "@gpt", "nobody@m"])
def test_a_model_without_a_provider_is_unknown(tmp_path: Path, name: str):
    with pytest.raises(UnknownModel, match="provider@model"):
        ModelCatalog(settings(tmp_path)).check(name)


def test_a_server_of_ones_own_is_a_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    custom = [{"name": "lab", "base_url": "http://127.0.0.1:9/v1/", "key_variable": "LAB_KEY", "model": "qwen"}]
    catalog = ModelCatalog(settings(tmp_path, custom_providers=custom))
    with pytest.raises(ProviderNotConfigured, match="LAB_KEY"):
        catalog.check("lab@qwen")
    monkeypatch.setenv("LAB_KEY", "k")
    endpoint, name = catalog.endpoint("lab@a/b")
    assert (endpoint.url, endpoint.secret, name) == ("http://127.0.0.1:9/v1", "k", "a/b")
    assert catalog.default == "lab@qwen"


@pytest.mark.parametrize(
    "custom",
    [
        [{"name": "openai", "base_url": "http://x/v1"}],
        [{"name": "a", "base_url": "http://x"}, {"name": "a", "base_url": "http://y"}],
        [{"name": "demo", "base_url": "http://x/v1"}],
        [{"name": "A b", "base_url": "http://x/v1"}],
        [{"name": "a", "base_url": "file:///etc/passwd"}],
        [{"name": "a"}],
    ],
)
def test_a_provider_that_cannot_be_is_refused_at_the_start(tmp_path: Path, custom: list[dict[str, str]]):
    with pytest.raises(ValueError, match="custom_providers"):
        settings(tmp_path, custom_providers=custom)


def test_facts_come_from_the_table_then_the_provider_then_the_operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(facts, "LOOK_SECONDS", 0.0)
    book = FactBook(tmp_path / "models.json")
    assert book.of("openai@gpt-4o-mini").tools is True
    assert book.of("openai@no-such-model").tools is None
    book.tell({"openai@gpt-4o-mini": {"context_tokens": 5}, "lab@x": {"tools": False}})
    assert (book.of("openai@gpt-4o-mini").context_tokens, book.of("openai@gpt-4o-mini").tools) == (5, True)
    written = {"openai@gpt-4o-mini": {"context_tokens": 7, "input_price": 1.0, "output_price": 2.0}}
    (tmp_path / "models.json").write_text(json.dumps(written))
    known = book.of("openai@gpt-4o-mini")
    assert (known.context_tokens, known.tools, known.input_price) == (7, True, 1.0)
    assert cost_of(known, 1_000_000, 500_000) == 2.0
    assert cost_of(book.of("lab@x"), 1, 1) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"a@b": 7}', '{"a@b": {"tools": "perhaps"}}'])
def test_an_operators_file_that_is_broken_is_passed_over(tmp_path: Path, caplog: Any, text: str):
    (tmp_path / "models.json").write_text(text)
    assert FactBook(tmp_path / "models.json").of("openai@gpt-4o-mini").tools is True
    assert "models.json" in caplog.text


def test_a_model_that_is_known_to_have_no_tools_is_refused_before_any_request(tmp_path: Path):
    (tmp_path / "models.json").write_text('{"lab@plain": {"tools": false}}')
    catalog = ModelCatalog(settings(tmp_path, custom_providers=[{"name": "lab", "base_url": "http://127.0.0.1:9"}]))
    assert catalog.check("lab@plain") == "lab@plain"
    with pytest.raises(ProviderRejected, match="cannot use tools"):
        catalog.check("lab@plain", tools=True)
    with pytest.raises(ProviderRejected, match="cannot use tools"):
        catalog.alone("lab@plain", [{"type": "function", "function": {"name": "a"}}])


def test_keys_are_kept_for_their_owner_alone_and_a_broken_file_is_not_overwritten(tmp_path: Path):
    keys = KeyFile(tmp_path / "deep" / "keys.json")
    keys.set("mistral", "k")
    assert (tmp_path / "deep" / "keys.json").stat().st_mode & 0o777 == 0o600
    assert keys.names() == ["mistral"]
    assert not keys.remove("groq")
    (tmp_path / "deep" / "keys.json").write_text("half writ")
    assert keys.get("mistral") is None
    with pytest.raises(StorageUnavailable, match=r"keys\.json"):
        keys.set("groq", "k")
    assert (tmp_path / "deep" / "keys.json").read_text() == "half writ"
