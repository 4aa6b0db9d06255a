"""The commands at a terminal and in a pipe: what they print, and how they say what went wrong."""

import asyncio
import json
import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

from app import __version__
from tests.e2e.conftest import COMMAND, START_SECONDS, clean_environment
from tests.integration.conftest import TOKEN, Start
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


async def test_keys_are_checked_before_they_are_stored(tmp_path: Path, upstream: Upstream):
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


EVIL = "\x1b]52;c;cHduZWQ=\x07\x1b]0;pwned\x07\x1b[2J\x1bP1$r\x1b\\\x9b31m\u202e\x00\x08"


def is_safe(printed: str) -> bool:
    """Whether nothing but the command's own colours and cursor movements is in what was printed."""
    own = re.sub(r"\x1b\[[0-9;?]*[mKAhlJ]", lambda found: "" if found[0] != "\x1b[2J" else found[0], printed)
    return not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e]", own)


async def at_a_terminal(folder: Path, *arguments: str, given: str = "", **environment: str) -> tuple[int, str]:
    """The exit code of a command at a terminal, and what it printed there."""

    def begin() -> tuple[int, str]:
        screen, terminal = pty.openpty()
        process = subprocess.Popen(
            [COMMAND, *arguments],
            cwd=folder,
            env={**clean_environment(), "TERM": "xterm-256color", "COLUMNS": "200", **environment},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
        os.close(terminal)
        os.write(screen, given.encode())
        printed = b""
        try:
            while data := os.read(screen, 65_536):
                printed += data
        except OSError:  # the last one at the terminal has left
            pass
        finally:
            os.close(screen)
        return process.wait(START_SECONDS), printed.decode("utf-8", "surrogateescape")

    return await asyncio.to_thread(begin)


async def both(folder: Path, *arguments: str, **environment: str) -> list[str]:
    """What a command prints in a pipe, and at a terminal."""
    piped = await run(folder, *arguments, **environment)
    _, shown = await at_a_terminal(folder, *arguments, **environment)
    return [piped.stdout + piped.stderr, shown]


async def test_nothing_printed_controls_the_terminal(start: Start, upstream: Upstream, tmp_path: Path):
    service = await start()
    connected = ("--url", service.url, "--token", TOKEN)
    folder = tmp_path / "elsewhere"
    folder.mkdir()

    async def chat(*arguments: str) -> list[str]:
        return await both(folder, "chat", *connected, *arguments)

    for _ in range(2):
        upstream.says("The ", EVIL[:20], EVIL[20:], "[an answer](https://example.org/x)")
    for printed in await chat("Say it"):
        assert "an answer" in printed
        assert is_safe(printed), repr(printed)

    for _ in range(2):
        upstream.calls(("c1", f"tool{EVIL}name", json.dumps({"a": EVIL})))
        upstream.says("Done.")
    for printed in await chat("Call it"):
        assert "name" in printed
        assert is_safe(printed), repr(printed)

    for _ in range(2):
        upstream.refuses(400, {"message": f"refused{EVIL} it"})
    for printed in await chat("Fail"):
        assert "refused" in printed
        assert is_safe(printed), repr(printed)

    async with service.http() as http:
        made = (await http.post("/api/conversations", json={})).json()
        said = {"content": f"a title{EVIL.replace(chr(0), '')}\tx"}
        assert (await http.post(f"/api/conversations/{made['id']}/messages", json=said)).status_code == 200
    for printed in await chat("--list"):
        assert "a title" in printed
        assert is_safe(printed), repr(printed)
    piped = await run(folder, "chat", *connected, "--list")
    assert [len(line.split("\t")) for line in piped.stdout.splitlines()] == [4] * len(piped.stdout.splitlines())
    assert made["id"] in piped.stdout

    providers = studio(upstream.url)
    upstream.lists({"k": [f"name{EVIL}end"]})
    for printed in await both(folder, "models", CUSTOM_PROVIDERS=providers, STUDIO_KEY="k"):
        assert "end" in printed
        assert is_safe(printed), repr(printed)
    for arguments in (("ask", "-m", "studio@scripted", "Hi"), ("ask", "--json", "-m", "studio@scripted", "Hi")):
        for _ in range(2):
            upstream.says(f"an answer{EVIL}")
        for printed in await both(folder, *arguments, CUSTOM_PROVIDERS=providers, STUDIO_KEY="k"):
            assert "an answer" in printed
            assert is_safe(printed), repr(printed)


async def test_hints_name_a_program_that_can_be_started(tmp_path: Path):
    hint = (await run(tmp_path, "keys", "list")).stdout
    program = hint.partition("with: ")[2].partition(" keys set")[0]
    assert program.endswith("/atelier")
    assert subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0
    found = await run(tmp_path, "keys", "list", PATH=f"{Path(COMMAND).parent}:{os.environ['PATH']}")
    assert "with: atelier keys set PROVIDER" in found.stdout
    below = await run(Path(COMMAND).parents[2], "keys", "list", "--data-dir", str(tmp_path / "data"))
    assert f"with: {Path(COMMAND).relative_to(Path(COMMAND).parents[2])} keys set" in below.stdout
    demo = await run(tmp_path, "ask", "-p", "demo", "Hello")
    assert "Ollama" in demo.stdout


async def test_errors_are_sentences(tmp_path: Path):
    for arguments in (
        ("ask", "-m", "openai@gpt-x", "Hi"),
        ("ask", "-m", "nobody@x", "Hi"),
        ("ask", "-m", "gpt-x", "Hi"),
        ("ask",),
        ("chat", "--url", "http://127.0.0.1:9", "Hi"),
        ("chat", "--url", "nowhere", "Hi"),
        ("models", "nobody"),
        ("models", "openai"),
        ("keys", "set", "nobody"),
        ("keys", "remove", "openai"),
        ("check", "--data-dir", "nowhere"),
        ("workflow", "import", "missing.json"),
    ):
        failed = await run(tmp_path, *arguments)
        assert failed.returncode != 0, arguments
        assert failed.stderr.startswith("atelier: "), failed.stderr
        assert not re.search(r"\b[A-Z][a-z]+[A-Z]\w*: |GET /|Traceback", failed.stderr), failed.stderr


@pytest.mark.parametrize("arguments", [("-h",), ("--help",), ("keys", "-h"), ("chat", "-h"), ("workflow", "--help")])
async def test_help_is_whole(tmp_path: Path, arguments: tuple[str, ...]):
    shown = await run(tmp_path, *arguments, COLUMNS="80")
    assert shown.returncode == 0
    assert "..." not in shown.stdout.replace("[ARGS]...", "")


async def test_the_version_is_an_option(tmp_path: Path):
    assert (await run(tmp_path, "--version")).stdout == f"{__version__}\n"


async def test_an_import_without_a_terminal_needs_a_yes(tmp_path: Path):
    (tmp_path / "flow.json").write_text('{"1": {"class_type": "EmptyImage", "inputs": {"width": 8}}}')
    refused = await run(tmp_path, "workflow", "import", "flow.json")
    assert (refused.returncode, "--yes" in refused.stderr) == (1, True)
    assert not list(tmp_path.glob("*/flow.json"))
    assert (await run(tmp_path, "workflow", "import", "flow.json", "--yes")).returncode == 0
    assert len(list(tmp_path.glob("*/flow.json"))) == 2
