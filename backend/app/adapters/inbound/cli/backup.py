"""`atelier backup` and `atelier restore`: everything that an installation keeps, in one file and back."""

from pathlib import Path

from app.adapters.inbound.cli.output import complain, say
from app.bootstrap import restore_backup, take_backup
from app.core.domain.errors import AtelierError
from app.core.domain.program import program
from app.settings import settings_for

_IN_MONGODB = (
    "The conversations are in MongoDB: back them up and restore them with mongodump and mongorestore "
    "(docs/backup.md), or move them to SQLite with: {program} move --to sqlite"
)


def backup(file: Path, data_dir: Path | None, *, force: bool, secrets: bool) -> int:
    """Write a backup; the exit code."""
    settings = settings_for(data_dir)
    if settings.mongodb_url is not None:
        return _refuse()
    try:
        taken = take_backup(settings, file, force=force, secrets=secrets)
    except AtelierError as error:
        return complain(error.message)
    say(
        f"{file}: {taken.size / 1e6:,.1f} MB, written and read again. In it: {_listed(taken.counts)}, {taken.files} files."
    )
    if taken.has_secrets:
        say("The token and the keys of providers are in it: keep it like a password.")
    else:
        say("The token, the keys of providers and .env are not in it (--secrets puts the first two in).")
    if taken.has_servers:
        say("mcp.json is in it, with whatever secrets stand in it.")
    return 0


def restore(file: Path, data_dir: Path | None, *, force: bool) -> int:
    """Put a backup in its place; the exit code."""
    settings = settings_for(data_dir)
    if settings.mongodb_url is not None:
        return _refuse()
    try:
        restored = restore_backup(settings, file, force=force)
    except AtelierError as error:
        return complain(error.message)
    say(f"Restored from {file}, taken {restored.created_at}: {_listed(restored.counts)}.")
    if restored.aside is not None:
        say(f"What was there before is kept in {restored.aside}.")
    if not restored.has_secrets:
        say(f"It has no keys of providers: enter them with {program()} keys set PROVIDER where they are missing.")
    return 0


def _refuse() -> int:
    return complain(_IN_MONGODB.format(program=program()))


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
