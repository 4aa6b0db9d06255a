"""The keys of providers: from the environment, which goes first, or from the data folder."""

import os
from typing import Literal

from dotenv import dotenv_values

from app.adapters.outbound.key_file import KeyFile
from app.adapters.outbound.llm_providers.providers import PROVIDERS, Provider, custom_provider
from app.core.domain.errors import InvalidFrame, UnknownModel
from app.settings import Settings


def all_providers(settings: Settings) -> dict[str, Provider]:
    """The providers by their ids: those that the service knows, and the operator's own."""
    custom = settings.custom_providers
    return dict(PROVIDERS) | {c.name: custom_provider(c.name, c.base_url, c.key_variable, c.model) for c in custom}


class ProviderKeys:
    """The keys that are there, and where they come from."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._file = KeyFile(settings.key_file)
        self._rows = all_providers(settings)

    def of(self, provider: str) -> str | None:
        """The key of a provider."""
        return self._given(provider) or self._file.get(provider)

    def check(self, provider: str) -> None:
        """Make sure that there is such a provider.

        Raises:
            UnknownModel: there is none.
        """
        if provider not in self._rows:
            raise UnknownModel(f"There is no provider {provider[:100]!r}. The providers are {', '.join(self._rows)}.")

    def check_form(self, key: str) -> None:
        if not key:
            raise InvalidFrame("No key was entered; nothing has changed.")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise InvalidFrame(
                "A key has no spaces, control characters or characters beyond ASCII in it. Nothing has changed."
            )

    def set(self, provider: str, key: str) -> None:
        """Store a key in the data folder.

        Raises:
            InvalidFrame: it cannot be a key.
            StorageUnavailable: the folder cannot be written.
        """
        self.check_form(key)
        self._file.set(provider, key)

    def remove(self, provider: str) -> bool:
        """Forget the key in the data folder; whether there was one.

        Raises:
            StorageUnavailable: the folder cannot be written.
        """
        return self._file.remove(provider)

    def variable_in_use(self, provider: str) -> str | None:
        """The variable that a provider's key comes from; None where it does not come from the environment."""
        return self._rows[provider].key_variable if self._given(provider) else None

    def source(self, provider: str) -> Literal["environment", "stored"] | None:
        """Where a provider's key comes from; None where it has none."""
        if self._given(provider):
            return "environment"
        return "stored" if self._file.get(provider) else None

    def places(self) -> list[tuple[str, str]]:
        """The providers that have a key, and where it is."""
        kept = self._file.names()
        found: list[tuple[str, str]] = []
        for provider in dict.fromkeys([*self._rows, *kept]):
            if provider in self._rows and (variable := self.variable_in_use(provider)):
                found.append((provider, f"{variable} in the environment"))
            elif provider in kept:
                found.append((provider, "the data folder"))
        return found

    def _given(self, provider: str) -> str | None:
        """A key from the environment, or from `.env`."""
        given = self._settings.provider_key(provider)
        variable = self._rows[provider].key_variable if provider in self._rows else ""
        if given is None and provider not in PROVIDERS and variable:
            given = os.environ.get(variable) or dotenv_values(".env").get(variable)
        return given or None
