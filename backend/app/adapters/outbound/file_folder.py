"""Files of users in a folder: the bytes under an id of our own, and beside them what they are."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from app.adapters.outbound.private_file import FOLDER_MODE, open_private
from app.core.domain.errors import StorageUnavailable, TooLarge
from app.core.domain.ids import is_client_id, new_id
from app.core.ports import StoredFile

MAX_FILE_BYTES = 2 * 1024**3
WRITE_BYTES = 1024 * 1024
MAX_LOOKED_AT = 2_000


class FileFolder:
    """An `IFileStore` over a folder, which several servers may share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def save(self, user_id: str, name: str, media_type: str, chunks: AsyncIterator[bytes]) -> StoredFile:
        file_id = new_id()
        path = self._path(file_id)
        half_written = path.with_suffix(".part")
        try:
            await asyncio.to_thread(_make_folder, path.parent)
            size = await _write(half_written, chunks)
            stored = StoredFile(file_id, user_id, _clean(name), media_type, size)
            await asyncio.to_thread(_finish, half_written, path, stored)
        except OSError as error:
            raise StorageUnavailable(
                f"A file cannot be kept ({error.strerror}). Make room in the data folder and try again."
            ) from error
        finally:
            with contextlib.suppress(OSError):
                half_written.unlink(missing_ok=True)
        return stored

    async def find(self, user_id: str, file_id: str) -> tuple[StoredFile, str] | None:
        if not is_client_id(file_id):
            return None
        path = self._path(file_id)
        try:
            document: dict[str, Any] = orjson.loads(await asyncio.to_thread(path.with_suffix(".json").read_bytes))
        except (OSError, orjson.JSONDecodeError):
            return None
        if document.get("user_id") != user_id or document.get("id") != file_id:
            return None
        return StoredFile(**document), str(path)

    async def recent(self, user_id: str, limit: int) -> Sequence[StoredFile]:
        return await asyncio.to_thread(self._recent, user_id, limit)

    def _recent(self, user_id: str, limit: int) -> list[StoredFile]:
        """Ids are made in the order of time, so the newest files have the greatest names."""
        paths = sorted(self._folder.glob("*/*.json"), key=lambda path: path.name, reverse=True)
        found: list[StoredFile] = []
        for path in paths[:MAX_LOOKED_AT]:
            if len(found) == limit:
                break
            with contextlib.suppress(OSError, orjson.JSONDecodeError):
                document: dict[str, Any] = orjson.loads(path.read_bytes())
                if document.get("user_id") == user_id:
                    found.append(StoredFile(**document))
        return found

    def _path(self, file_id: str) -> Path:
        return self._folder / file_id[-2:] / file_id


def _make_folder(folder: Path) -> None:
    """Make a folder and the one above it for their owner alone; those that are there keep their modes."""
    for path in (folder.parent, folder):
        path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)


async def _write(path: Path, chunks: AsyncIterator[bytes]) -> int:
    """Write all of `chunks`; how many bytes they were."""
    size, waiting = 0, bytearray()
    with await asyncio.to_thread(open_private, path) as file:
        async for chunk in chunks:
            size += len(chunk)
            if size > MAX_FILE_BYTES:
                raise TooLarge(f"A file of more than {MAX_FILE_BYTES:,} bytes is not kept.")
            waiting += chunk
            if len(waiting) >= WRITE_BYTES:
                await asyncio.to_thread(file.write, bytes(waiting))
                waiting.clear()
        await asyncio.to_thread(file.write, bytes(waiting))
    return size


def _finish(half_written: Path, path: Path, stored: StoredFile) -> None:
    """Make a file that is whole visible: first what it is, then its bytes."""
    document = {
        "id": stored.id,
        "user_id": stored.user_id,
        "name": stored.name,
        "media_type": stored.media_type,
        "size": stored.size,
    }
    with open_private(path.with_suffix(".json")) as described:
        described.write(orjson.dumps(document))
    half_written.replace(path)


def _clean(name: str) -> str:
    """The last part of a file's name, without what a header or a shell would choke on."""
    last = Path(name.replace("\\", "/")).name
    return "".join(c if c.isalnum() or c in "._- " else "_" for c in last)[:100] or "file"
