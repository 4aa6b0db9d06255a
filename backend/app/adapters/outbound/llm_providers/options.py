"""Parameters of a request in the words of OpenAI's chat completions, for providers that have other words."""

from collections.abc import Mapping
from typing import Any, cast

from app.core.domain.errors import ProviderRejected
from app.core.ports import ModelFacts

IGNORED = frozenset({"user", "metadata", "store", "seed", "service_tier", "prompt_cache_key", "safety_identifier", "n"})
"""Parameters of OpenAI's that say nothing about the answer itself: another provider may do without them."""

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""Reasoning efforts, from the least to the most."""


def refuse_unknown(options: Mapping[str, Any], known: frozenset[str], title: str) -> None:
    """Refuse what a provider has no counterpart for, where it would change the answer.

    Raises:
        ProviderRejected: `options` hold such a thing.
    """
    for name, value in options.items():
        if name not in known and name not in IGNORED and value not in (None, 0, False, [], {}):
            raise ProviderRejected(f"{title} has no {name!r}. Leave it out, or ask a model of another provider.")


def chosen_tool(choice: Any) -> str | None:
    """The name in a `tool_choice` that names one tool; None for any other."""
    if not isinstance(choice, dict):
        return None
    function: Any = cast("dict[str, Any]", choice).get("function") or {}
    return function.get("name")


def wanted_schema(response_format: Any) -> dict[str, Any] | None:
    """The JSON Schema in a `response_format`; None where it asks for no schema."""
    if not isinstance(response_format, dict):
        return None
    return cast("dict[str, Any]", response_format).get("json_schema", {}).get("schema")


def output_limit(options: Mapping[str, Any]) -> int | None:
    """The longest answer that is wanted, in tokens."""
    return options.get("max_completion_tokens") or options.get("max_tokens")


def stops(options: Mapping[str, Any]) -> list[str]:
    """What ends an answer."""
    stop: str | list[str] = options.get("stop") or []
    return [stop] if isinstance(stop, str) else stop


def effort_for(options: Mapping[str, Any], facts: ModelFacts) -> str | None:
    """The reasoning effort that is wanted, as the model takes it: the nearest one where it lacks that."""
    effort = options.get("reasoning_effort")
    if effort not in EFFORTS or not facts.efforts or effort in facts.efforts:
        return effort
    place = EFFORTS.index(effort)
    levels = [level for level in facts.efforts if level in EFFORTS]
    return min(levels, key=lambda level: abs(EFFORTS.index(level) - place), default=None)
