"""Where a model is asked: a provider's address, its key, and how long to wait for it."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
import orjson

from app.adapters.outbound.llm_providers.errors import for_status, from_status
from app.adapters.outbound.llm_providers.providers import Provider
from app.core.domain.errors import AtelierError, ProviderTimeout, ProviderUnavailable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How long a provider may take, in seconds: to accept a connection, to begin its answer, and between two pieces of it."""

    connect: float = 10.0
    first: float = 300.0
    between: float = 120.0


class HttpPool:
    """The connections to providers, shared by all models of a process and opened when first used."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._kept: dict[Hashable, Any] = {}

    def keep(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was made for `key`, and has connections of its own; made once."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def session(self) -> aiohttp.ClientSession:
        """The session of the running loop."""
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
                cookie_jar=aiohttp.DummyCookieJar(),
                json_serialize=lambda value: orjson.dumps(value).decode(),
            )
        return self._session

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
        for kept in self._kept.values():
            if (close := getattr(kept, "aclose", None)) is not None:
                await close()
        self._kept.clear()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A provider as it is configured here.

    Attributes:
        base_url: its address, without a slash at the end.
        is_own: whether that address was set by the operator.
        secret: its key.
    """

    provider: Provider
    base_url: str
    is_own: bool
    secret: str | None
    pool: HttpPool
    limits: TimeLimits

    @property
    def title(self) -> str:
        """The provider's name, for people."""
        return f"The server at {self.provider.url_variable}" if self.is_own else self.provider.title

    @property
    def url(self) -> str:
        """Where its OpenAI-shaped routes are."""
        prefix = self.provider.prefix
        return self.base_url if self.base_url.endswith(prefix) else self.base_url + prefix

    @property
    def headers(self) -> dict[str, str]:
        """What a request to an OpenAI-shaped provider carries."""
        return {"Authorization": f"Bearer {self.secret}"} if self.secret else {}

    def keep(self, model: str, make: Callable[[], T]) -> T:
        """The client of a package for `model`, made once: it has connections of its own."""
        return self.pool.keep((self.provider.id, model, self.base_url, self.secret, self.limits), make)

    # --- errors, in words for the user

    def timed_out(self, seconds: float) -> AtelierError:
        """It was silent for too long."""
        return ProviderTimeout(f"{self.title} did not answer within {seconds:g} seconds. Try again.")

    def out_of_reach(self) -> AtelierError:
        """No connection could be made."""
        return ProviderUnavailable(
            f"{self.title} cannot be reached. Check its address and the network, then try again."
        )

    def cut_short(self) -> AtelierError:
        """The connection broke in the middle of an answer."""
        return ProviderUnavailable(f"{self.title} cut its answer short. Try again.")

    async def refusal(self, response: aiohttp.ClientResponse, model: str) -> AtelierError:
        """It answered with an error."""
        return from_status(
            response.status,
            await response.content.read(65_536),
            provider=self.title,
            model=model,
            key_variable=self.provider.key_variable,
            secret=self.secret,
            retry_after=response.headers.get("Retry-After"),
        )

    def refused(
        self, status: int, code: str | None, reason: str, model: str, retry_after: str | None = None
    ) -> AtelierError:
        """It answered with an error, which a library has read."""
        return for_status(
            status,
            code,
            reason,
            provider=self.title,
            model=model,
            key_variable=self.provider.key_variable,
            secret=self.secret,
            retry_after=retry_after,
        )
