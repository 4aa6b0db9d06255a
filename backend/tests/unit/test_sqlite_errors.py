"""SQLite's errors in words: what happened, and what to do."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from app.adapters.outbound.persistence.sqlite.errors import unavailable
from app.core.domain.errors import StorageDamaged


def error_with(text: str, code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("database or disk is full", 13, "The disk is full"),
        ("attempt to write a readonly database", 8, "The data folder is read-only"),
        ("database is locked", 5, "Try again in a moment"),
    ],
)
def test_what_may_pass_is_retryable(text: str, code: int, said: str) -> None:
    error = unavailable(error_with(text, code))
    assert said in error.message
    assert error.retryable


@pytest.mark.parametrize("code", [11, 267, 779, 26])
def test_damage_is_not_retryable(code: int) -> None:
    error = unavailable(error_with("database disk image is malformed", code))
    assert isinstance(error, StorageDamaged)
    assert not error.retryable
    assert "Try again" not in error.message


def test_an_io_error_on_a_full_disk_says_that_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = error_with("disk I/O error", 10)
    assert "disk I/O error" in unavailable(error, tmp_path).message
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 100, 0))
    assert "The disk is full" in unavailable(error, tmp_path).message
