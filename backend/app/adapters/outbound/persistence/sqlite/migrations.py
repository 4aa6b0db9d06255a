"""The schema of the SQLite file, version by version. A version that was released is never edited: add the next one."""

import logging
import sqlite3
from itertools import chain, count
from pathlib import Path

from app.adapters.outbound.persistence.sqlite.snapshot import copy_database
from app.core.domain.errors import StorageUnavailable

logger = logging.getLogger(__name__)

MIGRATIONS = [
    """
    CREATE TABLE conversations (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        user_id TEXT NOT NULL,
        title TEXT,
        model TEXT,
        system_prompt TEXT,
        head_message_id TEXT,
        spans TEXT NOT NULL,
        forks TEXT NOT NULL,
        tool_approval TEXT,
        message_count INTEGER NOT NULL DEFAULT 0,
        last_seq INTEGER NOT NULL DEFAULT 0,
        archived INTEGER NOT NULL DEFAULT 0,
        pinned INTEGER NOT NULL DEFAULT 0,
        active_run_id TEXT,
        lease_owner TEXT,
        lease_expires_at INTEGER,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX conversations_by_activity ON conversations (user_id, updated_at DESC, id DESC);
    CREATE INDEX conversations_by_lease ON conversations (lease_expires_at) WHERE active_run_id IS NOT NULL;

    -- place = conversation number * 2^32 + seq: the messages of a conversation lie together and in order, the
    -- place is unique without an index of its own, and it is the row number that the full-text index needs.
    CREATE TABLE messages (
        place INTEGER PRIMARY KEY,
        conversation INTEGER NOT NULL REFERENCES conversations (number) ON DELETE CASCADE,
        id TEXT NOT NULL,
        parent_id TEXT,
        role TEXT NOT NULL,
        content TEXT NOT NULL,
        parts TEXT,
        metadata TEXT,
        created_at INTEGER NOT NULL,
        UNIQUE (conversation, id)
    ) STRICT;

    CREATE TABLE runs (
        id TEXT PRIMARY KEY,
        conversation INTEGER NOT NULL REFERENCES conversations (number) ON DELETE CASCADE,
        user_id TEXT NOT NULL,
        message_id TEXT NOT NULL,
        status TEXT NOT NULL,
        place_in_queue INTEGER,
        model TEXT NOT NULL,
        answer_id TEXT NOT NULL,
        last_message_id TEXT,
        finish_reason TEXT,
        request TEXT,
        options TEXT,
        usage TEXT,
        error TEXT,
        last_seq INTEGER NOT NULL,
        outline TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        started_at INTEGER,
        ended_at INTEGER,
        UNIQUE (user_id, message_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX runs_by_conversation ON runs (conversation);
    CREATE INDEX runs_in_queue ON runs (conversation, place_in_queue, created_at, id) WHERE place_in_queue IS NOT NULL;

    CREATE VIRTUAL TABLE message_text USING fts5 (
        content, content = 'messages', content_rowid = 'place', tokenize = 'unicode61 remove_diacritics 0'
    );
    CREATE TRIGGER message_text_insert AFTER INSERT ON messages WHEN new.content <> '' BEGIN
        INSERT INTO message_text (rowid, content) VALUES (new.place, new.content);
    END;
    CREATE TRIGGER message_text_delete AFTER DELETE ON messages WHEN old.content <> '' BEGIN
        INSERT INTO message_text (message_text, rowid, content) VALUES ('delete', old.place, old.content);
    END;
    """,
    """
    CREATE TABLE usage (
        user_id TEXT NOT NULL,
        day TEXT NOT NULL,
        model TEXT NOT NULL,
        conversation_id TEXT NOT NULL,
        requests INTEGER NOT NULL,
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        PRIMARY KEY (user_id, day, model, conversation_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX usage_by_conversation ON usage (conversation_id) WHERE conversation_id <> '';
    """,
    """
    ALTER TABLE conversations ADD COLUMN summary TEXT;
    CREATE TABLE workflows (
        conversation INTEGER PRIMARY KEY REFERENCES conversations (number) ON DELETE CASCADE,
        revision INTEGER NOT NULL,
        document TEXT NOT NULL
    ) STRICT;
    CREATE TABLE skills (
        user_id TEXT NOT NULL,
        slug TEXT NOT NULL,
        name TEXT NOT NULL,
        description TEXT NOT NULL,
        instructions TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        PRIMARY KEY (user_id, slug)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE INDEX runs_by_question ON runs (
        conversation, COALESCE(json_extract(options, '$.input_id'), message_id), created_at, id
    );
    """,
    # The full-text index itself is derived and made where it is missing: see search_index.py.
    """
    DROP TRIGGER message_text_insert;
    DROP TRIGGER message_text_delete;
    CREATE TABLE text_changes (
        number INTEGER PRIMARY KEY,
        place INTEGER NOT NULL,
        text TEXT NOT NULL,
        is_new INTEGER NOT NULL
    ) STRICT;
    CREATE TRIGGER message_added AFTER INSERT ON messages WHEN new.content <> '' BEGIN
        INSERT INTO text_changes (place, text, is_new) VALUES (new.place, new.content, 1);
    END;
    CREATE TRIGGER message_removed AFTER DELETE ON messages WHEN old.content <> '' BEGIN
        INSERT INTO text_changes (place, text, is_new) VALUES (old.place, old.content, 0);
    END;
    CREATE TRIGGER title_added AFTER INSERT ON conversations WHEN new.title <> '' BEGIN
        INSERT INTO text_changes (place, text, is_new) VALUES (new.number << 32, new.title, 1);
    END;
    CREATE TRIGGER title_removed AFTER DELETE ON conversations WHEN old.title <> '' BEGIN
        INSERT INTO text_changes (place, text, is_new) VALUES (old.number << 32, old.title, 0);
    END;
    CREATE TRIGGER title_changed AFTER UPDATE OF title ON conversations WHEN old.title IS NOT new.title BEGIN
        INSERT INTO text_changes (place, text, is_new) SELECT old.number << 32, old.title, 0 WHERE old.title <> '';
        INSERT INTO text_changes (place, text, is_new) SELECT new.number << 32, new.title, 1 WHERE new.title <> '';
    END;
    CREATE VIEW searchable (place, text) AS
        SELECT place, content FROM messages WHERE content <> ''
        UNION ALL SELECT number << 32, title FROM conversations WHERE title <> '';
    """,
    # Message ids count in their conversation, and takeovers are counted.
    """
    CREATE TABLE new_runs (
        id TEXT PRIMARY KEY,
        conversation INTEGER NOT NULL REFERENCES conversations (number) ON DELETE CASCADE,
        user_id TEXT NOT NULL,
        message_id TEXT NOT NULL,
        status TEXT NOT NULL,
        place_in_queue INTEGER,
        model TEXT NOT NULL,
        answer_id TEXT NOT NULL,
        last_message_id TEXT,
        finish_reason TEXT,
        request TEXT,
        options TEXT,
        usage TEXT,
        error TEXT,
        last_seq INTEGER NOT NULL,
        takeovers INTEGER NOT NULL DEFAULT 0,
        outline TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        started_at INTEGER,
        ended_at INTEGER,
        UNIQUE (conversation, message_id)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO new_runs (
        id, conversation, user_id, message_id, status, place_in_queue, model, answer_id, last_message_id, finish_reason,
        request, options, usage, error, last_seq, outline, created_at, started_at, ended_at
    ) SELECT
        id, conversation, user_id, message_id, status, place_in_queue, model, answer_id, last_message_id, finish_reason,
        request, options, usage, error, last_seq, outline, created_at, started_at, ended_at
    FROM runs;
    DROP TABLE runs;
    ALTER TABLE new_runs RENAME TO runs;
    CREATE INDEX runs_by_message ON runs (user_id, message_id);
    CREATE INDEX runs_in_queue ON runs (conversation, place_in_queue, created_at, id) WHERE place_in_queue IS NOT NULL;
    CREATE INDEX runs_by_question ON runs (
        conversation, COALESCE(json_extract(options, '$.input_id'), message_id), created_at, id
    );
    """,
    """
    ALTER TABLE conversations ADD COLUMN model_options TEXT;
    """,
    """
    CREATE TABLE sessions (
        digest TEXT PRIMARY KEY,
        user_id TEXT NOT NULL,
        token_mark TEXT NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
    """
    ALTER TABLE skills ADD COLUMN author TEXT NOT NULL DEFAULT 'user';
    ALTER TABLE skills ADD COLUMN previous TEXT;
    ALTER TABLE skills ADD COLUMN deleted_at INTEGER;
    """,
]


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the file at `path` to the newest version, a version a transaction; a copy of it as it was stays beside it.

    Raises:
        StorageUnavailable: the file was written by a newer Atelier.
        sqlite3.Error: there is no room for the copy, or a version cannot be reached.
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise StorageUnavailable(
            f"The database has version {version} and this Atelier knows versions up to {len(MIGRATIONS)}. "
            "Use the Atelier that wrote it, or a newer one."
        )
    if 0 < version < len(MIGRATIONS):
        copy = copy_database(connection, _free_name(path, version))
        logger.info(
            "the database goes from version %d to %d; as it was it is kept as %s", version, len(MIGRATIONS), copy
        )
    for number in range(version, len(MIGRATIONS)):
        connection.executescript(f"BEGIN IMMEDIATE;{MIGRATIONS[number]}PRAGMA user_version = {number + 1};COMMIT;")


def _free_name(path: Path, version: int) -> Path:
    names = chain([f"{path.stem}.schema-{version}"], (f"{path.stem}.schema-{version}-{n}" for n in count(2)))
    copies = (path.with_name(f"{name}{path.suffix}") for name in names)
    return next(copy for copy in copies if not copy.exists())
