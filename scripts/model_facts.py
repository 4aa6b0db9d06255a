"""Write `backend/app/adapters/outbound/llm_providers/models.json` from the model table of a LiteLLM release.

That table (MIT licence, BerriAI/litellm) names the page of the provider that each entry was read from. Usage:

    pip download --no-deps litellm && python scripts/model_facts.py litellm-*.whl

`make models-check` downloads the newest release, reports what changed, and leaves the new table in place.
"""

import sys
import zipfile
from pathlib import Path
from typing import Any

import orjson

TABLE = "litellm/model_prices_and_context_window_backup.json"
TARGET = Path(__file__).parent.parent / "backend/app/adapters/outbound/llm_providers/models.json"
PROVIDERS = {
    "openai": "openai",
    "mistral": "mistral",
    "gemini": "gemini",
    "zai": "bigmodel",
    "bigmodel": "bigmodel",
    "openrouter": "openrouter",
    "moonshot": "moonshot",
    "anthropic": "anthropic",
    "groq": "groq",
}
FLAGS = {"supports_function_calling": "tools", "supports_vision": "images", "supports_reasoning": "reasoning"}
LIMITS = {
    "supports_pdf_input": "pdf",
    "supports_sampling_params": "sampling",
    "supports_forced_tool_use": "forced_tools",
    "supports_adaptive_thinking": "adaptive_thinking",
}
"""Kept only where the table says something: silence is not a no."""
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
SIZES = {"max_input_tokens": "context_tokens", "max_output_tokens": "output_tokens"}
PRICES = {"input_cost_per_token": "input_price", "output_cost_per_token": "output_price"}


CORRECTIONS: dict[str, dict[str, Any]] = {
    # Moonshot retires the K2 series at the end of 2026 and closed it to new accounts on 2026-10-31:
    # https://platform.kimi.ai/docs/api/models-overview
    "moonshot@kimi-k2": {"retires": "2026-12-31", "successor": "kimi-k3.1-pro"},
}
"""What providers say and the table does not, by the beginnings of names."""


def facts(entry: dict[str, Any]) -> dict[str, Any]:
    """What the service keeps of one entry; prices are in US dollars per million tokens."""
    if entry.get("mode") not in ("chat", "responses", "completion"):
        return {"chat": False}
    kept: dict[str, Any] = {ours: bool(entry.get(theirs)) for theirs, ours in FLAGS.items()}
    kept |= {ours: int(entry[theirs]) for theirs, ours in SIZES.items() if entry.get(theirs)}
    kept |= {
        ours: round(entry[theirs] * 1_000_000, 6) for theirs, ours in PRICES.items() if entry.get(theirs) is not None
    }
    kept |= {ours: bool(entry[theirs]) for theirs, ours in LIMITS.items() if entry.get(theirs) is not None}
    if (levels := efforts(entry)) is not None:
        kept["efforts"] = levels
    if retires := entry.get("deprecation_date"):
        kept["retires"] = retires
        if successor := entry.get("successor_model"):
            kept["successor"] = successor.rpartition("/")[2]
    return kept


def efforts(entry: dict[str, Any]) -> list[str] | None:
    """The reasoning efforts that a model takes; None where the table does not say."""
    if listed := entry.get("reasoning_effort_levels"):
        return listed
    flags = {level: entry.get(f"supports_{level}_reasoning_effort") for level in EFFORTS}
    if all(flag is None for flag in flags.values()):
        return None
    usual = ("low", "medium", "high")
    return [level for level in EFFORTS if (flags[level] if flags[level] is not None else level in usual)]


def main(wheel: str) -> None:
    """Write the table."""
    with zipfile.ZipFile(wheel) as archive:
        table: dict[str, dict[str, Any]] = orjson.loads(archive.read(TABLE))
    found: dict[str, dict[str, Any]] = {}
    for name, entry in table.items():
        provider = PROVIDERS.get(entry.get("litellm_provider", ""))
        if provider is None:
            continue
        theirs = entry["litellm_provider"]
        model = name.removeprefix(f"{theirs}/")
        found[f"{provider}@{model}"] = facts(entry)
    for beginning, more in CORRECTIONS.items():
        for name in found:
            if name.startswith(beginning):
                found[name] = {**more, **found[name]}
    # Pictures are priced by size, as models of names with a size in them.
    found = {name: what for name, what in found.items() if "/" not in name or what != {"chat": False}}
    report(orjson.loads(TARGET.read_bytes()), found)
    lines = [f"  {orjson.dumps(name).decode()}: {orjson.dumps(found[name]).decode()}" for name in sorted(found)]
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def report(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Print which models came, went or changed."""
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before is None:
            print(f"+ {name}")
        elif after is None:
            print(f"- {name}")
        elif changed := {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}:
            print(f"~ {name}: " + ", ".join(f"{k} {before.get(k)} -> {after.get(k)}" for k in sorted(changed)))


if __name__ == "__main__":
    main(sys.argv[1])
