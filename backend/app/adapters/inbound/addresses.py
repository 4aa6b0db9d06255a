"""Whom an address stands for, where connections and requests are counted by address."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network
IPV6_PREFIX = 64
"""What one customer of a provider has: an IPv6 address alone is nobody's limit."""


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """The proxies whose `X-Forwarded-For` is believed."""

    networks: frozenset[Network] = frozenset()

    @classmethod
    def of(cls, addresses: Iterable[str]) -> "TrustedProxies":
        """The proxies at `addresses`, each an address or a network.

        Raises:
            ValueError: one of them is neither.
        """
        return cls(frozenset(ip_network(address) for address in addresses))


NO_PROXIES = TrustedProxies()


def counted_as(client: tuple[str, int] | None, proxies: TrustedProxies) -> str | None:
    """The address that a connection counts for; None for this machine and for proxies, which are not counted."""
    return _counted_as(client[0], proxies) if client is not None else None


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, is this machine."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=4_096)
def _counted_as(host: str, proxies: TrustedProxies) -> str | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback or any(address in network for network in proxies.networks):
        return None
    return str(ip_network((address, IPV6_PREFIX), strict=False)) if isinstance(address, IPv6Address) else str(address)
