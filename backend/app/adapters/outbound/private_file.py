"""A file for its owner alone, in the data folder."""

import os
from pathlib import Path

from app.core.domain.errors import StorageUnavailable


def write_private(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all, readable by its owner alone; folders are made.

    Raises:
        StorageUnavailable: the folder cannot be written.
    """
    half_written = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(half_written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        half_written.replace(path)
    except OSError as error:
        raise not_writable(error) from error


def not_writable(error: OSError) -> StorageUnavailable:
    """What to tell when the data folder cannot be used."""
    return StorageUnavailable(
        f"The data folder cannot be written ({error.strerror}). Choose another one with DATA_DIR or --data-dir."
    )
