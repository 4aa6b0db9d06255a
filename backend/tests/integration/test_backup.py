"""Backups of a whole installation: taken beside writers, restored, and refused where they are not what they should be."""

import asyncio
import gzip
import io
import os
import shutil
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from app.adapters.outbound.backup import Places, restore, take
from app.adapters.outbound.backup.errors import BackupFailed
from app.adapters.outbound.persistence.sqlite import open_sqlite
from app.adapters.outbound.persistence.sqlite.migrations import MIGRATIONS
from app.core.domain.conversation import Conversation
from app.core.domain.errors import StorageDamaged, StorageUnavailable
from app.core.domain.message import Message, MessageRole
from app.core.domain.skill import Skill
from app.core.services.checker import check_all


def places_in(folder: Path) -> Places:
    return Places(
        folder / "data", folder / "data" / "files", folder / "config", folder / "workflows", folder / "mcp.json"
    )


@pytest.fixture
async def here(tmp_path: Path) -> Places:
    """An installation with something of everything in it."""
    places = places_in(tmp_path / "here")
    store = open_sqlite(places.data)
    kept = await store.conversations.create(Conversation(id="c1", user_id="ann", title="Garden", message_count=1))
    await store.messages.create(Message(conversation_id=kept.id, role=MessageRole.USER, content="Roses, please"))
    await store.skills.add(Skill(user_id="ann", slug="prune", name="Prune", description="How", instructions="Cut."))
    await store.close()
    contents = {
        "data/files/ab/01-ab": b"\x89PNG",
        "data/files/ab/01-ab.json": b"{}",
        "data/files/ab/02-ab.part": b"half",
        "data/models.json": b'{"a@b": {}}',
        "data/token": b"a-secret-token-of-ann",
        "data/keys.json": b'{"openai": "sk-hunter2"}',
        "config/tool.json": b"[]",
        "workflows/tool.json": b"{}",
        "mcp.json": b'{"mcpServers": {}}',
    }
    for name, content in contents.items():
        path = tmp_path / "here" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return places


async def check_whole(places: Places) -> None:
    store = open_sqlite(places.data)
    try:
        assert await store.faults() == []
        assert [violation async for violation in check_all(store)] == []
        assert [c.title for c in (await store.conversations.list("ann", limit=9, q="rose")).items] == ["Garden"]
        assert [skill.slug for skill in await store.skills.list("ann")] == ["prune"]
    finally:
        await store.close()
    assert (places.files / "ab" / "01-ab").read_bytes() == b"\x89PNG"
    assert not (places.files / "ab" / "02-ab.part").exists()
    assert (places.config / "tool.json").read_bytes() == b"[]"
    assert (places.workflows / "tool.json").exists()
    assert (places.data / "models.json").exists()
    assert places.mcp.exists()


def names_in(archive: Path) -> set[str]:
    with tarfile.open(archive) as opened:
        return set(opened.getnames())


async def test_everything_comes_back(here: Places, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    taken = take(here, archive)
    assert (taken.counts["conversations"], taken.counts["messages"], taken.files) == (1, 1, 1)
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    there = places_in(tmp_path / "there")
    restored = restore(archive, there)
    assert restored.counts == taken.counts
    assert restored.aside is None
    await check_whole(there)
    found = [path for path in [there.data, *there.data.rglob("*")] if path.stat().st_mode & 0o077]
    assert found == []
    assert {path.name for path in tmp_path.iterdir()} == {"here", "there", "a.tar.gz"}


async def test_secrets_are_in_it_only_when_asked_for(here: Places, tmp_path: Path) -> None:
    assert not take(here, tmp_path / "a.tar.gz").has_secrets
    assert names_in(tmp_path / "a.tar.gz").isdisjoint({"token", "keys.json"})
    assert b"hunter2" not in gzip.decompress((tmp_path / "a.tar.gz").read_bytes())
    assert take(here, tmp_path / "b.tar.gz", secrets=True).has_secrets
    there = places_in(tmp_path / "there")
    assert restore(tmp_path / "b.tar.gz", there).has_secrets
    assert (there.data / "keys.json").read_bytes() == b'{"openai": "sk-hunter2"}'


async def test_an_archive_is_not_overwritten_without_force(here: Places, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_text("precious")
    with pytest.raises(BackupFailed, match="--force"):
        take(here, archive)
    assert archive.read_text() == "precious"
    take(here, archive, force=True)
    assert "database.sqlite3" in names_in(archive)


async def test_a_backup_that_fails_leaves_nothing(
    here: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BackupFailed, match="No space left"):
        take(here, tmp_path / "a.tar.gz")
    assert {path.name for path in tmp_path.iterdir()} == {"here"}


async def test_a_damaged_database_is_not_backed_up(here: Places, tmp_path: Path) -> None:
    with here.database.open("r+b") as file:
        file.seek(4_096)
        file.write(bytes(8_192))
    with pytest.raises((StorageDamaged, BackupFailed)):
        take(here, tmp_path / "a.tar.gz")
    assert not (tmp_path / "a.tar.gz").exists()


async def test_restore_refuses_what_is_there_and_keeps_it_aside(here: Places, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    take(here, archive)
    there = places_in(tmp_path / "there")
    await open_sqlite(there.data).close()
    (there.data / "token").write_text("the token that is in use")
    there.config.mkdir()
    (there.config / "tool.json").write_text("[1]")
    with pytest.raises(BackupFailed, match="--force"):
        restore(archive, there)
    assert (there.config / "tool.json").read_text() == "[1]"
    restored = restore(archive, there, force=True)
    assert restored.aside is not None
    assert (restored.aside / "atelier.sqlite3").is_file()
    assert (restored.aside / "config" / "tool.json").read_text() == "[1]"
    assert (there.data / "token").read_text() == "the token that is in use"
    await check_whole(there)


async def test_restore_refuses_a_folder_in_use(here: Places, tmp_path: Path) -> None:
    take(here, tmp_path / "a.tar.gz")
    store = open_sqlite(here.data)
    with pytest.raises(StorageUnavailable, match="Another Atelier is running"):
        restore(tmp_path / "a.tar.gz", here, force=True)
    await store.close()


async def test_a_restore_that_fails_takes_everything_back(
    here: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(here, tmp_path / "a.tar.gz")
    there = places_in(tmp_path / "there")
    await open_sqlite(there.data).close()
    before = {path.name for path in there.data.iterdir()}
    move, left = shutil.move, [4]

    def failing(source: Path, target: Path) -> object:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(5, "Input/output error")
        return move(source, target)

    monkeypatch.setattr(shutil, "move", failing)
    with pytest.raises(BackupFailed, match="Nothing was changed"):
        restore(tmp_path / "a.tar.gz", there, force=True)
    kept = {path.name for path in there.data.iterdir() if not path.name.startswith("replaced-")}
    assert kept == before


def changed(archive: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]) -> None:
    """Write the archive again with other entries."""
    with tarfile.open(archive) as opened:
        entries = [(entry, opened.extractfile(entry).read()) for entry in opened]  # pyright: ignore[reportOptionalMemberAccess]
    change(entries)
    with tarfile.open(archive, "w:gz") as written:
        for entry, data in entries:
            entry.size = len(data)
            written.addfile(entry, io.BytesIO(data))


def added(name: str, **fields: object) -> Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]:
    def change(entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        entry = tarfile.TarInfo(name)
        for key, value in fields.items():
            setattr(entry, key, value)
        entries.insert(0, (entry, b""))

    return change


def flipped(entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    for number, (entry, data) in enumerate(entries):
        if entry.name == "database.sqlite3":
            entries[number] = (entry, data[:5_000] + bytes(255 - byte for byte in data[5_000:5_100]) + data[5_100:])


def from_the_future(entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    entry, data = entries[-1]
    document = orjson.loads(data)
    document["schema"] = len(MIGRATIONS) + 1
    entries[-1] = (entry, orjson.dumps(document))


@pytest.mark.parametrize(
    "change",
    [
        added("../../evil.json"),
        added("/etc/passwd"),
        added("config/../../evil.json"),
        added("files/ab/link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        added("files/ab/hard", type=tarfile.LNKTYPE, linkname="database.sqlite3"),
        added("files/ab/device", type=tarfile.CHRTYPE),
        added("config/a\nb.json"),
        added("models.json"),
        added("something.else"),
        flipped,
        from_the_future,
        lambda entries: entries.pop(),
        lambda entries: entries.clear(),
    ],
)
async def test_a_bad_archive_changes_nothing(here: Places, tmp_path: Path, change) -> None:
    archive = tmp_path / "a.tar.gz"
    take(here, archive)
    changed(archive, change)
    there = places_in(tmp_path / "there")
    with pytest.raises(BackupFailed):
        restore(archive, there)
    left = [path.name for path in tmp_path.joinpath("there").rglob("*") if path.name not in ("data", "atelier.lock")]
    assert left == []
    assert not (tmp_path / "evil.json").exists()


@pytest.mark.parametrize("cut", [0, 10, 200, -10])
async def test_a_cut_archive_is_refused(here: Places, tmp_path: Path, cut: int) -> None:
    archive = tmp_path / "a.tar.gz"
    take(here, archive)
    archive.write_bytes(archive.read_bytes()[:cut])
    with pytest.raises(BackupFailed, match="Nothing was changed"):
        restore(archive, places_in(tmp_path / "there"))


async def test_a_backup_beside_writers_has_all_that_was_acknowledged(here: Places, tmp_path: Path) -> None:
    store = open_sqlite(here.data)
    acknowledged: list[str] = []
    stopped = asyncio.Event()

    async def write(number: int) -> None:
        while not stopped.is_set():
            made = await store.conversations.create(Conversation(user_id="ann", title=f"Writer {number}"))
            text = f"Said by {number}, " + "more and more words " * 20
            await store.messages.create(Message(conversation_id=made.id, role=MessageRole.USER, content=text))
            await store.conversations.increment_message_count(made.id, 1)
            acknowledged.append(made.id)

    writers = [asyncio.create_task(write(number)) for number in range(8)]
    for number in range(3):
        while len(acknowledged) < 50 * (number + 1):
            await asyncio.sleep(0)
        before = list(acknowledged)
        await asyncio.to_thread(take, here, tmp_path / f"{number}.tar.gz")
        there = places_in(tmp_path / f"there{number}")
        await asyncio.to_thread(restore, tmp_path / f"{number}.tar.gz", there)
        restored = await asyncio.to_thread(open_sqlite, there.data)
        kept = {key for key, _ in await restored.conversations.ids(limit=100_000)}
        assert set(before) <= kept
        for conversation_id in before:
            assert len(await restored.messages.all(conversation_id, limit=5)) == 1
        assert await restored.faults() == []
        # A conversation may stand between its message and its count when the copy is taken.
        unfinished = [v async for v in check_all(restored) if v.conversation_id in before]
        assert unfinished == []
        await restored.close()
    stopped.set()
    await asyncio.gather(*writers)
    await store.close()
