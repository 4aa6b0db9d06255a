"""The installed command, as a person starts it: nothing set, no key, no server."""

import os
import pty
import re
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.client import Service, kinds, text_of
from tests.e2e.conftest import COMMAND, START_SECONDS, Command, clean_environment

Serve = Callable[..., Command]


async def test_a_question_is_answered_and_still_there_after_a_restart(serve: Serve, tmp_path: Path):
    command = serve()
    service = command.ready()
    assert any("offline demonstration" in line for line in _rest(command))
    async with service.socket() as connection:
        frames = await connection.ask("What is 12 * 34?")
        assert kinds(frames).count("tool_call") == kinds(frames).count("tool_result") == 1
        assert "408" in text_of(frames)
    conversation_id = frames[0]["conversation_id"]
    before = await service.history(conversation_id)
    assert [(m["seq"], m["role"]) for m in before] == [(1, "user"), (2, "assistant"), (3, "tool"), (4, "assistant")]
    assert command.stop() in (0, -signal.SIGTERM)
    assert (tmp_path / "data" / "token").stat().st_mode & 0o777 == 0o600

    service = serve().ready()
    assert await service.history(conversation_id) == before
    async with service.socket() as connection:
        for number in range(10):
            await connection.ask(f"What is {number} + 1?", conversation_id=conversation_id)
    history = await service.history(conversation_id)
    assert [m["seq"] for m in history] == list(range(1, 45))
    assert len({m["id"] for m in history}) == 44


def _rest(command: Command) -> list[str]:
    """What was said up to the end."""
    command_lines = list(command.lines)
    while not any("atelier keys set" in line for line in command_lines):
        line = command._queue.get(timeout=START_SECONDS)
        assert line is not None
        command_lines.append(line)
    return command_lines


async def test_a_killed_service_goes_on_where_it_was(serve: Serve):
    command = serve()
    service = command.ready()
    async with service.socket() as connection:
        await connection.send(type="message", content="Hello!")
        seen = await connection.until("token")
        command.stop(signal.SIGKILL)
        assert await connection.closed() in (None, 1006)
    service = serve().ready()
    async with service.socket() as connection:
        await connection.send(type="attach", run_id=seen["run_id"], after=seen["seq"])
        await connection.until("complete")
        frames = connection.frames[1:]
    assert kinds(frames) == ["reset", "token", "message", "complete"]
    history = await service.history(seen["conversation_id"])
    assert [(m["seq"], m["role"]) for m in history] == [(1, "user"), (2, "assistant")]
    assert history[1]["content"] == text_of(frames)


async def test_a_full_disk_acknowledges_nothing_and_loses_nothing(serve: Serve):
    command = serve()
    service = command.ready()
    async with service.socket() as connection:
        before = await connection.ask("What is 1 + 1?")
        conversation_id = before[0]["conversation_id"]
        command.fill_disk(True)
        await connection.send(type="message", content="Lost", conversation_id=conversation_id)
        error = await connection.until("error", "accepted")
        assert (error["type"], error["code"], error["retryable"]) == ("error", "storage_unavailable", True)
        async with service.http() as http:
            assert (await http.get("/api/health/ready")).status_code == 503
            assert (await http.post("/api/conversations", json={})).json()["code"] == "storage_unavailable"
            assert (await http.get("/api/health/live")).status_code == 200
        assert len(await service.history(conversation_id)) == 4
        command.fill_disk(False)
        after = await connection.ask("What is 2 + 2?", conversation_id=conversation_id)
        assert after[-1]["type"] == "complete"
    async with service.http() as http:
        assert (await http.get("/api/health/ready")).status_code == 200
    assert command.stop() in (0, -signal.SIGTERM)
    service = serve().ready()
    contents = [m["content"] for m in await service.history(conversation_id) if m["role"] == "user"]
    assert contents == ["What is 1 + 1?", "What is 2 + 2?"]


async def test_a_disk_that_fills_up_during_an_answer_keeps_the_answer(serve: Serve):
    command = serve()
    service = command.ready()
    async with service.socket() as connection:
        await connection.send(type="message", content="Hello!")
        seen = await connection.until("token")
        command.fill_disk(True)
        await connection.until("token", where=lambda frame: "Ollama" in frame["content"])
        command.fill_disk(False)
        await connection.until("complete")
    history = await service.history(seen["conversation_id"])
    assert history[1]["content"] == text_of(connection.frames)


async def test_a_disk_that_stays_full_during_an_answer_is_told_and_the_answer_comes_later(serve: Serve):
    command = serve(LEASE_SECONDS="1")
    service = command.ready()
    async with service.socket() as connection:
        await connection.send(type="message", content="Hello!")
        seen = await connection.until("token")
        command.fill_disk(True)
        waits = await connection.until("waiting_for_storage")
        suspended = await connection.until("suspended")
        assert waits["message"] in suspended["message"]
        assert suspended["code"] == "storage_unavailable"
        command.fill_disk(False)
        await connection.until("complete")
    history = await service.history(seen["conversation_id"])
    reset = next(frame for frame in connection.frames if frame["type"] == "reset")
    told = [frame for frame in connection.frames if frame.get("seq", 0) > reset["seq"]]
    assert history[1]["content"] == text_of(told)


def test_a_port_in_use_is_one_clear_sentence(serve: Serve):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = serve("--port", str(port))
        said = command.output()
        assert said.startswith(
            f"atelier: Port {port} is in use by another program. Stop that program, or start Atelier"
        )
        free = int(re.findall(r"port (\d+) is free", said)[0])
        assert free != port
        assert said.endswith(f"(PORT={free}, or --port {free}).")
        assert command.stop() == 1
    serve("--port", str(free)).ready()


def test_a_second_start_says_where_the_first_one_runs(serve: Serve, tmp_path: Path):
    service = serve().ready()
    port = service.url.rpartition(":")[2]
    token = (tmp_path / "data" / "token").read_text().strip()
    where = f"at http://atelier.localhost:{port}/?token={token}"
    again = serve("--port", port).output()
    assert again.startswith(f"atelier: Atelier is running already, {where}")
    elsewhere = serve().output()
    assert "Another Atelier is running on this data folder" in elsewhere
    assert where in elsewhere


def test_the_address_has_a_name_of_its_own(serve: Serve, tmp_path: Path):
    command = serve()
    service = command.ready()
    port = int(service.url.rpartition(":")[2])
    assert any(f"ready at  http://atelier.localhost:{port}/?token=" in line for line in command.lines)
    answer = httpx.get(f"{service.url}/api/health/live", headers={"Host": f"atelier.localhost:{port}"})
    assert answer.status_code == 200
    assert (tmp_path / "data" / "atelier.address").read_text().strip() == service.url
    command.stop()
    assert not (tmp_path / "data" / "atelier.address").exists()


def test_the_name_is_left_out_where_another_program_would_be_asked(serve: Serve):
    with socket.socket(socket.AF_INET6) as other:
        other.bind(("::1", 0))
        other.listen()
        command = serve("--port", str(other.getsockname()[1]))
        command.ready()
    assert not any("atelier.localhost" in line for line in command.lines)


def test_the_token_is_shown_and_rotated_beside_the_service(serve: Serve, tmp_path: Path):
    service = serve().ready()

    def token(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [COMMAND, "token", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=60
        )

    shown = token("show")
    old = shown.stdout.strip()
    assert service.headers["Authorization"] == f"Bearer {old}"
    assert f"/?token={old}" in shown.stderr
    rotated = token("rotate")
    new = rotated.stdout.strip()
    assert new != old
    assert f"/?token={new}" in rotated.stderr
    for given, status in ((old, 401), (new, 200)):
        headers = {"Authorization": f"Bearer {given}"}
        assert httpx.get(f"{service.url}/api/conversations", headers=headers).status_code == status
    fixed = subprocess.run(
        [COMMAND, "token", "rotate"],
        cwd=tmp_path,
        env={**clean_environment(), "ATELIER_TOKEN": "a-token-that-is-set"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert fixed.returncode == 1
    assert "ATELIER_TOKEN" in fixed.stderr
    assert token("show").stdout.strip() == new


@pytest.mark.parametrize("token", ["", "a-token-that-is-given"])
def test_a_data_folder_that_cannot_be_written_is_one_clear_sentence(serve: Serve, tmp_path: Path, token: str):
    (tmp_path / "file").write_text("")
    for folder in ("file", "/proc/nothing"):
        command = serve("--data-dir", folder, ATELIER_TOKEN=token)
        said = command.output()
        assert said.startswith("atelier: The data folder cannot be written")
        assert said.count("\n") == 0
        assert command.stop() == 1


def test_a_second_service_on_the_same_data_is_refused(serve: Serve):
    serve().ready()
    assert "Another Atelier is running on this data folder" in serve().output()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"CONTEXT_TOKENS": "few"}, "CONTEXT_TOKENS"),
        ({"DEFAULT_MODEL": "gpt"}, "There is no model named 'gpt'"),
        ({"DEFAULT_MODEL": "openai@gpt-4o"}, "OPENAI_API_KEY"),
        ({"HOST": "0.0.0.0", "AUTH_MODE": "none"}, "AUTH_MODE"),
        ({"MONGODB_URL": "mongodb://u:hunter2@127.0.0.1:1"}, "MONGODB_URL"),
    ],
)
def test_a_setting_that_cannot_work_is_told_at_the_start(serve: Serve, settings: dict[str, str], said: str):
    command = serve(**settings)
    output = command.output()
    assert output.startswith("atelier: ")
    assert said in output
    assert "Traceback" not in output
    assert "hunter2" not in output
    assert command.stop() in (1, 2)


def test_ctrl_c_ends_it_quietly(serve: Serve):
    command = serve()
    command.ready()
    assert command.stop(signal.SIGINT) == 0
    assert "Traceback" not in command.output()


def test_debug_shows_requests_and_no_secret(serve: Serve):
    command = serve(
        LOG_LEVEL="debug",
        ATELIER_TOKEN="hunter2-token",
        OPENAI_API_KEY="sk-hunter2",
        OPENAI_BASE_URL="http://127.0.0.1:1/v1",
    )
    service = command.ready()
    answer = chat(service, "Hi", ATELIER_TOKEN="hunter2-token")
    assert answer.returncode == 1
    assert "cannot be reached" in answer.stderr
    command.stop()
    output = command.output().replace("/?token=hunter2-token", "")
    assert "asking The server at OPENAI_BASE_URL for" in output
    assert "run=" in output
    assert "hunter2" not in output


def chat(service: Service, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The terminal client, in a pipe."""
    return subprocess.run(
        [COMMAND, "chat", "--url", service.url, *arguments],
        env={**clean_environment(), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


def test_the_terminal_asks_lists_and_goes_on(serve: Serve, tmp_path: Path):
    service = serve().ready()
    data = ("--data-dir", str(tmp_path / "data"))
    first = chat(service, *data, "What is 12 * 34?")
    assert first.returncode == 0, first.stderr
    assert first.stdout == "12 × 34 = 408.\n"
    assert "multiply(a=12, b=34)" in first.stderr
    second = chat(service, *data, "--continue", "What is 2 + 2?")
    assert second.stdout == "2 + 2 = 4.\n"
    listed = chat(service, *data, "--list").stdout
    assert "What is 12" in listed
    (line,) = listed.splitlines()
    assert line.split("\t")[2:] == ["8", "What is 12 * 34?"]
    wrong = chat(service, "Hi", ATELIER_TOKEN="wrong")
    assert (wrong.returncode, "does not accept the token" in wrong.stderr) == (1, True)
    nobody = chat(Service("http://127.0.0.1:1", None), *data, "Hi")
    assert (nobody.returncode, "No service answers" in nobody.stderr) == (1, True)


class Terminal:
    """The terminal client at a terminal."""

    def __init__(self, service: Service, folder: Path, *arguments: str) -> None:
        self.pid, self.screen = pty.fork()
        if self.pid == 0:
            environment = {**clean_environment(), "TERM": "xterm", "COLUMNS": "100"}
            command = [COMMAND, "chat", "--url", service.url, "--data-dir", str(folder / "data"), *arguments]
            os.execve(COMMAND, command, environment)
        self.seen = ""

    def until(self, text: str) -> None:
        while text not in self.seen:
            data = os.read(self.screen, 65_536)
            assert data, self.seen
            self.seen += data.decode("utf-8", "replace")

    def type(self, text: str) -> None:
        self.seen = ""
        os.write(self.screen, text.encode())

    def end(self) -> int:
        os.write(self.screen, b"/quit\n")
        while True:
            try:
                if not os.read(self.screen, 65_536):
                    break
            except OSError:
                break
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_ctrl_c_at_the_terminal_stops_the_answer_and_not_the_program(serve: Serve, tmp_path: Path):
    terminal = Terminal(serve().ready(), tmp_path)
    terminal.until("› ")
    terminal.type("Hello there\n")
    terminal.until("demonstration")
    terminal.type("\x03")
    terminal.until("(stopped)")
    terminal.until("› ")
    terminal.type("What is 12 * 34?\n")
    terminal.until("multiply(a=12, b=34)")
    terminal.until("408")
    terminal.until("› ")
    assert terminal.end() == 0


def test_commands_at_the_terminal(serve: Serve, tmp_path: Path):
    terminal = Terminal(serve().ready(), tmp_path)
    terminal.until("› ")
    terminal.type("/compact\n")
    terminal.until("There is no conversation yet")
    terminal.type("/skill\n")
    terminal.until("text-to-image")
    terminal.type("/skill nothing do it\n")
    terminal.until("There is no skill 'nothing'")
    terminal.type("What is 12 * 34?\n")
    terminal.until("408")
    terminal.until("› ")
    terminal.type("/compact\n")
    terminal.until("nothing to summarise")
    terminal.type(f"/workflow {tmp_path}/w.json\n")
    terminal.until("COMFYUI_URL")
    terminal.type(f"/export {tmp_path}/talk.md\n")
    terminal.until("(saved in")
    assert "408" in (tmp_path / "talk.md").read_text()
    terminal.type(f"/export {tmp_path}/talk.md\n")
    terminal.until("exists")
    assert terminal.end() == 0


def test_the_terminal_comes_back_after_a_kill_and_loses_nothing(serve: Serve, tmp_path: Path):
    command = serve()
    service = command.ready()
    port = service.url.rpartition(":")[2]
    terminal = Terminal(service, tmp_path)
    terminal.until("› ")
    terminal.type("Hello there\n")
    terminal.until("demonstration")
    command.stop(signal.SIGKILL)
    terminal.until("connection lost")
    serve("--port", port).ready()
    terminal.until("being started again")
    terminal.until("one of its models")
    terminal.until("› ")
    assert terminal.end() == 0
    continued = Terminal(service, tmp_path, "--continue")
    continued.until("Hello there")
    continued.until("demonstration")
    assert continued.end() == 0


def test_the_terminal_asks_before_a_tool_runs(serve: Serve, tmp_path: Path):
    service = serve(TOOL_APPROVAL="ask").ready()
    terminal = Terminal(service, tmp_path)
    terminal.until("› ")
    terminal.type("What is 12 * 34?\n")
    terminal.until("May multiply run?")
    terminal.type("y\n")
    terminal.until("12 × 34 = 408")
    terminal.type("What is 2 * 3?\n")
    terminal.until("May multiply run?")
    terminal.type("n\n")
    terminal.until("refused")
    assert terminal.end() == 0
    piped = chat(service, "--data-dir", str(tmp_path / "data"), "What is 4 * 5?")
    assert "nobody to ask" in piped.stderr
    assert "refused" in piped.stdout


def test_what_is_stored_can_be_checked(serve: Serve, tmp_path: Path):
    command = serve()
    service = command.ready()
    assert chat(service, "--data-dir", str(tmp_path / "data"), "What is 12 * 34?").returncode == 0
    command.stop()

    def check(*arguments: str) -> subprocess.CompletedProcess[str]:
        found = [COMMAND, "check", *arguments]
        return subprocess.run(found, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, check=False)

    fine = check()
    assert (fine.returncode, fine.stdout) == (0, "0 violations found.\n")
    with sqlite3.connect(tmp_path / "data" / "atelier.sqlite3") as connection:
        connection.execute("DELETE FROM messages WHERE role = 'tool'")
    broken = check("--data-dir", "data")
    assert broken.returncode == 1
    assert "promise 2: before message 4 a call has no result" in broken.stdout
    assert check("--data-dir", "nowhere").returncode == 2

    with sqlite3.connect(tmp_path / "data" / "atelier.sqlite3") as connection:
        connection.execute("UPDATE conversations SET head_message_id = NULL")
    running = serve()
    running.ready()
    refused = check("--repair")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Another Atelier is running" in refused.stderr
    running.stop()
    repaired = check("--repair")
    assert (repaired.returncode, repaired.stdout.splitlines()[-1]) == (0, "3 repairs made, 0 violations left.")
    assert "repaired: the head is the last message of the active branch" in repaired.stdout
    assert check("--repair").stdout == "0 repairs made, 0 violations left.\n"
    assert check().returncode == 0


def test_the_terminal_says_why_a_turn_failed_and_runs_it_again(serve: Serve, tmp_path: Path):
    service = serve(OPENAI_API_KEY="sk-test", OPENAI_BASE_URL="http://127.0.0.1:1", PROVIDER_RETRIES="0").ready()
    failed = chat(service, "--data-dir", str(tmp_path / "data"), "What is 12 * 34?")
    assert failed.returncode == 1
    reason = failed.stderr.split(".")[0].strip()
    terminal = Terminal(service, tmp_path, "--continue")
    terminal.until(f"✗ {reason}")
    terminal.until("/retry")
    terminal.type("/model demo@offline\n/retry\n")
    terminal.until("408")
    assert terminal.end() == 0
