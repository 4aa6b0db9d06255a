"""Make `backend/app/adapters/outbound/llm_providers/models.json` anew from the model table of a LiteLLM release.

That table (MIT licence, BerriAI/litellm) names the page of the provider that each entry was read from. Usage:

    pip download --no-deps litellm && python scripts/model_facts.py litellm-*.whl
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
SIZES = {"max_input_tokens": "context_tokens", "max_output_tokens": "output_tokens"}
PRICES = {"input_cost_per_token": "input_price", "output_cost_per_token": "output_price"}


def facts(entry: dict[str, Any]) -> dict[str, Any]:
    """What the service keeps of one entry; prices are in US dollars per million tokens."""
    if entry.get("mode") not in ("chat", "responses", "completion"):
        return {"chat": False}
    kept: dict[str, Any] = {ours: bool(entry.get(theirs)) for theirs, ours in FLAGS.items()}
    kept |= {ours: int(entry[theirs]) for theirs, ours in SIZES.items() if entry.get(theirs)}
    kept |= {
        ours: round(entry[theirs] * 1_000_000, 6) for theirs, ours in PRICES.items() if entry.get(theirs) is not None
    }
    return kept


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
    # Pictures are priced by size, as models of names with a size in them.
    found = {name: what for name, what in found.items() if "/" not in name or what != {"chat": False}}
    lines = [f"  {orjson.dumps(name).decode()}: {orjson.dumps(found[name]).decode()}" for name in sorted(found)]
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
