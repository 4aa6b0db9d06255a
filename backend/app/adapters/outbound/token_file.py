"""The token of an installation without accounts: made once, kept in the data folder for its owner alone."""

import os
import secrets
from pathlib import Path

from app.core.domain.errors import StorageUnavailable


def load_or_make_token(path: Path) -> str:
    """The token in the file at `path`; made there, readable by its owner alone, when there is none.

    Raises:
        StorageUnavailable: the folder cannot be read or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and (token := path.read_text().strip()):
            return token
        token = secrets.token_urlsafe(24)
        half_written = path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(half_written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(token + "\n")
        half_written.replace(path)
    except OSError as error:
        raise StorageUnavailable(
            f"The data folder cannot be written ({error.strerror}). Choose another one with DATA_DIR or --data-dir."
        ) from error
    return token
