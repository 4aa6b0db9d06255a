"""The service that runs on the same data folder: where it is, and the address with the token."""

from urllib.parse import urlsplit

import httpx

from app.adapters.inbound.addresses import is_loopback
from app.bootstrap import make_address_file
from app.settings import Settings

NAME = "atelier.localhost"
"""A host name of the service's own: cookies of 127.0.0.1 go to every server on that address, whatever its port."""
SECONDS = 2.0


def running_at(settings: Settings) -> str | None:
    """The address of the service that runs on the data folder of `settings`; None where it does not answer to its token."""
    address = make_address_file(settings).read()
    if address is None:
        return None
    token = token_of(settings)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.get(f"{address}/api/auth/me", headers=headers, timeout=SECONDS, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None
    return address if answer.is_success else None


def token_of(settings: Settings) -> str | None:
    """The token of a service whose data folder is here."""
    if settings.atelier_token is not None:
        return settings.atelier_token.get_secret_value()
    try:
        return settings.token_file.read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError):
        return None


def page_at(address: str, token: str | None) -> str:
    """What to open in a browser."""
    return f"{address}/?token={token}" if token else f"{address}/"


def with_name(address: str) -> str:
    """An address on this machine with the service's own host name."""
    parts = urlsplit(address)
    return f"http://{NAME}:{parts.port}" if is_loopback(parts.hostname or "") else address
