"""Files fetched from addresses that a user or a model named: from public servers only, bounded in time and size.

A name is checked once it is resolved, and each socket once more before it connects, so that a name that resolves to
something else the second time gains nothing. Redirects are followed by hand, each under the same rules.
"""

import asyncio
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, NoReturn

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

Network = IPv4Network | IPv6Network

SECONDS = 15.0
MAX_BYTES = 5 * 1024 * 1024
MAX_REDIRECTS = 3
MAX_ADDRESS = 4_096
MAX_LOOKUPS = 4

_NAT64 = ip_network("64:ff9b::/96")
_NOT_PUBLIC = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",
            "100.64.0.0/10",  # shared by carriers; some clouds keep their metadata here
            "168.63.129.16/32",  # Azure's host
            "192.0.0.0/24",
            "192.88.99.0/24",
            "::/96",  # IPv4-compatible
            "64:ff9b:1::/48",
            "2001::/23",  # Teredo and other protocol assignments
            "5f00::/16",
            "fec0::/10",
        ),
    )
)


class FetchFailed(Exception):
    """A file that could not be fetched. Its text is a sentence for the user, without credentials.

    Attributes:
        retryable: whether the same address may work later.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class _NotPublic(OSError):
    """An address that is not reached from here."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file, and what its server says that it is."""

    data: bytes
    media_type: str


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address belongs to the public internet, also where it wraps an IPv4 address."""
    inner = _inside(address)
    if inner is not None:
        return is_public(inner)
    if address.is_multicast or not address.is_global:
        return False
    return not any(address in network for network in _NOT_PUBLIC if network.version == address.version)


def _inside(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


class PublicHttp:
    """Fetches files over HTTP.

    Args:
        allowed: networks that may be reached although they are not public.
        seconds: how long one file may take, names and redirects included.
        max_bytes: how large a file may be, expanded.
    """

    def __init__(
        self, allowed: Sequence[Network] = (), *, seconds: float = SECONDS, max_bytes: int = MAX_BYTES
    ) -> None:
        self._allowed = allowed
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._session: aiohttp.ClientSession | None = None
        self._resolver = _Resolver(self)

    async def get(self, address: str) -> Fetched:
        """The file at `address`.

        Raises:
            FetchFailed: there is none that may be taken.
        """
        url = _parsed(address)
        try:
            async with asyncio.timeout(self._seconds):
                for _ in range(1 + MAX_REDIRECTS):
                    found = await self._ask(url)
                    if isinstance(found, Fetched):
                        return found
                    url = found
        except TimeoutError as error:
            raise FetchFailed(f"{url.host} did not send it within {self._seconds:g} seconds", retryable=True) from error
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, _NotPublic):
                _refuse(url)
            raise FetchFailed(f"{url.host} cannot be reached", retryable=True) from error
        except aiohttp.ClientPayloadError as error:
            raise FetchFailed(f"{url.host} sent it broken") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchFailed(f"{url.host} broke off", retryable=True) from error
        raise FetchFailed(f"{url.host} redirects more than {MAX_REDIRECTS} times")

    def check(self, address: str) -> None:
        """Let nothing but a permitted numeric address pass.

        Raises:
            OSError: it may not be reached.
        """
        number = ip_address(address.partition("%")[0])
        inner = _inside(number) or number
        if not is_public(number) and not any(inner in one for one in self._allowed if one.version == inner.version):
            raise _NotPublic(f"{number} is not a public address")

    async def close(self) -> None:
        """Close what is open."""
        if self._session is not None:
            await self._session.close()

    async def _ask(self, url: URL) -> Fetched | URL:
        """The file at `url`, or where it says that the file is."""
        with suppress(ValueError):  # a name: the resolver looks after it
            ip_address(url.host or "")
            try:
                self.check(url.host or "")
            except _NotPublic:
                _refuse(url)
        async with self._opened().get(url, allow_redirects=False) as response:
            if response.status in (301, 302, 303, 307, 308):
                return _parsed(str(url.join(URL(response.headers.get("Location", "")))))
            if response.status != 200:
                raise FetchFailed(f"{url.host} answered HTTP {response.status}", retryable=response.status >= 500)
            return Fetched(await self._body(url, response), response.content_type)

    async def _body(self, url: URL, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        large = FetchFailed(f"it is larger than {self._max_bytes // 1024**2} MiB")
        if (response.content_length or 0) > self._max_bytes:
            raise large
        async for data in response.content.iter_any():
            body += data
            if len(body) > self._max_bytes:
                raise large
        return bytes(body)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=self._resolver,
                    use_dns_cache=False,
                    force_close=True,
                    limit=16,
                    socket_factory=self._socket,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "Atelier", "Accept-Encoding": "identity"},
                timeout=aiohttp.ClientTimeout(total=self._seconds),
                trust_env=False,
            )
        return self._session

    def _socket(self, info: Any) -> socket.socket:
        """The socket for a connection to a resolved address."""
        family, kind, protocol, _, target = info
        self.check(str(target[0]))
        return socket.socket(family, kind, protocol)


class _Resolver(AbstractResolver):
    """Names, resolved in daemon threads: a lookup that hangs keeps neither other work nor the end of the process waiting."""

    def __init__(self, http: PublicHttp) -> None:
        self._http = http
        self._places = asyncio.Semaphore(MAX_LOOKUPS)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._look_up(host, port, family)
        for _, address in found:
            self._http.check(address)
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
            for kind, address in found
        ]

    async def close(self) -> None:
        """Nothing to close: the threads end by themselves."""

    async def _look_up(self, host: str, port: int, family: int) -> list[tuple[int, str]]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[tuple[int, str]]] = loop.create_future()

        def finish(found: list[tuple[int, str]] | OSError) -> None:
            self._places.release()
            if answer.cancelled():
                return
            if isinstance(found, OSError):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def look_up() -> None:
            try:
                found = _addresses(host, port, family)
            except (OSError, UnicodeError) as error:
                found = error if isinstance(error, OSError) else OSError("not a host name")
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(finish, found)

        await self._places.acquire()
        threading.Thread(target=look_up, name="resolver", daemon=True).start()
        return await answer


def _addresses(host: str, port: int, family: int) -> list[tuple[int, str]]:
    found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    return [(kind, str(target[0])) for kind, _, _, _, target in found]


def _parsed(address: str) -> URL:
    if len(address) > MAX_ADDRESS:
        raise FetchFailed("its address is too long")
    try:
        url = URL(address)
    except ValueError as error:
        raise FetchFailed("its address is not valid") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise FetchFailed("its address does not begin with http:// or https://")
    return url


def _refuse(url: URL) -> NoReturn:
    raise FetchFailed(f"{url.host} is not a public address (IMAGE_NETWORKS says which private networks may be reached)")
