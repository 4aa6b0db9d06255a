"""Providers by name, for programs that run the graph without the service."""

from collections.abc import Sequence

from langchain_core.tools import BaseTool

from app.adapters.outbound.llm_providers.catalog import ModelCatalog, usual_model
from app.adapters.outbound.llm_providers.providers import PROVIDERS
from app.core.ports import ILLMProvider
from app.settings import Settings


class LLMProviderFactory:
    """Makes providers."""

    @staticmethod
    def create_provider(provider_type: str | None = None, tools: Sequence[BaseTool] | None = None) -> ILLMProvider:
        """The provider `provider_type` (`openai`, `mistral`, …, `demo`, or a whole `provider@model`) with `tools` bound to it.

        Without a type it is the default model of the settings; a provider alone stands for its usual model.

        Raises:
            UnknownModel, ProviderNotConfigured: there is no such provider, or its key is missing.
        """
        catalog = ModelCatalog(Settings())
        model = provider_type or catalog.default
        return catalog.provider(usual_model(model) if model in (*PROVIDERS, "demo") else model, tools or ())
