"""What a turn looks like in the terminal: Markdown that grows, tool calls as they happen, plain text in a pipe."""

from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown
from rich.padding import Padding
from rich.text import Text

from app.adapters.inbound.cli.output import make_console, write
from app.core.domain.printable import printable

MAX_RESULT = 600
REFRESH = 12


class Screen:
    """Shows turns, one after the other."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or make_console()
        self._plain = not self.console.is_terminal
        self._live: Live | None = None
        self._block = ""

    def show(self, event: dict[str, Any]) -> None:
        """Show one event of a run."""
        match event["type"]:
            case "token":
                self._token(event["content"])
            case "tool_call":
                self.rest()
                arguments = ", ".join(f"{key}={value!r}" for key, value in event["arguments"].items())
                self._note(f"⚙ {event['name']}({arguments})", "cyan")
            case "tool_progress":
                self._progress(event)
            case "tool_result":
                failed = event["is_error"]
                text = _shorten(event["content"])
                self._note(f"  {'✗' if failed else '→'} {text}", "red" if failed else "green")
            case "reset":
                self._drop()
                self._note("(that answer is being started again)", "yellow")
            case "accepted" if event["queued"]:
                self._note("(waiting behind another answer)", "dim")
            case "reconnecting":
                self._pause()
                self._note("(connection lost, trying again; Ctrl-C to give up)", "yellow")
            case "waiting_for_storage":
                self._pause()
                self._note(f"(the answer waits to be stored: {event['message']})", "yellow")
            case "suspended":
                self._pause()
                self._note(f"({event['message']} Ctrl-C to stop waiting)", "yellow")
            case "cancelled":
                self.rest()
                self._note("(stopped)", "yellow")
            case "error":
                self.rest()
                self._note(event["message"], "red")
            case _:
                pass

    def rest(self) -> None:
        """Print what is still growing: it is finished."""
        if self._plain:
            if self._block:
                write("\n")
            self._block = ""
            return
        block, self._block = self._block, ""
        self._pause()
        if block.strip():
            self.console.print(_markdown(block))

    def message(self, message: dict[str, Any]) -> None:
        """Show a stored message, as when an old conversation is opened."""
        content = message["content"]
        text = content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)
        match message["role"]:
            case "user":
                self.console.print(Text(f"› {text}", style="bold"))
            case "assistant":
                if text:
                    self.console.print(_markdown(text))
                for call in message["metadata"].get("tool_calls", []):
                    self.show({"type": "tool_call", "name": call["name"], "arguments": call["args"]})
            case "tool":
                failed = message["metadata"].get("status") == "error"
                self.show({"type": "tool_result", "content": content, "is_error": failed})
            case _:
                pass

    def outcome(self, run: dict[str, Any]) -> None:
        """Show why a stored turn has no complete answer."""
        match run["status"]:
            case "failed":
                self._note(f"✗ {run['error']['message']}", "red")
            case "cancelled":
                self._note("(stopped)", "yellow")
            case "waiting":
                self._note("(waits for an approval or a tool's result)", "dim")
            case _:
                self._note("(still being answered)", "dim")

    def _token(self, piece: str) -> None:
        self._block += piece
        if self._plain:
            write(piece)
            return
        finished, self._block = _split_finished(self._block)
        if finished:
            self._pause()
            self.console.print(_markdown(finished))
        if self._live is None:
            self._live = Live(
                console=self.console, refresh_per_second=REFRESH, transient=True, vertical_overflow="crop"
            )
            self._live.start()
        self._live.update(_markdown(self._block))

    def _progress(self, event: dict[str, Any]) -> None:
        done, total, text = event.get("progress"), event.get("total"), event.get("text") or ""
        share = f"{done / total:.0%} " if isinstance(done, int | float) and total else ""
        if not self._plain and (share or text):
            self._note(f"  … {share}{text}", "dim")

    def _note(self, text: str, style: str) -> None:
        target = Padding(Text(text, style=style), (0, 0))
        if self._plain:
            make_console(stderr=True).print(target)
        else:
            self.console.print(target)

    def _pause(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _drop(self) -> None:
        self._pause()
        self._block = ""


def _markdown(text: str) -> Markdown:
    """Markdown whose links show where they lead, in place of a sequence that hides it."""
    return Markdown(printable(text), hyperlinks=False)


def _split_finished(text: str) -> tuple[str, str]:
    """The blocks of Markdown that cannot change any more, and the one that still grows."""
    end, fenced, position = 0, False, 0
    for line in text.splitlines(keepends=True):
        position += len(line)
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not line.strip() and not fenced and line.endswith("\n"):
            end = position
    return text[:end], text[end:]


def _shorten(content: Any) -> str:
    text = content if isinstance(content, str) else str(content)
    return text if len(text) <= MAX_RESULT else text[: MAX_RESULT - 1] + "…"
