"""Restoring a backup: unpacked and checked beside the data first, then put in its place."""

import contextlib
import os
import shutil
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from app.adapters.outbound.backup.errors import BackupFailed
from app.adapters.outbound.backup.places import DATABASE, SECRETS, Places
from app.adapters.outbound.backup.reading import Manifest, sizes, unpack
from app.adapters.outbound.backup.take import FORMAT
from app.adapters.outbound.persistence.sqlite import snapshot
from app.adapters.outbound.persistence.sqlite.database import lock_folder
from app.adapters.outbound.persistence.sqlite.migrations import MIGRATIONS
from app.adapters.outbound.private_file import FOLDER_MODE, open_private
from app.core.domain.time import utc_now

ASIDE = "replaced-"
"""How the folders begin that keep what a restore has replaced."""

_STAYS = ("lost+found",)


@dataclass(slots=True)
class Restored:
    """A backup that was put in its place.

    Attributes:
        created_at: when the backup was taken.
        counts: how many conversations, messages and so on are in the database.
        aside: where what was replaced is kept, if there was something.
        has_secrets: whether the token and the keys of providers came with it.
    """

    created_at: str
    counts: dict[str, int]
    aside: Path | None
    has_secrets: bool


def restore(archive: Path, places: Places, *, force: bool = False) -> Restored:
    """Put what is in `archive` in its place; where that fails, everything is as it was.

    Args:
        archive: a backup.
        places: the installation; it must be empty, and no service may run on it.
        force: replace what is there, and keep it aside.

    Raises:
        BackupFailed: the archive is no backup, is damaged or from a newer Atelier, or something is in its place.
        StorageUnavailable: a service is running on the data folder, or it cannot be written.
    """
    if not archive.is_file():
        raise BackupFailed(f"There is no file {archive}.")
    size = sizes(archive)
    with contextlib.closing(lock_folder(places.database)):
        staging = places.data / f".restore-{os.getpid()}"
        try:
            if shutil.disk_usage(places.data).free < size:
                raise BackupFailed(f"The backup needs {size / 1e6:,.0f} MB in the data folder. Free some space first.")
            manifest, counts = _unpack(archive, staging)
            names = sorted(manifest.members)
            replaced = _replaced(places, staging, names)
            if replaced and not force:
                shown = ", ".join(str(path) for path in replaced[:5])
                raise BackupFailed(f"{shown} would be replaced. Say --force to do so; what was there is kept aside.")
            aside = places.data / f"{ASIDE}{utc_now():%Y%m%d-%H%M%S}"
            _swap(places, staging, names, replaced, aside)
        except (OSError, sqlite3.Error) as error:
            raise BackupFailed(f"The backup cannot be restored ({error}). Nothing was changed.") from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    has_secrets = not set(SECRETS).isdisjoint(names)
    return Restored(manifest.created_at, counts, aside if replaced else None, has_secrets)


def _unpack(archive: Path, staging: Path) -> tuple[Manifest, dict[str, int]]:
    """Everything in `staging`, once it is known to be what was backed up."""

    def keep(name: str) -> IO[bytes]:
        path = staging / name
        path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        return open_private(path)

    staging.mkdir(mode=FOLDER_MODE)
    manifest = unpack(archive, keep)
    if manifest.format > FORMAT or manifest.schema_ > len(MIGRATIONS):
        raise BackupFailed(
            f"The backup was taken by Atelier {manifest.atelier}, which is newer. Restore it with that one."
        )
    counts, _ = snapshot.examine(staging / DATABASE)
    return manifest, counts


def _replaced(places: Places, staging: Path, names: list[str]) -> list[Path]:
    """What is in the way: all in the data folder, and files elsewhere that are not the same.

    The token and the keys stay where the backup has none.
    """
    stays = {*_STAYS, staging.name, places.database.with_suffix(".lock").name}
    stays |= {name for name in SECRETS if name not in names}
    found = [p for p in sorted(places.data.iterdir()) if p.name not in stays and not p.name.startswith(ASIDE)]
    for name in names:
        path = places.of(name)
        if places.data not in path.parents and path.exists() and path.read_bytes() != (staging / name).read_bytes():
            found.append(path)
    return found


@dataclass(slots=True)
class _Moves:
    """Moves that can be taken back."""

    done: list[tuple[Path, Path]] = field(default_factory=list[tuple[Path, Path]])

    def move(self, source: Path, target: Path) -> None:
        target.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        shutil.move(source, target)
        self.done.append((source, target))

    def undo(self) -> None:
        for source, target in reversed(self.done):
            shutil.move(target, source)


def _swap(places: Places, staging: Path, names: list[str], replaced: list[Path], aside: Path) -> None:
    moves = _Moves()
    try:
        for path in replaced:
            inside = (
                path.relative_to(places.data) if places.data in path.parents else Path(path.parent.name) / path.name
            )
            moves.move(path, aside / inside)
        for name in names:
            if not places.of(name).exists():
                moves.move(staging / name, places.of(name))
    except OSError:
        moves.undo()
        raise
