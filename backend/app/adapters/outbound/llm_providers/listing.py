"""What models a provider has, and what it says of them: the answers of its list, in whatever shape."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from datetime import date
from typing import Any, cast

import aiohttp

from app.adapters.outbound.llm_providers.bounds import WEB_PAGES, read_document
from app.adapters.outbound.llm_providers.endpoint import Endpoint
from app.adapters.outbound.llm_providers.fields import fields
from app.adapters.outbound.llm_providers.providers import Wire
from app.core.domain.errors import AtelierError, KeyRefused, KeyUnchecked, ProviderNotConfigured
from app.core.domain.text import clean_text, load_json

LIST_SECONDS = 5.0
MAX_PAGES = 50
PAGE_SIZES = {Wire.ANTHROPIC: {"limit": "1000"}, Wire.GEMINI: {"pageSize": "1000"}}
"""The largest pages that are given: without these Anthropic's have 20 models and Gemini's 50.

https://platform.claude.com/docs/en/api/models-list, https://ai.google.dev/api/models
"""

MAX_MODELS = 5_000
MAX_SHOWN = 500
MAX_NAME = 200
Facts = dict[str, Any]


async def list_models(endpoint: Endpoint) -> dict[str, Facts]:
    """The models at `endpoint` by name, with what it says of each.

    Raises:
        AtelierError: it cannot be asked.
    """
    try:
        async with asyncio.timeout(LIST_SECONDS):
            if endpoint.provider.models_path == "/api/tags":
                return await _ollama(endpoint)
            return {name: facts async for name, facts in _pages(endpoint) if name}
    except TimeoutError as error:
        raise endpoint.timed_out(LIST_SECONDS) from error
    except (aiohttp.ClientError, ValueError) as error:
        raise endpoint.out_of_reach() from error


async def _pages(endpoint: Endpoint) -> AsyncGenerator[tuple[str, Facts]]:
    """The entries of all pages of a list; most providers have one."""
    url = endpoint.url + endpoint.provider.models_path
    query = PAGE_SIZES.get(endpoint.provider.wire, {})
    for _ in range(MAX_PAGES):
        document = await _get(endpoint, url, query)
        for entry in _entries(document):
            yield entry
        page = fields(document)
        if (token := page.get("nextPageToken")) and isinstance(token, str):
            query = {**query, "pageToken": token}
        elif page.get("has_more") is True and isinstance(page.get("last_id"), str):
            query = {**query, "after_id": page["last_id"]}
        else:
            return


async def check_key(endpoint: Endpoint) -> None:
    """Ask a provider whether it accepts the endpoint's key.

    Raises:
        KeyRefused: it does not.
        KeyUnchecked: it cannot be asked, or its answer says nothing about the key.
    """
    provider = endpoint.provider
    root = endpoint.url.removesuffix(provider.prefix) if provider.models_path == "/api/tags" else endpoint.url
    url = root + (provider.key_path or provider.models_path)
    try:
        async with (
            asyncio.timeout(LIST_SECONDS),
            endpoint.pool.session().get(url, headers=endpoint.headers) as response,
        ):
            if response.status == 200 and response.content_type in WEB_PAGES:
                raise KeyUnchecked(endpoint.not_a_model(response.content_type).message)
            if response.status == 200:
                return
            status, error = response.status, await endpoint.refusal(response, "")
    except TimeoutError as error:
        raise KeyUnchecked(endpoint.timed_out(LIST_SECONDS).message) from error
    except (aiohttp.ClientError, ValueError) as error:
        raise KeyUnchecked(endpoint.out_of_reach().message) from error
    if status == 404:
        raise KeyUnchecked(f"{endpoint.title} has no list of models that the key could be checked with.")
    if status == 403:
        raise KeyUnchecked(f"{endpoint.title} does not let this key list its models (HTTP 403).")
    if isinstance(error, ProviderNotConfigured):
        raise KeyRefused(f"{endpoint.title} does not accept this key (HTTP {status}).")
    raise KeyUnchecked(error.message)


async def _get(endpoint: Endpoint, url: str, query: Mapping[str, str] | None = None, **body: Any) -> Any:
    method = "POST" if body else "GET"
    async with endpoint.pool.session().request(
        method, url, params=query, headers=endpoint.headers, json=body or None
    ) as response:
        if response.status != 200:
            raise await endpoint.refusal(response, "")
        if response.content_type in WEB_PAGES:
            raise endpoint.not_a_model(response.content_type)
        return load_json(await read_document(response, endpoint.title))


async def _ollama(endpoint: Endpoint) -> dict[str, Facts]:
    """What is pulled, and what each can: Ollama says it a model at a time."""
    root = endpoint.url.removesuffix(endpoint.provider.prefix)
    document = await _get(endpoint, f"{root}/api/tags")
    names = [str(entry.get("name")) for entry in _dicts(document, "models")][:MAX_SHOWN]

    async def show(name: str) -> Facts:
        try:
            found: Any = await _get(endpoint, f"{root}/api/show", model=name)
        except (AtelierError, aiohttp.ClientError, ValueError):
            return {}
        if not isinstance(found, dict):
            return {}
        shown = cast("dict[str, Any]", found)
        can = shown.get("capabilities")
        facts: Facts = {}
        if isinstance(can, list):
            facts = {"tools": "tools" in can, "images": "vision" in can, "reasoning": "thinking" in can}
            facts["chat"] = "completion" in can
        told: Any = shown.get("model_info")
        info = cast("dict[str, Any]", told) if isinstance(told, dict) else {}
        sizes = [value for key, value in info.items() if key.endswith(".context_length") and isinstance(value, int)]
        return facts | ({"context_tokens": sizes[0]} if sizes else {})

    return dict(zip(names, await asyncio.gather(*map(show, names)), strict=True))


def _entries(document: Any) -> Iterator[tuple[str, Facts]]:
    for entry in [*_dicts(document, "data"), *_dicts(document, "models")][:MAX_MODELS]:
        name = clean_text(str(entry.get("id") or entry.get("name") or "").removeprefix("models/"))[:MAX_NAME]
        yield name, {key: value for key, value in _facts(entry).items() if isinstance(value, bool | int | float)}


def _facts(entry: dict[str, Any]) -> Facts:
    """What one entry says: OpenRouter's, Mistral's, Groq's, Moonshot's, Gemini's and vLLM's words for it."""
    can: Any = entry.get("capabilities") if isinstance(entry.get("capabilities"), dict) else {}
    parameters = entry.get("supported_parameters")
    architecture: Any = entry.get("architecture") if isinstance(entry.get("architecture"), dict) else {}
    inputs: Any = architecture.get("input_modalities")
    methods = entry.get("supportedGenerationMethods")
    pricing: Any = entry.get("pricing") if isinstance(entry.get("pricing"), dict) else {}
    return {
        "chat": can.get("completion_chat", "generateContent" in methods if isinstance(methods, list) else None),
        "tools": can.get("function_calling", "tools" in parameters if isinstance(parameters, list) else None),
        "images": can.get("vision", "image" in inputs if isinstance(inputs, list) else entry.get("supports_image_in")),
        "reasoning": entry.get("supports_reasoning", entry.get("thinking")),
        "context_tokens": _first(
            entry, "context_length", "max_context_length", "context_window", "inputTokenLimit", "max_model_len"
        ),
        "output_tokens": _first(entry, "max_completion_tokens", "outputTokenLimit"),
        "input_price": _per_million(pricing.get("prompt")),
        "output_price": _per_million(pricing.get("completion")),
        "retires": _date(entry.get("shutdown_date") or entry.get("deprecation")),
    }


def _first(entry: dict[str, Any], *names: str) -> int | None:
    values = (entry.get(name) for name in names)
    return next((value for value in values if isinstance(value, int) and value > 0), None)


def _date(value: Any) -> date | None:
    """The day that OpenAI (`shutdown_date`) and Mistral (`deprecation`) name for a model's end."""
    try:
        return date.fromisoformat(value[:10]) if isinstance(value, str) else None
    except ValueError:
        return None


def _per_million(price: Any) -> float | None:
    """A price a token, as OpenRouter writes it, for a million of them; -1 is its word for "it depends"."""
    try:
        value = float(price)
    except (TypeError, ValueError):
        return None
    return round(value * 1_000_000, 6) if value >= 0 else None


def _dicts(document: Any, key: str) -> list[dict[str, Any]]:
    found: Any = cast("dict[str, Any]", document).get(key) if isinstance(document, dict) else None
    return [entry for entry in cast("list[Any]", found) if isinstance(entry, dict)] if isinstance(found, list) else []
