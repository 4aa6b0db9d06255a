"""`atelier backup`, `restore` and `check`, as a person runs them beside a service and after it."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import COMMAND, START_SECONDS, Command, clean_environment

Serve = Callable[..., Command]


def atelier(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=START_SECONDS * 2,
        check=False,
    )


async def test_a_running_service_is_backed_up_checked_and_restored(serve: Serve, tmp_path: Path):
    service = serve().ready()
    async with service.socket() as connection:
        frames = await connection.ask("What is 12 * 34?")
    conversation_id = frames[0]["conversation_id"]
    checked = atelier(tmp_path, "check")
    assert (checked.returncode, checked.stdout) == (0, "0 violations found.\n"), checked.stderr

    taken = atelier(tmp_path, "backup", "a.tar.gz")
    assert taken.returncode == 0, taken.stderr
    assert "1 conversations, 4 messages" in taken.stdout
    assert "keys of providers and .env are not in it" in taken.stdout
    again = atelier(tmp_path, "backup", "a.tar.gz")
    assert (again.returncode, "--force" in again.stderr) == (1, True)
    refused = atelier(tmp_path, "restore", "a.tar.gz", "--force")
    assert (refused.returncode, "Another Atelier is running" in refused.stderr) == (1, True)

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    restored = atelier(elsewhere, "restore", str(tmp_path / "a.tar.gz"))
    assert restored.returncode == 0, restored.stderr
    assert "1 conversations, 4 messages" in restored.stdout
    checked = atelier(elsewhere, "check")
    assert (checked.returncode, checked.stdout) == (0, "0 violations found.\n"), checked.stderr
    service = serve("--data-dir", str(elsewhere / "data")).ready()
    assert [message["role"] for message in await service.history(conversation_id)][-1] == "assistant"


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_mongodb_is_not_backed_up_by_half(tmp_path: Path, command: str):
    (tmp_path / ".env").write_text("MONGODB_URL=mongodb://u:hunter2@127.0.0.1:1\n")
    refused = atelier(tmp_path, command, "a.tar.gz")
    assert refused.returncode == 1
    assert "mongodump" in refused.stderr
    assert "hunter2" not in refused.stderr
