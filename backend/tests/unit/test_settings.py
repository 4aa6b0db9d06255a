from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.settings import AuthMode, MongoDriver, Settings


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


def test_nothing_needs_to_be_set():
    settings = Settings()
    assert (settings.host, settings.port, settings.data_dir) == ("127.0.0.1", 8000, Path("data"))
    assert (settings.auth_mode, settings.mongodb_url, settings.context_tokens) == (AuthMode.LOCAL, None, 32_000)
    assert settings.listens_on_loopback


def test_the_environment_is_read_before_the_file(monkeypatch: pytest.MonkeyPatch):
    Path(".env").write_text("PORT=1\nMAX_TOOL_ROUNDS=3\nSOMETHING_ELSE=1\n")
    monkeypatch.setenv("PORT", "2")
    assert (Settings().port, Settings().max_tool_rounds, Settings(port=4).port) == (2, 3, 4)


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch):
    for name in ("MONGODB_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL", "DEFAULT_MODEL", "ATELIER_TOKEN"):
        monkeypatch.setenv(name, " ")
    settings = Settings()
    assert settings.mongodb_url is settings.openai_api_key is settings.openai_base_url is None
    assert settings.default_model is settings.atelier_token is None


def test_words_are_read_in_any_case_and_lists_by_commas(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("MONGODB_DRIVER", "PyMongo")
    monkeypatch.setenv("ALLOWED_ORIGINS", "https://a.example, https://b.example ,")
    settings = Settings()
    assert (settings.log_level, settings.mongodb_driver) == ("debug", MongoDriver.PYMONGO)
    assert settings.allowed_origins == ["https://a.example", "https://b.example"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 70_000},
        {"port": "x"},
        {"log_level": "loud"},
        {"auth_mode": "maybe"},
        {"context_tokens": 1},
        {"openai_base_url": "file:///etc"},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]):
    with pytest.raises(ValidationError):
        Settings(**wrong)


def test_secrets_do_not_show_themselves():
    settings = Settings(openai_api_key="sk-1234", mongodb_url="mongodb://u:pw@h", atelier_token="tok-99")  # pyright: ignore
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert not any(secret in shown for secret in ("sk-1234", "pw@", "tok-99"))


def test_every_setting_has_its_meaning_and_its_line_in_the_readme():
    readme = Path(__file__).parents[3].joinpath("README.md").read_text()
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert f"`{name.upper()}`" in readme, name
