"""The models that can be asked here, and the provider that answers for each."""

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from app.adapters.outbound.llm_providers.endpoint import Endpoint, HttpPool, TimeLimits
from app.adapters.outbound.llm_providers.facts import FactBook, is_retired, retires_soon
from app.adapters.outbound.llm_providers.keys import ProviderKeys, all_providers
from app.adapters.outbound.llm_providers.listing import check_key, list_models
from app.adapters.outbound.llm_providers.pictures import Pictures
from app.adapters.outbound.llm_providers.providers import PROVIDERS, Provider, Wire
from app.adapters.outbound.llm_providers.resilience import Candidate, ResilientProvider
from app.core.domain.errors import AtelierError, ProviderNotConfigured, ProviderRejected, UnknownModel
from app.core.domain.program import program
from app.core.ports import ILLMProvider, ModelFacts, ModelInfo, ModelList, ProviderInfo
from app.settings import Settings

logger = logging.getLogger(__name__)

DEMO = "demo@offline"
DEMO_FACTS = ModelFacts(chat=True, tools=True, images=False, reasoning=False)
KEPT_PROVIDERS = 256
LIST_LIFETIME = 3_600.0
FAILED_LIST_LIFETIME = 60.0


class _Listed(NamedTuple):
    """What a provider said when it was asked for its models with `key`."""

    fresh_until: float
    names: list[str]
    error: str | None
    key: str | None


_NOTHING_LISTED = _Listed(0.0, [], None, None)


class ModelCatalog:
    """An `IModelCatalog` made of the settings and of the keys in the data folder. A package is imported when first used.

    Attributes:
        keys: the keys that it asks with.

    Args:
        checks_models: make sure at once that the models that the settings name can be asked.

    Raises:
        UnknownModel, ProviderNotConfigured: a model of DEFAULT_MODEL or MODEL_FALLBACKS cannot be asked.
    """

    def __init__(self, settings: Settings, *, checks_models: bool = True) -> None:
        self._settings = settings
        self.keys = ProviderKeys(settings)
        self._facts = FactBook(settings.model_file)
        self._pool = HttpPool(Pictures(settings.image_networks))
        self._limits = TimeLimits(
            settings.provider_connect_timeout, settings.provider_first_timeout, settings.provider_timeout
        )
        self._rows = all_providers(settings)
        # The tools are kept beside the provider: their identity is its key, and must not be used again.
        self._providers: dict[Any, tuple[ILLMProvider, Sequence[Any]]] = {}
        self._lists: dict[str, _Listed] = {}
        for model in [self.default, *settings.model_fallbacks] if checks_models else []:
            self.check(model)
            self._warn_of_retirement(model)

    @property
    def default(self) -> str:
        """DEFAULT_MODEL, else that of the first provider with a key, else the demo."""
        if self._settings.default_model is not None:
            return self._settings.default_model
        ready = (row for row in self._rows.values() if self._is_set_up(row))
        return next(map(self._usual, ready), DEMO)

    def check(self, model: str, *, tools: bool = False) -> str:
        if model != DEMO:
            row, _ = self._row(model)
            if row.needs_key and not self._is_set_up(row):
                raise ProviderNotConfigured(
                    f"{row.title} has no key here. Enter one on the page under Providers and keys, or with: "
                    f"{program(for_clients=True)} keys set {row.id} (or set {row.key_variable} and start the service again)"
                )
            if tools and self.facts(model).tools is False:
                raise ProviderRejected(
                    f"{model} cannot use tools. Choose another model; the list of models says what each can."
                )
        return model

    def facts(self, model: str) -> ModelFacts:
        return DEMO_FACTS if model == DEMO else self._facts.of(model)

    def endpoint(self, model: str) -> tuple[Endpoint, str]:
        """Where `model` is asked, and its name there.

        Raises:
            UnknownModel, ProviderNotConfigured: as `check`.
        """
        self.check(model)
        row, name = self._row(model)
        return self._endpoint(row), name

    def provider(self, model: str, tools: Sequence[Any] = (), options: Mapping[str, Any] | None = None) -> ILLMProvider:
        row, _ = self._row(model) if model != DEMO else (None, "")
        chosen = tuple(sorted((options or {}).items()))
        key = (model, tuple(map(id, tools)), self.keys.of(row.id) if row is not None else None, chosen)
        known = self._providers.get(key)
        if known is not None:
            return known[0]
        self.check(model)
        made = self._resilient(model, tools, options or {}) if row is not None else self._demo(tools)
        if len(self._providers) >= KEPT_PROVIDERS:
            self._providers.clear()
        self._providers[key] = (made, tuple(tools))
        return made

    def alone(
        self, model: str, tools: Sequence[Any] = (), options: Mapping[str, Any] | None = None, key: str | None = None
    ) -> ILLMProvider:
        """The provider for `model` without those that stand in for it.

        Args:
            key: the caller's own key, in place of the one that is configured.

        Raises:
            UnknownModel, ProviderNotConfigured, ProviderRejected: as `check`.
        """
        if key is None:
            self.check(model, tools=bool(tools))
        if model == DEMO:
            return self._demo(tools)
        row, name = self._row(model)
        endpoint = self._endpoint(row, key)
        candidate = Candidate(model, lambda: self._make(model, name, endpoint, tools, options or {}))
        return ResilientProvider([candidate], self._settings.provider_retries)

    async def models(self, *, refresh: bool = False) -> ModelList:
        rows = list(self._rows.values())
        await asyncio.gather(*(self._list(row, refresh) for row in rows if self._can_be_listed(row)))
        default = self.default
        names = [default]
        providers: list[ProviderInfo] = []
        for row in rows:
            known = self._lists.get(row.id, _NOTHING_LISTED)
            is_there = self._is_set_up(row) or (self._can_be_listed(row) and bool(known.names))
            if is_there:
                names += [f"{row.id}@{name}" for name in known.names] or [self._usual(row), *self._facts.known(row.id)]
            variable = row.key_variable if row.needs_key else ""
            providers.append(
                ProviderInfo(
                    id=row.id,
                    title=row.title,
                    configured=is_there,
                    key_variable=variable,
                    key_source=self.keys.source(row.id),
                    error=known.error if self._is_set_up(row) else None,
                )
            )
        names.append(DEMO)
        return ModelList(models=list(self._infos(names, default)), providers=providers)

    async def try_key(self, provider: str, key: str | None = None) -> None:
        await check_key(self._endpoint(self._rows[provider], key))

    def warm_up(self) -> None:
        """Import what the default model needs, so that the first question does not wait for it."""
        self.provider(self.default)

    async def close(self) -> None:
        """Close the connections to providers."""
        await self._pool.close()

    # --- inside

    def _infos(self, names: Sequence[str], default: str) -> Iterator[ModelInfo]:
        for model in dict.fromkeys(names):
            facts = self.facts(model)
            if model == default or not (facts.chat is False or is_retired(facts)):
                provider, _, name = model.partition("@")
                yield ModelInfo(
                    id=model,
                    provider=provider,
                    name=name,
                    default=model == default,
                    retires_soon=retires_soon(facts),
                    **facts.model_dump(),
                )

    def _warn_of_retirement(self, model: str) -> None:
        if retires_soon(facts := self.facts(model)):
            instead = f" Use {model.partition('@')[0]}@{facts.successor} instead." if facts.successor else ""
            logger.warning("%s retires on %s.%s", model, facts.retires, instead)

    def _usual(self, row: Provider) -> str:
        """The model that a provider alone stands for."""
        return f"{row.id}@{self._facts.in_service(row.id, row.model)}"

    def _row(self, model: str) -> tuple[Provider, str]:
        provider, _, name = model.partition("@")
        row = self._rows.get(provider)
        if row is None or not name:
            raise UnknownModel(
                f"There is no model named {model[:100]!r} here. Models are named provider@model, for example "
                f"openai@{PROVIDERS['openai'].model} or {DEMO}; the providers are {', '.join(self._rows)}. "
                "The list of models has those that are configured."
            )
        return row, name

    def _endpoint(self, row: Provider, key: str | None = None) -> Endpoint:
        own = self._settings.provider_url(row.id)
        return Endpoint(
            provider=row,
            base_url=own or row.base_url,
            is_own=own is not None,
            secret=key or self.keys.of(row.id),
            pool=self._pool,
            limits=self._limits,
            wire=self._wire(row, own),
        )

    def _wire(self, row: Provider, own_url: str | None) -> Wire:
        """The wire of a provider: other servers than OpenAI's rarely have more than chat completions."""
        if row.wire is not Wire.RESPONSES or self._settings.openai_api == "responses":
            return row.wire
        is_openai = own_url is None or (urlsplit(own_url).hostname or "").endswith(".openai.com")
        return row.wire if is_openai and self._settings.openai_api == "auto" else Wire.OPENAI

    def _is_set_up(self, row: Provider) -> bool:
        """Whether somebody has set a provider up: with a key, or with an address that may do without one."""
        if self.keys.of(row.id) is not None or self._settings.provider_url(row.id) is not None:
            return True
        return row.id not in PROVIDERS and not row.needs_key

    def _can_be_listed(self, row: Provider) -> bool:
        return self._is_set_up(row) or not row.needs_key

    async def _list(self, row: Provider, refresh: bool) -> None:
        """Have the list of a provider's models fresh."""
        key = self.keys.of(row.id)
        known = self._lists.get(row.id, _NOTHING_LISTED)
        if not refresh and known.key == key and time.monotonic() < known.fresh_until:
            return
        names, lifetime, error = (known.names if known.key == key else []), LIST_LIFETIME, None
        try:
            found = await list_models(self._endpoint(row))
        except AtelierError as failed:
            level = logging.INFO if self._is_set_up(row) else logging.DEBUG  # an Ollama need not be there
            logger.log(level, "the models of %s cannot be listed: %s", row.title, failed.message)
            lifetime, error = FAILED_LIST_LIFETIME, failed.message
        else:
            self._facts.tell({f"{row.id}@{name}": facts for name, facts in found.items()})
            names = list(found)
        self._lists[row.id] = _Listed(time.monotonic() + lifetime, names, error, key)

    def _resilient(self, model: str, tools: Sequence[Any], options: Mapping[str, Any]) -> ILLMProvider:
        fallbacks = [other for other in self._settings.model_fallbacks if other != model]
        candidates = [Candidate(name, self._maker(name, tools, options)) for name in (model, *fallbacks)]
        return ResilientProvider(candidates, self._settings.provider_retries)

    def _maker(self, model: str, tools: Sequence[Any], options: Mapping[str, Any]) -> Any:
        def make() -> ILLMProvider:
            if model == DEMO:
                return self._demo(tools)
            endpoint, name = self.endpoint(model)
            return self._make(model, name, endpoint, tools, options)

        return make

    def _make(
        self, model: str, name: str, endpoint: Endpoint, tools: Sequence[Any], options: Mapping[str, Any]
    ) -> ILLMProvider:
        facts = self.facts(model)
        match endpoint.wire:
            case Wire.RESPONSES:
                from app.adapters.outbound.llm_providers import responses

                return responses.make(name, endpoint, facts, tools, options)
            case Wire.ANTHROPIC:
                from app.adapters.outbound.llm_providers import anthropic_provider

                return anthropic_provider.make(name, endpoint, facts, tools, options)
            case Wire.GEMINI:
                from app.adapters.outbound.llm_providers import gemini_provider

                return gemini_provider.make(name, endpoint, facts, tools, options)
            case Wire.OPENAI:
                from app.adapters.outbound.llm_providers.openai_provider import OpenAIChatModel, OpenAIProvider

                return OpenAIProvider(OpenAIChatModel.connect(name, endpoint, facts), tools, options)

    def _demo(self, tools: Sequence[Any]) -> ILLMProvider:
        from app.adapters.outbound.llm_providers.demo_provider import DemoProvider

        return DemoProvider(tools)


def usual_model(provider: str) -> str:
    """The model that a provider alone stands for.

    Raises:
        UnknownModel: there is no such provider.
    """
    settings = Settings()
    row = all_providers(settings).get(provider)
    if row is None and provider != "demo":
        raise UnknownModel(f"There is no provider {provider[:100]!r}. The providers are {', '.join(PROVIDERS)}.")
    if row is None:
        return DEMO
    return f"{row.id}@{FactBook(settings.model_file).in_service(row.id, row.model)}"
