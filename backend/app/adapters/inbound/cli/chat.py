"""`atelier chat`: talk to the service in the terminal."""

import asyncio
import contextlib
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from app.adapters.inbound.cli.client import Client, ClientError, Turn
from app.adapters.inbound.cli.output import complain, question, say
from app.adapters.inbound.cli.running import token_of
from app.adapters.inbound.cli.screen import Screen
from app.settings import settings_for

HELP = """\
Write a message and press Enter. Ctrl-C stops an answer, Ctrl-D (or Ctrl-C twice at the prompt) ends the program.

/new            begin a new conversation
/list           the newest conversations
/open NUMBER    go on with one of them
/retry          run the last turn again, for example after it failed
/model NAME     ask another model from now on, as provider@model
/skill NAME …   write one message that uses a skill; /skill alone lists them
/compact        replace old messages by a summary in what the model is sent
/workflow FILE  save the workflow that was built here; for ComfyUI's canvas where the name ends in .canvas.json
/export FILE    save the conversation, as Markdown where the name ends in .md, else as JSON
/quit           end"""
RECENT = 20
SHOWN_AGAIN = 20
LONGEST_TURN = 200


@dataclass(slots=True)
class Options:
    """What the command line says."""

    url: str
    token: str | None = None
    data_dir: Path | None = None
    model: str | None = None
    conversation: str | None = None
    last: bool = False
    listing: bool = False
    message: str | None = None


def run(options: Options) -> int:
    """Chat until the user ends it; the exit code."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # pyright: ignore[reportUnusedImport] - gives input() its line editing
    try:
        session = _Session(options)
        with asyncio.Runner() as runner:
            return session.run(runner)
    except ClientError as error:
        return complain(str(error))
    except KeyboardInterrupt:
        return 130


@dataclass
class _Session:
    """A chat: the client, the screen, and the conversation that it is in."""

    options: Options
    screen: Screen = field(default_factory=Screen)
    conversation_id: str | None = None
    listed: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def __post_init__(self) -> None:
        self.client = Client(self.options.url, self.options.token or token_of(settings_for(self.options.data_dir)))
        self.conversation_id = self.options.conversation

    def run(self, runner: asyncio.Runner) -> int:
        if self.options.listing:
            runner.run(self._list())
            return 0
        if self.options.last:
            newest = runner.run(self.client.get("/api/conversations", limit=1))["items"]
            if not newest:
                raise ClientError("There is no conversation to go on with yet.")
            self.conversation_id = newest[0]["id"]
        if self.options.message is not None or not sys.stdin.isatty():
            return runner.run(self._ask(self.options.message or sys.stdin.read()))
        if self.conversation_id:
            runner.run(self._show_history())
        else:
            runner.run(self._greet())
        return self._loop(runner)

    def _loop(self, runner: asyncio.Runner) -> int:
        is_interrupted = False
        while True:
            try:
                text = question("\n› ").strip()
            except EOFError:
                say()
                return 0
            except KeyboardInterrupt:
                if is_interrupted:
                    say()
                    return 0
                is_interrupted = True
                say("\n(Ctrl-C again, Ctrl-D or /quit ends the program)")
                continue
            is_interrupted = False
            if text in ("/quit", "/exit"):
                return 0
            try:
                if text.startswith("/"):
                    runner.run(self._command(text))
                elif text:
                    runner.run(self._ask(text))
            except ClientError as error:
                self.screen.rest()
                self.screen.console.print(Text(str(error), style="red"))

    async def _greet(self) -> None:
        models = (await self.client.get("/api/models"))["items"]
        self.screen.console.print(Text(f"Atelier at {self.client.url}, answering with {models[0]['id']}.", style="dim"))
        self.screen.console.print(Text("Ctrl-C stops an answer, /help lists the commands.", style="dim"))

    async def _ask(self, text: str, skill: str | None = None) -> int:
        """Send a message; 0 where it was answered."""
        return await self._follow(
            self.client.turn(text, conversation_id=self.conversation_id, model=self.options.model, skill=skill)
        )

    async def _retry(self) -> int:
        """Run the last turn again; 0 where it was answered.

        Raises:
            ClientError: there is no message of the user to answer.
        """
        page = await self.client.get(f"{self._path()}/messages", limit=LONGEST_TURN)
        asked = [message for message in page["items"] if message["role"] == "user"]
        if not asked:
            raise ClientError("There is no message of yours to answer again. Write one.")
        last = asked[-1]
        return await self._follow(self.client.retry(last["conversation_id"], last["id"], model=self.options.model))

    async def _follow(self, turn: Turn) -> int:
        """Show one turn up to its end; 0 where it was answered."""
        end = "error"
        with _interrupts(turn):
            async for event in turn.events():
                self.conversation_id = event.get("conversation_id", self.conversation_id)
                self.screen.show(event)
                if event["type"] == "tool_call" and event["needs_approval"]:
                    await turn.decide(event["tool_call_id"], await self._may_run(event["name"]))
                end = event["type"]
        self.screen.rest()
        return 0 if end == "complete" else 130 if end == "cancelled" else 1

    async def _may_run(self, name: str) -> bool:
        """Ask the user whether a tool may run; where nobody can be asked it may not."""
        if not sys.stdin.isatty():
            complain(f"{name} needs approval, and there is nobody to ask.")
            return False
        answer = await asyncio.to_thread(question, f"  May {name} run? [y/N] ")
        return answer.strip().lower() in ("y", "yes")

    async def _command(self, text: str) -> None:
        name, _, argument = text.partition(" ")
        match name:
            case "/new":
                self.conversation_id = None
                say("(a new conversation)")
            case "/list":
                await self._list()
            case "/open":
                await self._open(argument.strip())
            case "/retry":
                await self._retry()
            case "/model" if argument.strip():
                self.options.model = argument.strip()
            case "/skill":
                await self._skill(argument.strip())
            case "/compact":
                done = await self.client.post(f"{self._path()}/compact")
                say(f"({done['messages']} messages are now a summary of {done['tokens']} tokens for the model)")
            case "/workflow" if argument.strip():
                kind = "canvas" if argument.strip().endswith(".canvas.json") else "api"
                await self._save(argument.strip(), f"{self._path()}/workflow", kind)
            case "/export" if argument.strip():
                kind = "markdown" if argument.strip().endswith(".md") else "json"
                await self._save(argument.strip(), f"{self._path()}/export", kind)
            case _:
                say(HELP)

    def _path(self) -> str:
        """Where the conversation is.

        Raises:
            ClientError: there is none yet.
        """
        if self.conversation_id is None:
            raise ClientError("There is no conversation yet. Write something, or open one with /list and /open.")
        return f"/api/conversations/{self.conversation_id}"

    async def _skill(self, argument: str) -> None:
        """Ask with a skill; without a message, list the skills."""
        slug, _, text = argument.partition(" ")
        if slug and text.strip():
            await self._ask(text.strip(), skill=slug)
            return
        for skill in (await self.client.get("/api/skills"))["items"]:
            self.screen.console.print(Text(f"{skill['slug']:<18} {skill['description']}"))

    async def _save(self, name: str, path: str, kind: str) -> None:
        """Write a download to a file, which must not be there yet.

        Raises:
            ClientError: it is there, or cannot be written.
        """
        _write_new(name, await self.client.text(path, format=kind))
        say(f"(saved in {name})")

    async def _open(self, number: str) -> None:
        if not number.isdigit() or not 0 < int(number) <= len(self.listed):
            raise ClientError("Say which one: /list numbers them, /open 1 opens the first.")
        self.conversation_id = self.listed[int(number) - 1]["id"]
        await self._show_history()

    async def _list(self) -> None:
        self.listed = (await self.client.get("/api/conversations", limit=RECENT))["items"]
        if not self.listed:
            say("No conversation yet.")
            return
        if not self.screen.console.is_terminal:
            for row in self.listed:
                title = " ".join((row["title"] or "Untitled").split())
                say("\t".join([row["id"], row["updated_at"], str(row["message_count"]), title]))
            return
        table = Table(box=None, pad_edge=False)
        for heading in ("", "title", "messages", "last", "id"):
            table.add_column(
                heading, style="dim" if heading in ("last", "id") else None, no_wrap=heading in ("last", "id")
            )
        for number, row in enumerate(self.listed, 1):
            when = row["updated_at"][:16].replace("T", " ")
            table.add_row(str(number), Text(row["title"] or "Untitled"), str(row["message_count"]), when, row["id"])
        self.screen.console.print(table)

    async def _show_history(self) -> None:
        page = await self.client.get(f"/api/conversations/{self.conversation_id}/messages", limit=SHOWN_AGAIN)
        conversation = await self.client.get(f"/api/conversations/{self.conversation_id}")
        model = self.options.model or conversation["next_model"]
        runs = page.get("runs", {})
        run = None
        for message in page["items"]:
            if message["role"] == "user":
                if run is not None:
                    self.screen.outcome(run)
                run = runs.get(message["id"])
            self.screen.message(message)
        if run is not None:
            self.screen.outcome(run)
            if run["status"] in ("failed", "cancelled"):
                self.screen.console.print(Text("(/retry asks again)", style="dim"))
        self.screen.console.print(Text(f"(answering with {model})", style="dim"))


def _write_new(name: str, content: str) -> None:
    try:
        with Path(name).expanduser().open("x", encoding="utf-8") as file:
            file.write(content)
    except OSError as error:
        raise ClientError(f"{name} cannot be written: {error.strerror}.") from error


@contextlib.contextmanager
def _interrupts(turn: Turn) -> Any:
    """Let Ctrl-C stop the answer: the first asks the service, the next one gives up waiting for it."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    asking: list[asyncio.Task[None]] = []

    def interrupt() -> None:
        if asking or not turn.connected:
            task.cancel()
        else:
            asking.append(loop.create_task(turn.cancel()))

    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        yield
    except asyncio.CancelledError:
        task.uncancel()
        raise ClientError("Given up. The service goes on with the answer; --continue shows it.") from None
    finally:
        loop.remove_signal_handler(signal.SIGINT)
