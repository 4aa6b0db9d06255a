"""The token of an installation without accounts: made once, kept in the data folder for its owner alone."""

import secrets
from pathlib import Path

from app.adapters.outbound.private_file import not_writable, write_private


def load_or_make_token(path: Path) -> str:
    """The token in the file at `path`; made there, readable by its owner alone, when there is none.

    Raises:
        StorageUnavailable: the folder cannot be read or written.
    """
    try:
        if path.is_file() and (token := path.read_text().strip()):
            return token
    except OSError as error:
        raise not_writable(error) from error
    token = secrets.token_urlsafe(24)
    write_private(path, f"{token}\n".encode())
    return token
