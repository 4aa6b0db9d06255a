import json
import logging

import pytest

from app import logs
from app.core.log_context import current_run

pytestmark = pytest.mark.usefixtures("logging_as_it_was")


@pytest.mark.parametrize(
    "line",
    [
        "GET /?token=hunter2-secret HTTP/1.1",
        "Authorization: Bearer hunter2-secret",
        "mongodb://user:hunter2-secret@host:27017",
        "api_key=hunter2-secret&x=1",
    ],
)
def test_secrets_are_left_out(line: str, capsys: pytest.CaptureFixture[str]):
    logs.configure("info", "text")
    logging.getLogger("app.x").info("%s", line)
    said = capsys.readouterr().err
    assert "…" in said
    assert "hunter2-secret" not in said


def test_secrets_are_left_out_of_tracebacks(capsys: pytest.CaptureFixture[str]):
    logs.configure("info", "text")
    try:
        raise OSError("cannot reach mongodb://user:hunter2-secret@host")
    except OSError:
        logging.getLogger("app.x").exception("failed")
    said = capsys.readouterr().err
    assert "OSError" in said
    assert "hunter2-secret" not in said


def test_lines_name_their_run(capsys: pytest.CaptureFixture[str]):
    logs.configure("debug", "json")
    token = current_run.set("run-1")
    logging.getLogger("app.x").debug("tool %s", "add")
    current_run.reset(token)
    logging.getLogger("app.x").warning("outside")
    inside, outside = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (inside["run"], inside["event"], inside["level"]) == ("run-1", "tool add", "debug")
    assert "run" not in outside


def test_the_level_holds(capsys: pytest.CaptureFixture[str]):
    logs.configure("warning", "text")
    logging.getLogger("app.x").info("quiet")
    assert capsys.readouterr().err == ""


def test_text_logs_cannot_control_a_terminal(capsys: pytest.CaptureFixture[str]):
    logs.configure("info", "text")
    evil = "\x1b]0;pwn\x07\x1b]52;c;cHdu\x07\x1b[2Jred\x9b31m\u202e\n2026-01-01 [error] forged"
    try:
        raise OSError(evil)
    except OSError:
        logging.getLogger("app.x").exception("failed: %s", evil)
    said = capsys.readouterr().err
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(said)
    assert "OSError" in said
    first, second, *_ = said.splitlines()
    assert "failed: red31m" in first
    assert second.startswith("    2026-01-01 [error] forged")
