"""Where a model is asked: a provider's address, its key, and how long to wait for it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
import orjson

from app.adapters.outbound.llm_providers.bounds import not_a_model
from app.adapters.outbound.llm_providers.errors import for_status, from_status
from app.adapters.outbound.llm_providers.pictures import Pictures
from app.adapters.outbound.llm_providers.providers import PROVIDERS, Provider, Wire
from app.core.domain.errors import AtelierError, ProviderTimeout, ProviderUnavailable
from app.core.domain.text import clean_text

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How long a provider may take, in seconds: to accept a connection, to begin its answer, and between two pieces of it."""

    connect: float = 10.0
    first: float = 300.0
    between: float = 120.0


class HttpPool:
    """The connections to providers, shared by all models of a process and opened when first used."""

    def __init__(self, pictures: Pictures | None = None) -> None:
        self._pictures = pictures
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

    @property
    def pictures(self) -> Pictures:
        """What fetches the pictures that messages name by an address."""
        if self._pictures is None:
            self._pictures = Pictures()
        return self._pictures

    async def close(self) -> None:
        """Close all connections."""
        if self._pictures is not None:
            await self._pictures.close()
        if self._session is not None:
            await self._session.close()
        for kept in self._kept.values():
            if (close := getattr(kept, "aclose", None)) is not None:
                await close()
        self._kept.clear()


class Exchange:
    """A request that a provider has accepted, and the time that it has for the next piece of its answer.

    Attributes:
        response: the provider's answer.
        seconds: how long it may be silent now.
        deadline: when it has been silent for too long.
    """

    def __init__(self, limits: TimeLimits) -> None:
        self.response: aiohttp.ClientResponse
        self.seconds = limits.first
        self.deadline = asyncio.timeout(limits.first)
        self._between = limits.between
        self._loop = asyncio.get_running_loop()
        self._moved = 0.0

    def piece_came(self) -> None:
        """Begin to wait for the next piece. The deadline is not moved for every piece: that costs."""
        if (now := self._loop.time()) >= self._moved:
            self.seconds, self._moved = self._between, now + self._between / 8
            self.deadline.reschedule(now + self._between)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A provider as it is configured here.

    Attributes:
        base_url: its address, without a slash at the end.
        is_own: whether that address was set by the operator.
        secret: its key.
        wire: the shape of its requests and answers.
    """

    provider: Provider
    base_url: str
    is_own: bool
    secret: str | None
    pool: HttpPool
    limits: TimeLimits
    wire: Wire = Wire.OPENAI

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
        """What a request carries: the key, and who asks."""
        provider = self.provider
        key = {provider.key_header: f"{provider.key_scheme}{self.secret}"} if self.secret else {}
        return {**provider.headers, **key}

    def keep(self, model: str, make: Callable[[], T]) -> T:
        """The client of a package for `model`, made once: it has connections of its own."""
        return self.pool.keep((self.provider.id, model, self.base_url, self.secret, self.limits), make)

    @asynccontextmanager
    async def asked(self, model: str, payload: bytes, path: str = "/chat/completions") -> AsyncGenerator[Exchange]:
        """A request, once it is accepted.

        Raises:
            AtelierError: the provider cannot be reached, refuses, is silent, or breaks off.
        """
        exchange = Exchange(self.limits)
        try:
            async with (
                exchange.deadline,
                self.pool.session().post(
                    f"{self.url}{path}",
                    data=payload,
                    headers={"Content-Type": "application/json", **self.headers},
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=self.limits.connect),
                ) as exchange.response,
            ):
                if exchange.response.status != 200:
                    raise await self.refusal(exchange.response, model)
                yield exchange
        except TimeoutError as error:
            is_connecting = isinstance(error, aiohttp.ServerTimeoutError)
            raise self.timed_out(self.limits.connect if is_connecting else exchange.seconds) from error
        except aiohttp.ClientConnectorError as error:
            raise self.out_of_reach() from error
        except aiohttp.ClientError as error:
            raise self.cut_short() from error

    @property
    def address_setting(self) -> str:
        """Where its address is set."""
        if self.provider.id in PROVIDERS:
            return self.provider.url_variable
        return f"the base_url of {self.provider.id} in CUSTOM_PROVIDERS"

    # --- errors, in words for the user

    def not_a_model(self, content_type: str) -> AtelierError:
        """It answered with something that no model says, such as a web page."""
        media_type = content_type.partition(";")[0].strip()[:100] or "something unknown"
        return not_a_model(self.title, clean_text(media_type), self.address_setting)

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

    def not_json(self) -> AtelierError:
        """A part of its answer cannot be read."""
        return ProviderUnavailable(f"{self.title} sent something that is not JSON. Try again.")

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
