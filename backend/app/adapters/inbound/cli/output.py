"""What the command prints: the one place that writes to the terminal, and lets nothing through that controls it."""

import json
import re
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from app.core.domain.printable import printable

_NOT_ESCAPED = re.compile(r"[\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What JSON leaves as it is, and a terminal may not."""


class SafeConsole(Console):
    """A console whose own sequences reach the terminal, and none that is part of a text."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def make_console(*, stderr: bool = False) -> Console:
    """A console on standard output or standard error that takes text as it is: no markup, no emoji names."""
    return SafeConsole(stderr=stderr, markup=False, emoji=False, highlight=False)


def write(text: str) -> None:
    """Write to standard output at once, without a line's end."""
    sys.stdout.write(printable(text))
    sys.stdout.flush()


def say(text: str = "") -> None:
    """Write a line to standard output."""
    write(text + "\n")


def say_json(value: Any) -> None:
    """Write JSON as a line: what controls a terminal is escaped in it, so that no character is lost."""
    text = json.dumps(value, ensure_ascii=False)
    sys.stdout.write(_NOT_ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Write a line to standard error."""
    print(printable(text), file=sys.stderr)


def complain(text: str, code: int = 1) -> int:
    """Say on standard error what went wrong; the exit code."""
    note(f"atelier: {text}")
    return code


def question(text: str) -> str:
    """Ask the one at the terminal; what was answered."""
    return input(printable(text))
