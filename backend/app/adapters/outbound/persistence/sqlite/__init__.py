"""The embedded store: one SQLite file in the data folder."""

from app.adapters.outbound.persistence.sqlite.store import SqliteStore, open_sqlite, open_sqlite_to_check

__all__ = ["SqliteStore", "open_sqlite", "open_sqlite_to_check"]
