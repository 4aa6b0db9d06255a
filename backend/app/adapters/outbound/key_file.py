"""Keys of providers that were entered here: a file in the data folder, readable by its owner alone."""

import logging
from pathlib import Path
from typing import Any, cast

import orjson

from app.adapters.outbound.private_file import write_private
from app.core.domain.errors import StorageUnavailable

logger = logging.getLogger(__name__)


class KeyFile:
    """The keys in the file at `path`, by provider; what another process changes in it is seen at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at: tuple[int, int] | None = None
        self._keys: dict[str, str] = {}

    def get(self, provider: str) -> str | None:
        """The key of `provider`."""
        return self._current().get(provider)

    def names(self) -> list[str]:
        """The providers that have a key here."""
        return sorted(self._current())

    def set(self, provider: str, key: str) -> None:
        """Keep `key` for `provider`.

        Raises:
            StorageUnavailable: the file cannot be read or written.
        """
        self._write({**self._readable(), provider: key})

    def remove(self, provider: str) -> bool:
        """Forget the key of `provider`; whether there was one.

        Raises:
            StorageUnavailable: the file cannot be read or written.
        """
        keys = self._readable()
        if keys.pop(provider, None) is None:
            return False
        self._write(keys)
        return True

    def _current(self) -> dict[str, str]:
        try:
            status = self._path.stat()
        except OSError:
            self._keys, self._read_at = {}, None
            return self._keys
        if (read_at := (status.st_mtime_ns, status.st_size)) != self._read_at:
            try:
                self._keys = self._read()
            except (OSError, ValueError):
                logger.warning("the file of keys in the data folder cannot be read; its keys are not used")
                self._keys = {}
            self._read_at = read_at
        return self._keys

    def _readable(self) -> dict[str, str]:
        """What is in the file, before it is written anew: a file that cannot be read is not overwritten."""
        try:
            return self._read() if self._path.exists() else {}
        except (OSError, ValueError) as error:
            raise StorageUnavailable(
                f"The file of keys, {self._path.name} in the data folder, cannot be read. Repair or remove it."
            ) from error

    def _read(self) -> dict[str, str]:
        document: Any = orjson.loads(self._path.read_bytes())
        if not isinstance(document, dict):
            raise ValueError("not an object")
        pairs = cast("dict[str, Any]", document).items()
        return {name: key for name, key in pairs if isinstance(key, str) and key}

    def _write(self, keys: dict[str, str]) -> None:
        write_private(self._path, orjson.dumps(keys, option=orjson.OPT_INDENT_2))
