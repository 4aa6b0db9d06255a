"""`atelier check`: read a store, and say which of the service's promises it breaks."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from app.adapters.inbound.cli.output import complain, say
from app.bootstrap import open_store_to_check
from app.core.domain.errors import AtelierError, StorageDamaged
from app.core.domain.program import program
from app.core.services.checker import Violation, check_all
from app.settings import Settings, settings_for


def run(data_dir: Path | None) -> int:
    """Check the store of the settings; 0 where all is as it should be."""
    settings = settings_for(data_dir)
    if settings.mongodb_url is None and not settings.data_dir.is_dir():
        return complain(f"There is no data folder at {settings.data_dir}. Say where it is with --data-dir.", 2)
    try:
        faults, violations = asyncio.run(_check(settings))
    except AtelierError as error:
        return complain(error.message, 2)
    for fault in faults:
        say(f"the database file: {fault}")
    for violation in violations:
        say(f"{violation.conversation_id}  promise {violation.promise}: {violation.what}")
    say(f"{len(violations)} violation{'' if len(violations) == 1 else 's'} found.")
    if faults:
        say(f"The database file is damaged. Restore a backup with: {program()} restore FILE (nothing was changed)")
    return 1 if violations or faults else 0


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
