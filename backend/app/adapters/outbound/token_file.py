"""The token of an installation without accounts: made once, kept in the data folder for its owner alone."""

import secrets
import stat
from pathlib import Path

from app.adapters.outbound.private_file import not_writable, write_private
from app.core.domain.errors import StorageUnavailable

MIN_LENGTH = 16
MIN_CHARACTERS = 8
"""How many different characters a token has to have."""

_NEW = "Delete the file and start again: a new token is made, and printed with the address."


def load_or_make_token(path: Path) -> str:
    """The token in the file at `path`; made there, readable by its owner alone, when there is none.

    Raises:
        StorageUnavailable: the folder cannot be read or written, or what is in the file is no secret.
    """
    try:
        if path.is_file() and (token := path.read_text().strip()):
            _check(path, token)
            return token
    except OSError as error:
        raise not_writable(error) from error
    token = secrets.token_urlsafe(24)
    write_private(path, f"{token}\n".encode())
    return token


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
