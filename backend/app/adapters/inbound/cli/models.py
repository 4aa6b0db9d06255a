"""`atelier models`: what can be asked here, and what each model can."""

import asyncio
import sys
from pathlib import Path

from rich.table import Table

from app.adapters.inbound.cli.output import complain, make_console, say, say_json
from app.core.domain.errors import AtelierError
from app.core.domain.program import program
from app.core.ports import ModelInfo, ModelList


def run(provider: str | None, data_dir: Path | None, as_json: bool) -> int:
    """Print the models; the exit code."""
    try:
        listed = asyncio.run(_listed(data_dir))
    except AtelierError as error:
        return complain(error.message)
    models = [model for model in listed.models if provider in (None, model.provider)]
    console = make_console(stderr=True)
    for entry in listed.providers:
        if entry.error and provider in (None, entry.id):
            console.print(f"{entry.title}: {entry.error}", style="yellow")
    if provider is not None and not models:
        known = {entry.id: entry for entry in listed.providers}
        if provider not in known:
            return complain(f"There is no provider {provider!r}. The providers are {', '.join(known)}.")
        return complain(f"{known[provider].title} has no key here. Enter one with: {program()} keys set {provider}")
    _print(models, as_json)
    return 0


def _print(models: list[ModelInfo], as_json: bool) -> None:
    if as_json:
        say_json([model.model_dump(mode="json", exclude_none=True) for model in models])
        return
    if not sys.stdout.isatty():
        for model in models:
            say(model.id)
        return
    table = Table("model", "tools", "images", "context", "$ / M in", "$ / M out", box=None)
    for model in models:
        name = f"{model.id}  (default)" if model.default else model.id
        if model.retires_soon:
            name += f"  (retires {model.retires})"
        context = f"{model.context_tokens:,}" if model.context_tokens else ""
        table.add_row(
            name, _can(model.tools), _can(model.images), context, _price(model.input_price), _price(model.output_price)
        )
    make_console().print(table)


def _can(fact: bool | None) -> str:
    return {True: "yes", False: "no", None: ""}[fact]


def _price(price: float | None) -> str:
    return "" if price is None else f"{price:g}"


async def _listed(data_dir: Path | None) -> ModelList:
    from app.bootstrap import make_catalog

    catalog = make_catalog(data_dir)
    try:
        return await catalog.models()
    finally:
        await catalog.close()
