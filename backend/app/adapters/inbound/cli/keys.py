"""`atelier keys`: the keys of providers, entered where nobody looks over the shoulder."""

import asyncio
import getpass
import sys
from collections.abc import Callable
from pathlib import Path

from app.adapters.inbound.cli.output import complain, say
from app.core.domain.errors import AtelierError, KeyUnchecked
from app.core.domain.program import program


def set_key(provider: str, data_dir: Path | None, *, force: bool = False) -> int:
    """Ask for a key, and store it once the provider accepts it; the exit code."""
    return _guarded(lambda: _set(provider, data_dir, force))


def remove_key(provider: str, data_dir: Path | None) -> int:
    """Remove a key; the exit code."""
    return _guarded(lambda: _remove(provider, data_dir))


def list_keys(data_dir: Path | None) -> int:
    """Say which providers have a key, and from where; the exit code."""
    return _guarded(lambda: _list(data_dir))


def _set(provider: str, data_dir: Path | None, force: bool) -> int:
    from app.bootstrap import make_keys

    keys = make_keys(data_dir)
    keys.check(provider)
    key = (getpass.getpass(f"Key for {provider}: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
    try:
        problem = asyncio.run(_store(provider, key, data_dir, force))
    except KeyUnchecked as error:
        return complain(f"{error.message} To store it all the same: {program()} keys set {provider} --force")
    if problem:
        say(problem)
    say(f"Stored for {provider} in the data folder, readable by you alone. A running service uses it at once.")
    if keys.variable_in_use(provider):
        say(f"{keys.variable_in_use(provider)} is set in the environment, and is used instead of it.")
    return 0


async def _store(provider: str, key: str, data_dir: Path | None, force: bool) -> str | None:
    from app.bootstrap import make_key_catalog
    from app.core.services.provider_keys import store_key

    catalog = make_key_catalog(data_dir)
    try:
        return await store_key(catalog.keys, catalog, provider, key, unchecked=force)
    finally:
        await catalog.close()


def _remove(provider: str, data_dir: Path | None) -> int:
    from app.bootstrap import make_keys

    keys = make_keys(data_dir)
    keys.check(provider)
    if not keys.remove(provider):
        return complain(f"There is no key for {provider} in the data folder.")
    say(f"The key for {provider} is removed.")
    if keys.variable_in_use(provider):
        say(f"{keys.variable_in_use(provider)} is still set in the environment.")
    return 0


def _list(data_dir: Path | None) -> int:
    from app.bootstrap import make_keys

    found = make_keys(data_dir).places()
    for provider, place in found:
        say(f"{provider:<12} {place}")
    if not found:
        say(f"No provider has a key. Enter one with: {program()} keys set PROVIDER")
    return 0


def _guarded(work: Callable[[], int]) -> int:
    try:
        return work()
    except AtelierError as error:
        return complain(error.message)
    except (KeyboardInterrupt, EOFError):
        return complain("Nothing has changed.")
