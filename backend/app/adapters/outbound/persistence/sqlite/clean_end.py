"""The mark of a clean end: a file beside the database that says how the database was left.

It is taken away when the database is opened, so a process that is killed leaves none, and it does not fit a database
that was written, replaced or damaged since. Only then is the whole file read at the start.
"""

import contextlib
from pathlib import Path

from app.adapters.outbound.private_file import write_private
from app.core.domain.errors import StorageUnavailable

SUFFIX = ".clean"


def take_mark(database: Path) -> bool:
    """Whether the database is as its last process left it, or is new; the mark is gone afterwards."""
    mark = database.with_suffix(SUFFIX)
    wal = database.with_name(f"{database.name}-wal")
    try:
        if not database.exists() or database.stat().st_size == 0:
            mark.unlink(missing_ok=True)
            return True
        is_clean = mark.read_text() == _state(database) and not wal.exists()
    except OSError:
        is_clean = False
    with contextlib.suppress(OSError):
        mark.unlink(missing_ok=True)
    return is_clean


def leave_mark(database: Path) -> None:
    """Say that the database is closed and whole; where that cannot be written, the next start looks by itself."""
    with contextlib.suppress(OSError, StorageUnavailable):
        write_private(database.with_suffix(SUFFIX), _state(database).encode())


def _state(database: Path) -> str:
    status = database.stat()
    return f"{status.st_size} {status.st_mtime_ns}\n"
