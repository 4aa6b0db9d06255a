"""The commands at a terminal and in a pipe: what they print, and how they say what went wrong."""

import asyncio
import json
import subprocess
from pathlib import Path

from tests.e2e.conftest import COMMAND, START_SECONDS, clean_environment
from tests.integration.conftest import upstream  # noqa: F401 - a fixture
from tests.upstream import Upstream


async def run(folder: Path, *arguments: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in a pipe, started in `folder`."""
    return await asyncio.to_thread(
        subprocess.run,
        [COMMAND, *arguments],
        cwd=folder,
        env={**clean_environment(), **environment},
        input=given,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


def studio(url: str) -> str:
    return json.dumps([{"name": "studio", "base_url": url, "key_variable": "STUDIO_KEY", "model": "scripted"}])


async def test_keys_are_checked_before_they_are_stored(tmp_path: Path, upstream: Upstream):  # noqa: F811
    upstream.lists({"sk-right": ["scripted"]})
    there, away = studio(upstream.url), studio("http://127.0.0.1:9/v1")
    file = tmp_path / "data" / "keys.json"
    refused = await run(tmp_path, "keys", "set", "studio", "--force", given="sk-wrong\n", CUSTOM_PROVIDERS=there)
    assert (refused.returncode, file.exists()) == (1, False)
    assert refused.stderr.startswith("atelier: studio does not accept this key")
    unchecked = await run(tmp_path, "keys", "set", "studio", given="sk-any\n", CUSTOM_PROVIDERS=away)
    assert (unchecked.returncode, file.exists()) == (1, False)
    assert unchecked.stderr.endswith("keys set studio --force\n")
    # The model of the settings has no key yet: that must not keep anybody from entering it.
    accepted = await run(
        tmp_path, "keys", "set", "studio", given="sk-right\n", CUSTOM_PROVIDERS=there, DEFAULT_MODEL="studio@scripted"
    )
    assert accepted.returncode == 0, accepted.stderr
    assert json.loads(file.read_text()) == {"studio": "sk-right"}
    forced = await run(tmp_path, "keys", "set", "studio", "--force", given="sk-any\n", CUSTOM_PROVIDERS=away)
    assert "stored without a check" in forced.stdout
    assert json.loads(file.read_text()) == {"studio": "sk-any"}
