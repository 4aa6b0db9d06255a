"""Errors of SQLite as errors of the service."""

import shutil
import sqlite3
from pathlib import Path

from app.core.domain.errors import StorageDamaged, StorageRefused, StorageUnavailable
from app.core.domain.program import program

CORRUPT, NOT_A_DATABASE = 11, 26
FULL_BELOW_BYTES = 4 * 1024 * 1024
"""With less than this free, SQLite cannot even open its shared memory and says "I/O error"."""


def damaged(what: str = "") -> StorageDamaged:
    """The database file is damaged: `what` says where."""
    name = program(for_clients=True)
    return StorageDamaged(
        f"The database file is damaged{what}. Stop the service, run `{name} check` to see what is affected, and "
        f"restore a backup with `{name} restore`."
    )


def is_damage(error: BaseException) -> bool:
    """Whether `error` says that the file is not what SQLite wrote."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, sqlite3.Error) and code is not None and code & 0xFF in (CORRUPT, NOT_A_DATABASE)


def unavailable(error: sqlite3.Error, folder: Path | None = None) -> StorageUnavailable:
    """`error` in words for the user; with the data folder, a disk that is full is recognised behind an I/O error."""
    reason = str(error)
    if is_damage(error):
        return damaged()
    if "full" in reason or (folder is not None and _is_full(folder)):
        return StorageRefused("The disk is full, so nothing more can be kept. Free some space and try again.")
    if "readonly" in reason or "read-only" in reason:
        return StorageRefused("The data folder is read-only, so nothing can be kept. Make it writable and try again.")
    kind = StorageUnavailable if "locked" in reason else StorageRefused
    return kind(f"The database cannot be used ({reason}). Try again in a moment.")


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < FULL_BELOW_BYTES
    except OSError:
        return False
