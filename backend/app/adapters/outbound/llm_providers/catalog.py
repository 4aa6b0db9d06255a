"""The models that are configured, and the provider that answers for each."""

from collections.abc import Sequence
from typing import Any

from app.core.domain.errors import ProviderNotConfigured, UnknownModel
from app.core.ports import ILLMProvider, ModelInfo
from app.settings import Settings

DEMO = "demo@offline"
OPENAI_URL = "https://api.openai.com/v1"
OPENAI_MODEL = "gpt-4o-mini"
KEPT_PROVIDERS = 256


class ModelCatalog:
    """An `IModelCatalog` made of the settings. A provider's package is imported when it is first asked."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # The tools are kept beside the provider: their identity is its key, and must not be used again.
        self._providers: dict[tuple[str, tuple[int, ...]], tuple[ILLMProvider, Sequence[Any]]] = {}
        self._pool: Any = None
        self._has_openai = settings.openai_api_key is not None or settings.openai_base_url is not None
        self.default = self.check(settings.default_model or (f"openai@{OPENAI_MODEL}" if self._has_openai else DEMO))

    def check(self, model: str) -> str:
        provider, at, name = model.partition("@")
        if not at or not name or provider not in ("openai", "demo") or (provider == "demo" and model != DEMO):
            raise UnknownModel(
                f"There is no model named {model[:100]!r} here. Models are named provider@model, for example "
                f"openai@{OPENAI_MODEL} or {DEMO}; GET /api/models lists what is configured."
            )
        if provider == "openai" and not self._has_openai:
            raise ProviderNotConfigured(
                "OpenAI has no key here. Set OPENAI_API_KEY (or OPENAI_BASE_URL for a server of your own) "
                "and start the service again."
            )
        return model

    def provider(self, model: str, tools: Sequence[Any] = ()) -> ILLMProvider:
        self.check(model)
        key = (model, tuple(map(id, tools)))
        known = self._providers.get(key)
        if known is None:
            if len(self._providers) >= KEPT_PROVIDERS:
                self._providers.clear()
            made = self._demo(tools) if model == DEMO else self._openai(model.partition("@")[2], tools)
            known = self._providers[key] = (made, tuple(tools))
        return known[0]

    def models(self) -> list[ModelInfo]:
        ids = [self.default, *([f"openai@{OPENAI_MODEL}"] if self._has_openai else []), DEMO]
        return [
            ModelInfo(id=key, provider=key.partition("@")[0], name=key.partition("@")[2], default=key == self.default)
            for key in dict.fromkeys(ids)
        ]

    def warm_up(self) -> None:
        """Import what the default model needs, so that the first question does not wait for it."""
        self.provider(self.default)

    async def close(self) -> None:
        """Close the connections to providers."""
        if self._pool is not None:
            await self._pool.close()

    def _demo(self, tools: Sequence[Any]) -> ILLMProvider:
        from app.adapters.outbound.llm_providers.demo_provider import DemoProvider

        return DemoProvider(tools)

    def _openai(self, name: str, tools: Sequence[Any]) -> ILLMProvider:
        from app.adapters.outbound.llm_providers.openai_provider import HttpPool, OpenAIChatModel, OpenAIProvider

        settings = self._settings
        if self._pool is None:
            self._pool = HttpPool()
        key = settings.openai_api_key
        chat = OpenAIChatModel.connect(
            model=name,
            base_url=settings.openai_base_url or OPENAI_URL,
            key=key.get_secret_value() if key is not None else None,
            key_variable="OPENAI_API_KEY",
            provider="OpenAI" if settings.openai_base_url is None else "The server at OPENAI_BASE_URL",
            pool=self._pool,
            timeout=settings.provider_timeout,
        )
        return OpenAIProvider(chat, tools)
