"""Reading an archive: nothing in it is trusted until it is checked."""

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import orjson
from pydantic import BaseModel, ValidationError

from app.adapters.outbound.backup.errors import BackupFailed
from app.adapters.outbound.backup.places import DATABASE, MANIFEST, is_allowed

BLOCK = 1024 * 1024
MAX_MANIFEST_BYTES = 256 * 1024 * 1024


class Member(BaseModel):
    """What an archive says of one of its files."""

    size: int
    sha256: str


class Manifest(BaseModel):
    """What an archive says of itself."""

    format: int
    atelier: str
    schema_: int
    created_at: str
    counts: dict[str, int]
    members: dict[str, Member]


def verify(path: Path) -> Manifest:
    """Read the whole archive, and compare each file in it with what its manifest says.

    Raises:
        BackupFailed: it is not a backup, or damaged, or has something in it that no backup has.
    """
    return unpack(path, None)


def unpack(path: Path, keep: Callable[[str], IO[bytes]] | None) -> Manifest:
    """Check the archive while it is read, and write its files to what `keep` opens for their names.

    Raises:
        BackupFailed: it is not a backup, or damaged, or has something in it that no backup has.
        OSError: a file cannot be written.
    """
    found: dict[str, Member] = {}
    manifest: Manifest | None = None
    try:
        with _entries(path) as archive:
            for entry in archive:
                _check_entry(entry, found)
                source = archive.extractfile(entry)
                assert source is not None
                if entry.name == MANIFEST:
                    manifest = _manifest(source, entry.size)
                else:
                    found[entry.name] = _copy(source, keep(entry.name) if keep else None)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BackupFailed(f"{path.name} is damaged or not a backup ({error}). Nothing was changed.") from error
    if manifest is None or DATABASE not in found:
        raise BackupFailed(f"{path.name} is not a whole backup of Atelier. Nothing was changed.")
    if manifest.members != found:
        wrong = sorted(name for name in {*manifest.members, *found} if manifest.members.get(name) != found.get(name))
        raise BackupFailed(f"{path.name} is damaged: {wrong[0]} is not what it was. Nothing was changed.")
    return manifest


def sizes(path: Path) -> int:
    """How many bytes the files of an archive have, as its headers say.

    Raises:
        BackupFailed: it cannot be read, or has something in it that no backup has.
    """
    names: dict[str, Any] = {}
    try:
        with _entries(path) as archive:
            for entry in archive:
                _check_entry(entry, names)
                names[entry.name] = entry.size
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, OSError) as error:
        raise BackupFailed(f"{path} is damaged or not a backup ({error}). Nothing was changed.") from error
    return sum(names.values())


@contextmanager
def _entries(path: Path) -> Generator[tarfile.TarFile]:
    """The entries of an archive, which is read to its end and its checksum."""
    with gzip.open(path) as packed:
        with tarfile.open(fileobj=packed, mode="r|") as archive:
            yield archive
        while packed.read(BLOCK):
            pass


def _check_entry(entry: tarfile.TarInfo, known: dict[str, Any]) -> None:
    if not entry.isreg() or not is_allowed(entry.name):
        raise BackupFailed(f"The archive has {entry.name[:200]!r} in it, which no backup has. Nothing was changed.")
    if entry.name in known:
        raise BackupFailed(f"The archive has {entry.name!r} twice. Nothing was changed.")


def _manifest(source: IO[bytes], size: int) -> Manifest:
    if size > MAX_MANIFEST_BYTES:
        raise BackupFailed("The archive's manifest is too large. Nothing was changed.")
    try:
        document = orjson.loads(source.read())
        return Manifest.model_validate({**document, "schema_": document.get("schema")})
    except (ValidationError, ValueError, TypeError, AttributeError) as error:
        raise BackupFailed("The archive's manifest cannot be read. Nothing was changed.") from error


def _copy(source: IO[bytes], target: IO[bytes] | None) -> Member:
    digest, size = hashlib.sha256(), 0
    try:
        while data := source.read(BLOCK):
            digest.update(data)
            size += len(data)
            if target is not None:
                target.write(data)
    finally:
        if target is not None:
            target.close()
    return Member(size=size, sha256=digest.hexdigest())
