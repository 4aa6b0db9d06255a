"""Taking a backup: the database by SQLite's backup API, and the files beside it, in one archive."""

import gzip
import hashlib
import io
import os
import sqlite3
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from app import __version__
from app.adapters.outbound.backup.errors import BackupFailed
from app.adapters.outbound.backup.places import DATABASE, MANIFEST, Places, is_allowed
from app.adapters.outbound.backup.reading import Manifest, verify
from app.adapters.outbound.persistence.sqlite import snapshot
from app.adapters.outbound.private_file import open_private
from app.core.domain.time import utc_now

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Taken:
    """A backup that was written and read again.

    Attributes:
        counts: how many conversations, messages and so on are in it.
        files: how many files of tools.
        has_secrets: whether the token and the keys of providers are in it.
        has_servers: whether the list of MCP servers is in it, with whatever secrets stand there.
    """

    size: int
    counts: dict[str, int]
    files: int
    has_secrets: bool
    has_servers: bool


def take(places: Places, target: Path, *, force: bool = False, secrets: bool = False) -> Taken:
    """Write a backup to `target`, whole or not at all, also while a service runs.

    Args:
        places: the installation.
        target: the archive to make.
        force: replace an archive that is there.
        secrets: put the token and the keys of providers into it.

    Raises:
        BackupFailed: there is nothing to back up, the archive exists, or it cannot be written.
        StorageDamaged: the database is damaged.
    """
    if not places.database.is_file():
        raise BackupFailed("There is no database in the data folder. Say where it is with DATA_DIR or --data-dir.")
    _refuse_existing(target, force=force)
    copy = target.with_name(f".{target.name}.{os.getpid()}.sqlite3")
    half_written = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        # First the database, then the files: a file is there before a message names it.
        snapshot.copy_file(places.database, copy)
        counts, schema = snapshot.examine(copy)
        sources = [(DATABASE, copy), *((n, p) for n, p in places.present(secrets=secrets) if is_allowed(n))]
        head: dict[str, Any] = {
            "format": FORMAT,
            "atelier": __version__,
            "schema": schema,
            "created_at": utc_now().isoformat(),
            "counts": counts,
        }
        with open_private(half_written) as file:
            _write(file, sources, head)
            file.flush()
            os.fsync(file.fileno())
        manifest = verify(half_written)
        _refuse_existing(target, force=force)
        size = half_written.stat().st_size
        half_written.replace(target)
    except (OSError, sqlite3.Error, tarfile.TarError) as error:
        raise BackupFailed(
            f"The backup cannot be written ({error}). Free some space or choose another place."
        ) from error
    finally:
        for path in (half_written, copy):
            path.unlink(missing_ok=True)
    return _taken(manifest, size, counts)


def _taken(manifest: Manifest, size: int, counts: dict[str, int]) -> Taken:
    files = sum(name.startswith("files/") and not name.endswith(".json") for name in manifest.members)
    has_secrets = not {"token", "keys.json"}.isdisjoint(manifest.members)
    return Taken(size, counts, files, has_secrets, "mcp.json" in manifest.members)


def _refuse_existing(target: Path, *, force: bool) -> None:
    if target.exists() and not force:
        raise BackupFailed(f"{target} exists. Choose another name, or replace it with --force.")
    if not target.parent.is_dir():
        raise BackupFailed(f"There is no folder {target.parent}. Make it first.")


def _write(file: IO[bytes], sources: list[tuple[str, Path]], head: dict[str, Any]) -> None:
    members: dict[str, dict[str, Any]] = {}
    with (
        gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1, filename="") as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, path in sources:
            with path.open("rb") as source:
                size = os.fstat(source.fileno()).st_size
                hashed = _Hashed(source)
                archive.addfile(_entry(name, size), hashed)  # pyright: ignore[reportArgumentType]
            members[name] = {"size": size, "sha256": hashed.digest.hexdigest()}
        manifest = orjson.dumps({**head, "members": members}, option=orjson.OPT_INDENT_2)
        archive.addfile(_entry(MANIFEST, len(manifest)), io.BytesIO(manifest))


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o600, int(time.time())
    return entry


class _Hashed:
    """A file whose bytes are hashed as they are read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data
