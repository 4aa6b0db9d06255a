"""`atelier check`: read a store, and say which of the service's promises it breaks."""

import asyncio
import sys
from pathlib import Path

from app.bootstrap import open_store
from app.core.domain.errors import AtelierError
from app.core.services.checker import Violation, check_all
from app.settings import Settings, settings_for


def run(data_dir: Path | None) -> int:
    """Check the store of the settings; 0 where all is as it should be."""
    settings = settings_for(data_dir)
    if settings.mongodb_url is None and not settings.data_dir.is_dir():
        print(
            f"atelier: There is no data folder at {settings.data_dir}. Say where it is with --data-dir.",
            file=sys.stderr,
        )
        return 2
    try:
        violations = asyncio.run(_check(settings))
    except AtelierError as error:
        print(f"atelier: {error.message}", file=sys.stderr)
        return 2
    for violation in violations:
        print(f"{violation.conversation_id}  promise {violation.promise}: {violation.what}")
    print(f"{len(violations)} violation{'' if len(violations) == 1 else 's'} found.")
    return 1 if violations else 0


async def _check(settings: Settings) -> list[Violation]:
    store = await open_store(settings)
    try:
        return [violation async for violation in check_all(store)]
    finally:
        await store.close()
