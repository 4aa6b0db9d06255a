"""The token of an installation without accounts: made once, kept in the data folder for its owner alone."""

import logging
import secrets
import stat
from pathlib import Path

from app.adapters.outbound.private_file import not_writable, write_private
from app.core.domain.errors import StorageUnavailable

logger = logging.getLogger(__name__)

MIN_LENGTH = 16
MIN_CHARACTERS = 8
"""How many different characters a token has to have."""

_NEW = "Delete the file and start again: a new token is made, and printed with the address."


class TokenFile:
    """The token in the file at `path`; another process may change it, and it is used at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token = ""
        self._seen: tuple[int, int, int, int] | None = None

    def load_or_make(self) -> str:
        """The token; made, readable by its owner alone, when there is none.

        Raises:
            StorageUnavailable: the folder cannot be read or written, or what is in the file is no secret.
        """
        try:
            self._read()
        except FileNotFoundError:
            pass
        except OSError as error:
            raise not_writable(error) from error
        return self._token or self.rotate()

    def rotate(self) -> str:
        """Put a new token in the place of the old one.

        Raises:
            StorageUnavailable: the folder cannot be written.
        """
        token = secrets.token_urlsafe(24)
        write_private(self._path, f"{token}\n".encode())
        return token

    def current(self) -> str:
        """The token as it is now; the last one that was fit for use while the file is not."""
        try:
            self._read()
        except OSError:
            pass  # it is being replaced, or the folder is away
        except StorageUnavailable as error:
            logger.warning("the token stays as it was: %s", error.message)
        return self._token

    def _read(self) -> None:
        status = self._path.stat()
        seen = (status.st_mtime_ns, status.st_ino, status.st_size, status.st_mode)
        if seen == self._seen:
            return
        self._seen = seen
        if token := self._path.read_bytes().decode("utf-8", "replace").strip():
            _check(self._path, token)
            self._token = token


def is_weak(token: str) -> bool:
    """Whether a token can be guessed."""
    return len(token) < MIN_LENGTH or len(set(token)) < MIN_CHARACTERS


def _check(path: Path, token: str) -> None:
    where = f"The token in the file {path.name} of the data folder"
    if path.stat().st_mode & stat.S_IROTH:
        raise StorageUnavailable(
            f"{where} can be read by every user of this machine, so it may be known. {_NEW} "
            f"If nobody else uses this machine, `chmod 600` on the file is enough."
        )
    if is_weak(token):
        raise StorageUnavailable(
            f"{where} can be guessed: it is shorter than {MIN_LENGTH} characters or too regular. {_NEW}"
        )
