"""`atelier ask`: one question to one model, in a pipe or at a terminal."""

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.adapters.inbound.cli.output import complain, note, say, say_json, write
from app.core.domain.errors import AtelierError, InvalidFrame
from app.core.domain.program import program


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked on the command line.

    Attributes:
        stream: print pieces as they come; None where nobody said.
    """

    prompt: str | None
    provider: str | None
    model: str | None
    system: str | None
    tools: Path | None
    as_json: bool
    stream: bool | None


def run(question: Question) -> int:
    """Ask, and print the answer; the exit code."""
    try:
        messages = _messages(question)
        tools = _tools(question.tools)
        return _ask(question, messages, tools)
    except AtelierError as error:
        return complain(error.message)
    except KeyboardInterrupt:
        note("")
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141


def _ask(question: Question, messages: list[dict[str, Any]], tools: list[Any]) -> int:
    from app.completions import get_completion, stream_completion

    model = _model(question)
    is_streamed = sys.stdout.isatty() if question.stream is None else question.stream
    if is_streamed and not question.as_json:
        _print_pieces(stream_completion(messages, model, tools=tools))
        return 0
    reply = get_completion(messages, model, tools=tools)
    if question.as_json:
        say_json({"model": model, **asdict(reply)})
        return 0
    if reply.content:
        say(reply.content)
    for call in reply.tool_calls:
        say_json(call)
    return 0


def _print_pieces(deltas: Iterable[Any]) -> None:
    """Text as it comes; calls, a JSON document a line, when they are whole."""
    calls: dict[int, dict[str, Any]] = {}
    said = ""
    for delta in deltas:
        if delta.content:
            said = delta.content
            write(said)
        for fragment in delta.tool_calls or ():
            call = calls.setdefault(fragment["index"], {"function": {"name": "", "arguments": ""}})
            call |= {key: fragment[key] for key in ("id", "type") if key in fragment}
            for key, value in fragment["function"].items():
                call["function"][key] += value
    if said and not said.endswith("\n"):
        write("\n")
    for call in calls.values():
        say_json(call)


def _model(question: Question) -> str:
    """The model that was named: by provider and name, by `provider@name`, by provider alone, or not at all."""
    from app.bootstrap import make_catalog, usual_model

    if question.model and "@" in question.model and question.provider is None:
        return question.model
    if question.provider is None:
        if question.model is not None:
            raise InvalidFrame("Name the provider too: -p PROVIDER -m MODEL, or -m PROVIDER@MODEL.")
        return make_catalog().default
    return f"{question.provider}@{question.model}" if question.model else usual_model(question.provider)


def _messages(question: Question) -> list[dict[str, Any]]:
    """The prompt, with what comes through the pipe behind it."""
    piped = "" if sys.stdin.isatty() else sys.stdin.read()
    text = "\n\n".join(part for part in (question.prompt, piped.strip()) if part)
    if not text.strip():
        raise InvalidFrame(f'There is nothing to ask. Give a prompt ({program()} ask "…"), or pipe one in.')
    system = [{"role": "system", "content": question.system}] if question.system else []
    return [*system, {"role": "user", "content": text}]


def _tools(path: Path | None) -> list[Any]:
    if path is None:
        return []
    from app.adapters.inbound.openai_api.request import check_tool

    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidFrame(f"The tools cannot be read from {path}: {error.strerror}.") from error
    except ValueError as error:
        raise InvalidFrame(f"{path} is not JSON: {error}.") from error
    tools = document.get("tools") if isinstance(document, dict) else document  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if not isinstance(tools, list):
        raise InvalidFrame(f"{path} must hold a list of tools, as OpenAI defines them.")
    for number, tool in enumerate(tools):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        check_tool(tool, f"{path}: tools[{number}]")
    return tools  # pyright: ignore[reportUnknownVariableType]
