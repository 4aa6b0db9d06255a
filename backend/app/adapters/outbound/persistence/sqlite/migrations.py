"""The schema of the SQLite file, version by version. A version that was released is never edited: add the next one."""

import sqlite3

from app.core.domain.errors import StorageUnavailable

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
]


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to the newest version, a version a transaction.

    Raises:
        StorageUnavailable: the file was written by a newer Atelier.
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise StorageUnavailable(
            f"The database has version {version} and this Atelier knows versions up to {len(MIGRATIONS)}. "
            "Use the Atelier that wrote it, or a newer one."
        )
    for number in range(version, len(MIGRATIONS)):
        connection.executescript(f"BEGIN IMMEDIATE;{MIGRATIONS[number]}PRAGMA user_version = {number + 1};COMMIT;")
