"""`atelier doctor`: five small requests to one model, and what of it works."""

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import orjson

from app.adapters.inbound.cli.output import complain, say
from app.completions import Completion, aget_completion
from app.core.domain.errors import AtelierError
from app.core.ports import ModelFacts
from app.core.services.usage import cost_of

MAX_TOKENS = 2_000
"""Enough for models that think first, and a bound on what a check can cost."""

_ADD: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
            "required": ["a", "b"],
        },
    },
}
_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Check:
    """One request, and how its answer is judged.

    Attributes:
        judge: what is wrong with an answer; empty where nothing is.
        can: whether it is known of the model that it cannot do this.
    """

    name: str
    content: Any
    judge: Callable[[Completion], str]
    tools: list[dict[str, Any]] | None = None
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    can: Callable[[ModelFacts], bool | None] = lambda facts: None


def _says_something(answer: Completion) -> str:
    return "" if answer.content else "it said nothing"


def _calls(number: int) -> Callable[[Completion], str]:
    def judge(answer: Completion) -> str:
        found = [call["function"] for call in answer.tool_calls]
        if len(found) < number:
            return f"it made {len(found)} of {number} calls"
        wrong = [
            call for call in found if not isinstance(orjson.loads(call["arguments"] or "{}").get("a"), int | float)
        ]
        return f"a call came without its arguments: {wrong[0]}" if wrong else ""

    return judge


def _is_structured(answer: Completion) -> str:
    try:
        document: Any = orjson.loads(answer.content or "")
    except orjson.JSONDecodeError:
        return "the answer is not JSON"
    return "" if isinstance(document, dict) and "city" in document else "the answer does not follow the schema"


def _picture() -> str:
    """A small red square."""
    from PIL import Image

    data = BytesIO()
    Image.new("RGB", (64, 64), "red").save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def checks() -> list[Check]:
    """The five requests."""
    picture = [
        {"type": "text", "text": "Which colour is this? Answer in one word."},
        {"type": "image_url", "image_url": {"url": _picture()}},
    ]
    schema = {"type": "json_schema", "json_schema": {"name": "answer", "schema": _SCHEMA, "strict": True}}
    return [
        Check("plain", "Say hello.", _says_something),
        Check("tools", "Use the tool to add 2 and 3.", _calls(1), [_ADD], can=lambda facts: facts.tools),
        Check(
            "parallel",
            "Use the tool twice, at once: add 2 and 3, and add 4 and 5.",
            _calls(2),
            [_ADD],
            can=lambda facts: facts.tools,
        ),
        Check("image", picture, _says_something, can=lambda facts: facts.images),
        Check("structured", "Which city is Austria's capital?", _is_structured, options={"response_format": schema}),
    ]


def run(provider: str, model: str | None) -> int:
    """Send the requests and print what came of each; the exit code."""
    from app.bootstrap import make_catalog, usual_model

    try:
        name = f"{provider}@{model}" if model else usual_model(provider)
        catalog = make_catalog()
        catalog.check(name)
        return asyncio.run(_run(name, catalog.facts(name)))
    except AtelierError as error:
        return complain(error.message)


async def _run(model: str, facts: ModelFacts) -> int:
    say(f"{model}:")
    spent = {"prompt_tokens": 0, "completion_tokens": 0}
    failed = False
    for check in checks():
        if check.can(facts) is False:
            say(f"  {check.name:<11} skipped: the model is known not to do this")
            continue
        problem = await _problem(check, model, spent)
        failed = failed or bool(problem)
        say(f"  {check.name:<11} {problem or 'works'}")
    cost = cost_of(facts, spent["prompt_tokens"], spent["completion_tokens"])
    price = "an unknown price" if cost is None else f"{cost:.5f} US dollars"
    say(f"{spent['prompt_tokens']} tokens in, {spent['completion_tokens']} out: {price}")
    return int(failed)


async def _problem(check: Check, model: str, spent: dict[str, int]) -> str:
    """What does not work; empty where it does."""
    messages: Any = [{"role": "user", "content": check.content}]
    try:
        answer = await aget_completion(messages, model, None, check.tools, None, max_tokens=MAX_TOKENS, **check.options)
    except AtelierError as error:
        return f"fails: {error.message}"
    for name in spent:
        spent[name] += (answer.usage or {}).get(name, 0)
    problem = check.judge(answer)
    return f"fails: {problem}" if problem else ""
