"""Repairs of conversations in SQLite: one transaction each."""

import sqlite3

from app.adapters.outbound.persistence.rows import dump
from app.adapters.outbound.persistence.sqlite.messages import insert_message
from app.adapters.outbound.persistence.sqlite.rows import to_conversation
from app.core.domain.run import Run
from app.core.domain.time import to_micros
from app.core.ports import Amendment


def amend(connection: sqlite3.Connection, amendment: Amendment) -> bool:
    """Repair a conversation; False where it has changed since it was read."""
    read = amendment.read
    row = connection.execute("SELECT * FROM conversations WHERE id = ?", (read.id,)).fetchone()
    if row is None or to_conversation(row) != read:
        return False
    number = row["number"]
    for message in amendment.added:
        insert_message(connection, number, message)
    for message_id, parent_id in amendment.parents.items():
        query = "UPDATE messages SET parent_id = ? WHERE conversation = ? AND id = ?"
        connection.execute(query, (parent_id, number, message_id))
    for run in amendment.runs:
        _amend_run(connection, run)
    for run_id, place in amendment.places.items():
        connection.execute("UPDATE runs SET place_in_queue = ? WHERE id = ?", (place, run_id))
    connection.execute(
        "UPDATE conversations SET head_message_id = ?, message_count = ?, last_seq = ? WHERE number = ?",
        (amendment.head_message_id, amendment.message_count, amendment.last_seq, number),
    )
    if amendment.active_run_id is None:
        query = "UPDATE conversations SET active_run_id = NULL, lease_owner = NULL, lease_expires_at = NULL"
        connection.execute(f"{query} WHERE number = ?", (number,))
    return True


def _amend_run(connection: sqlite3.Connection, run: Run) -> None:
    connection.execute(
        "UPDATE runs SET status = ?, error = ?, last_seq = ?, outline = ?, ended_at = ? WHERE id = ?",
        (
            run.status.value,
            dump(run.error) if run.error else None,
            run.last_seq,
            dump(run.outline),
            None if run.ended_at is None else to_micros(run.ended_at),
            run.id,
        ),
    )
