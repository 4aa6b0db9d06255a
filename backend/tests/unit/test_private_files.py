"""What the service keeps is for its owner alone, whatever the umask is and whatever was there before."""

import os
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.adapters.outbound.file_folder import FileFolder
from app.adapters.outbound.persistence.sqlite import open_sqlite
from app.adapters.outbound.private_file import make_private
from app.adapters.outbound.token_file import TokenFile
from app.core.domain.errors import StorageUnavailable


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    paths = [folder, *folder.rglob("*")]
    return {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in paths}


def assert_private(folder: Path) -> None:
    found = modes(folder)
    assert {name: oct(mode) for name, mode in found.items() if mode & 0o077} == {}, found


async def some_bytes() -> AsyncIterator[bytes]:
    yield b"data"


async def test_everything_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    store = open_sqlite(folder)
    TokenFile(folder / "token").load_or_make()
    await FileFolder(folder / "files").save("ann", "a.png", "image/png", some_bytes())
    await store.ping()
    assert (folder / "atelier.sqlite3-wal").exists()
    assert_private(folder)
    await store.close()
    assert_private(folder)


async def test_open_files_of_before_are_closed_at_start(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    await open_sqlite(folder).close()
    (folder / "files" / "ab").mkdir(parents=True)
    for name in ("keys.json", "files/ab/x.json", "atelier.sqlite3-shm"):
        (folder / name).write_text("{}")
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    (folder / "notes.sh").write_text("")
    (folder / "notes.sh").chmod(0o755)
    await open_sqlite(folder).close()
    assert modes(folder).pop("notes.sh") == 0o755
    (folder / "notes.sh").unlink()
    assert_private(folder)


def test_what_cannot_be_closed_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o755)

    def refuse(self: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    make_private(tmp_path)
    assert "chmod 700" in caplog.text


@pytest.mark.parametrize("token", ["x", "short-token", "aaaaaaaaaaaaaaaaaaaaaaaa", "123123123123123123123"])
def test_weak_token_is_refused(tmp_path: Path, token: str) -> None:
    path = tmp_path / "token"
    path.write_text(token)
    path.chmod(0o600)
    with pytest.raises(StorageUnavailable, match=r"can be guessed.*Delete the file and start again") as refused:
        TokenFile(path).load_or_make()
    assert token not in refused.value.message.replace("token", "")


@pytest.mark.parametrize("mode", [0o644, 0o666, 0o604])
def test_token_that_everybody_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    token = TokenFile(path).load_or_make()
    assert TokenFile(path).load_or_make() == token
    path.chmod(mode)
    with pytest.raises(StorageUnavailable, match=r"every user of this machine.*Delete the file"):
        TokenFile(path).load_or_make()
