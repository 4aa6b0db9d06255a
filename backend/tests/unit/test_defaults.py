"""The models that answer where a provider alone is named, and how models near their end are treated."""

import warnings
from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from app.adapters.outbound.llm_providers.catalog import ModelCatalog, usual_model
from app.adapters.outbound.llm_providers.facts import RETIRES_SOON, FactBook, is_retired, retires_soon
from app.adapters.outbound.llm_providers.providers import PROVIDERS
from app.core.domain.time import utc_now
from app.core.ports import ModelFacts
from app.settings import Settings

NOTICE = timedelta(days=60)
"""How long the test of the defaults warns before it fails: nobody finds the build red without notice."""


@pytest.mark.parametrize("provider", PROVIDERS)
def test_default_model_has_90_days_left(tmp_path: Path, provider: str):
    model = f"{provider}@{PROVIDERS[provider].model}"
    retires = FactBook(tmp_path / "none").of(model).retires
    if retires is None:
        return
    left = retires - utc_now().date()
    assert left >= RETIRES_SOON, f"{model} retires on {retires}: choose another default in providers.py"
    if left < RETIRES_SOON + NOTICE:
        warnings.warn(f"{model} retires on {retires}: choose another default soon", stacklevel=1)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_default_model_uses_tools(tmp_path: Path, provider: str):
    facts = FactBook(tmp_path / "none").of(f"{provider}@{PROVIDERS[provider].model}")
    assert facts.tools is not False
    if provider in ("openai", "anthropic", "gemini", "mistral"):
        assert (facts.tools, facts.images) == (True, True)


def test_retired_default_gives_way_to_its_successor(tmp_path: Path):
    table = {
        "openai@gpt-6-luna": {"retires": "2020-01-01", "successor": "gpt-7-luna"},
        "openai@gpt-7-luna": {"retires": "2020-02-01", "successor": "gpt-6-luna"},
    }
    (tmp_path / "models.json").write_bytes(orjson.dumps(table))
    book = FactBook(tmp_path / "models.json")
    assert book.in_service("openai", "gpt-6-luna") == "gpt-7-luna"  # a circle ends
    settings = Settings(_env_file=None, data_dir=tmp_path, openai_api_key="k")
    assert ModelCatalog(settings).default == "openai@gpt-7-luna"


async def test_retired_models_are_hidden_and_ending_ones_marked(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    soon = (utc_now() + timedelta(days=30)).date()
    table = {
        "openai@old": {"retires": "2020-01-01"},
        "openai@ending": {"retires": soon.isoformat(), "successor": "new"},
        "openai@new": {"tools": True},
    }
    (tmp_path / "models.json").write_bytes(orjson.dumps(table))
    settings = Settings(
        _env_file=None,
        data_dir=tmp_path,
        openai_api_key="k",
        openai_base_url="http://127.0.0.1:9/v1",
        default_model="openai@ending",
    )
    listed = {model.id: model for model in (await ModelCatalog(settings).models()).models}
    assert "openai@old" not in listed
    assert (listed["openai@ending"].retires, listed["openai@ending"].retires_soon) == (soon, True)
    assert not listed["openai@new"].retires_soon
    assert not any(is_retired(model) for model in listed.values())
    assert f"openai@ending retires on {soon}. Use openai@new instead." in caplog.text


def test_dates_count_from_the_day_itself():
    day = utc_now().date()
    assert is_retired(ModelFacts(retires=day), day)
    assert not is_retired(ModelFacts(retires=day + timedelta(days=1)), day)
    assert retires_soon(ModelFacts(retires=day + timedelta(days=89)), day)
    assert not retires_soon(ModelFacts(retires=day + timedelta(days=90)), day)


def test_usual_model_is_in_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    assert usual_model("anthropic") == f"anthropic@{PROVIDERS['anthropic'].model}"
