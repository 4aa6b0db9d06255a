"""`atelier keys`: the keys of providers, entered where nobody looks over the shoulder."""

import getpass
import sys
from collections.abc import Callable
from pathlib import Path

from app.core.domain.errors import AtelierError


def set_key(provider: str, data_dir: Path | None) -> int:
    """Ask for a key and keep it; the exit code."""
    return _guarded(_set, provider, data_dir)


def remove_key(provider: str, data_dir: Path | None) -> int:
    """Forget a key; the exit code."""
    return _guarded(_remove, provider, data_dir)


def list_keys(data_dir: Path | None) -> int:
    """Say which providers have a key, and from where; the exit code."""
    return _guarded(_list, "", data_dir)


def _set(provider: str, data_dir: Path | None) -> int:
    from app.bootstrap import make_keys

    keys = make_keys(data_dir)
    keys.check(provider)
    key = (getpass.getpass(f"Key for {provider}: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
    keys.set(provider, key)
    _say(f"Kept for {provider} in the data folder, readable by you alone. A running service uses it at once.")
    if keys.variable_in_use(provider):
        _say(f"{keys.variable_in_use(provider)} is set in the environment, and goes before it.")
    return 0


def _remove(provider: str, data_dir: Path | None) -> int:
    from app.bootstrap import make_keys

    keys = make_keys(data_dir)
    keys.check(provider)
    if not keys.remove(provider):
        return _complain(f"There is no key for {provider} in the data folder.")
    _say(f"The key for {provider} is removed.")
    if keys.variable_in_use(provider):
        _say(f"{keys.variable_in_use(provider)} is still set in the environment.")
    return 0


def _list(_: str, data_dir: Path | None) -> int:
    from app.bootstrap import make_keys

    found = make_keys(data_dir).places()
    for provider, place in found:
        _say(f"{provider:<12} {place}")
    if not found:
        _say("No provider has a key. Enter one with: atelier keys set PROVIDER")
    return 0


def _guarded(work: Callable[[str, Path | None], int], provider: str, data_dir: Path | None) -> int:
    try:
        return work(provider, data_dir)
    except AtelierError as error:
        return _complain(error.message)
    except (KeyboardInterrupt, EOFError):
        return _complain("\nNothing has changed.")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _complain(text: str) -> int:
    sys.stderr.write(text + "\n")
    return 1
