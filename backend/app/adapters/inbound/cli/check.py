"""`atelier check`: read a store, and say which of the service's promises it breaks."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from app.adapters.inbound.cli.output import complain, say
from app.bootstrap import open_store, open_store_to_check
from app.core.domain.errors import AtelierError, StorageDamaged
from app.core.domain.program import program
from app.core.services.checker import Violation, check_all
from app.core.services.store_repair import repair_all
from app.settings import Settings, settings_for

_DAMAGED = f"The database file is damaged. Restore a backup with: {program()} restore FILE (nothing was changed)"


def run(data_dir: Path | None, *, repair: bool = False) -> int:
    """Check the store of the settings, and repair it where that is asked for; 0 where all is as it should be."""
    settings = settings_for(data_dir)
    if settings.mongodb_url is None and not settings.data_dir.is_dir():
        return complain(f"There is no data folder at {settings.data_dir}. Say where it is with --data-dir.", 2)
    try:
        if repair:
            return asyncio.run(_repair(settings))
        faults, violations = asyncio.run(_check(settings))
    except AtelierError as error:
        return complain(error.message, 2)
    _say_faults(faults)
    for violation in violations:
        _say_violation(violation)
    say(f"{len(violations)} violation{'' if len(violations) == 1 else 's'} found.")
    if faults:
        say(_DAMAGED)
    elif violations:
        say(f"Stop the service and run: {program()} check --repair")
    return 1 if violations or faults else 0


async def _repair(settings: Settings) -> int:
    """Repair what can be repaired, and say what was changed and what could not be."""
    store = await open_store(settings)
    try:
        if faults := await store.faults():
            _say_faults(faults)
            say(_DAMAGED)
            return 1
        changed = left = 0
        async for repaired in repair_all(store):
            changed, left = changed + len(repaired.changes), left + len(repaired.left)
            for change in repaired.changes:
                say(f"{repaired.conversation_id}  repaired: {change}")
            if repaired.was_busy:
                say(f"{repaired.conversation_id}  is being answered and was left alone")
            for violation in repaired.left:
                _say_violation(violation)
    finally:
        await store.close()
    say(f"{changed} repair{'' if changed == 1 else 's'} made, {left} violation{'' if left == 1 else 's'} left.")
    if left:
        say(
            "What is left cannot be rebuilt from the stored messages. The conversations can still be read and continued."
        )
    return 1 if left else 0


def _say_faults(faults: Sequence[str]) -> None:
    for fault in faults:
        say(f"the database file: {fault}")


def _say_violation(violation: Violation) -> None:
    say(f"{violation.conversation_id}  promise {violation.promise}: {violation.what}")


async def _check(settings: Settings) -> tuple[Sequence[str], list[Violation]]:
    """What is wrong with the store's own files, and which promises are broken as far as they can be read."""
    store = await open_store_to_check(settings)
    try:
        faults = await store.faults()
        try:
            return faults, [violation async for violation in check_all(store)]
        except StorageDamaged:
            if not faults:
                raise
            return faults, []
    finally:
        await store.close()
