"""A file for its owner alone, in the data folder."""

import logging
import os
import stat
from pathlib import Path
from typing import IO

from app.core.domain.errors import StorageUnavailable

logger = logging.getLogger(__name__)

FOLDER_MODE = 0o700
FILE_MODE = 0o600
OTHERS = 0o077
OURS = ("atelier.*", "token", "keys.json", "models.json", "files")
"""What the service keeps in its data folder: whatever else is there keeps its mode."""


def make_private(folder: Path) -> None:
    """Make `folder` for its owner alone; one that is there already is closed to others, with what is ours in it.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    patterns = (*OURS, "files/**/*") if close_to_others(folder) else OURS
    for path in (path for pattern in patterns for path in folder.glob(pattern) if not path.is_symlink()):
        close_to_others(path)


def open_private(path: Path, *, append: bool = False) -> IO[bytes]:
    """Open a file for writing, readable by its owner alone whatever the umask is.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC), FILE_MODE)
    close_to_others(path)
    return os.fdopen(descriptor, "ab" if append else "wb")


def close_to_others(path: Path) -> bool:
    """Take what others may do with `path` away from them; whether there was something."""
    found = stat.S_IMODE(path.stat().st_mode)
    if not found & OTHERS:
        return False
    try:
        path.chmod(found & ~OTHERS)
    except OSError as error:
        wanted = f"chmod {found & ~OTHERS:o}"
        logger.warning(
            "other users of this machine can open %s, and it cannot be closed (%s): %s", path, error.strerror, wanted
        )
    return True


def write_private(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all, readable by its owner alone; folders are made.

    Raises:
        StorageUnavailable: the folder cannot be written.
    """
    half_written = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        with open_private(half_written) as file:
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
