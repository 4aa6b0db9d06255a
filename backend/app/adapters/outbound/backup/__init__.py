"""Backups: one archive with everything that an installation on SQLite keeps."""

from app.adapters.outbound.backup.places import Places
from app.adapters.outbound.backup.restore import Restored, restore
from app.adapters.outbound.backup.take import Taken, take

__all__ = ["Places", "Restored", "Taken", "restore", "take"]
