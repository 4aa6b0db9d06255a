"""Runs in SQLite: acceptance, steps, queues and leases, each in one transaction."""

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

from app.adapters.outbound.persistence.conflicts import check_same, in_several_conversations, without_a_run
from app.adapters.outbound.persistence.rows import dump, dump_options, join_content
from app.adapters.outbound.persistence.skipped import Skipped
from app.adapters.outbound.persistence.sqlite.conversations import find, go_on, insert_conversation, is_taken
from app.adapters.outbound.persistence.sqlite.database import Database
from app.adapters.outbound.persistence.sqlite.messages import Tip, append
from app.adapters.outbound.persistence.sqlite.rows import to_conversation, to_run, to_run_state
from app.core.domain.conversation import Conversation
from app.core.domain.errors import ConversationBusy, LeaseLost, NotFound
from app.core.domain.message import Message
from app.core.domain.run import OnBusy, Run, RunState, RunStatus
from app.core.domain.time import from_micros, to_micros, utc_now
from app.core.ports import Acceptance, Accepted, Lease, Step

_RUN = "SELECT runs.*, conversations.id AS conversation_id FROM runs JOIN conversations ON conversations.number = conversation"

_QUESTION = "COALESCE(json_extract(options, '$.input_id'), message_id)"
"""The user message that a run answers, in the words of the index over it."""

_STATE = f"SELECT id, {_QUESTION} AS question, status, model, last_message_id, error, created_at, ended_at FROM runs"

NOBODY = ""
"""The owner of a lease that nobody holds, because its run waits for an answer from outside."""

_MESSAGE = "SELECT 1 FROM messages WHERE conversation = ? AND id = ?"


class SqliteRuns:
    """An `IRunRepository` over SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._skipped = Skipped()

    async def accept(self, acceptance: Acceptance) -> Accepted:
        return await self._database.write(lambda connection: _accept(connection, acceptance))

    async def promote(self, conversation_id: str, lease: Lease) -> Accepted | None:
        def job(connection: sqlite3.Connection) -> Accepted | None:
            row = find(connection, conversation_id, None)
            return None if row is None or row["active_run_id"] else _promote(connection, row, lease)

        return await self._database.write(job)

    async def commit(self, step: Step) -> bool:
        return await self._database.write(lambda connection: _commit(connection, step))

    async def get(self, run_id: str, user_id: str) -> Run | None:
        query = f"{_RUN} WHERE runs.id = ? AND runs.user_id = ?"
        values = (run_id, user_id)
        row = await self._database.read(lambda connection: connection.execute(query, values).fetchone())
        return None if row is None else to_run(row, row["conversation_id"])

    async def of_conversation(self, conversation_id: str) -> Sequence[Run]:
        query = f"{_RUN} WHERE conversations.id = ? ORDER BY runs.created_at, runs.id"
        values = (conversation_id,)
        rows = await self._database.read(lambda connection: connection.execute(query, values).fetchall())
        return [to_run(row, conversation_id) for row in rows]

    async def places(self, conversation_id: str) -> Mapping[str, int]:
        query = (
            "SELECT runs.id, place_in_queue FROM runs JOIN conversations ON conversations.number = conversation"
            " WHERE conversations.id = ? AND place_in_queue IS NOT NULL"
        )
        values = (conversation_id,)
        rows = await self._database.read(lambda connection: connection.execute(query, values).fetchall())
        return {row["id"]: row["place_in_queue"] for row in rows}

    async def answering(self, conversation_id: str, message_ids: Sequence[str]) -> Sequence[RunState]:
        wanted = ", ".join("?" * len(message_ids))
        query = (
            f"{_STATE} WHERE conversation = (SELECT number FROM conversations WHERE id = ?)"
            f" AND {_QUESTION} IN ({wanted}) ORDER BY created_at, id"
        )
        values = (conversation_id, *message_ids)
        rows = await self._database.read(lambda connection: connection.execute(query, values).fetchall())
        return [to_run_state(row) for row in rows]

    async def take(self, run_id: str, user_id: str, lease: Lease) -> Accepted | None:
        def job(connection: sqlite3.Connection) -> Accepted | None:
            query = "UPDATE runs SET status = 'running' WHERE id = ? AND user_id = ? AND status = 'waiting'"
            if not connection.execute(query, (run_id, user_id)).rowcount:
                return None
            run = connection.execute(f"{_RUN} WHERE runs.id = ?", (run_id,)).fetchone()
            _lease(connection, run["conversation"], lease)
            conversation = to_conversation(_row(connection, run["conversation"]))
            return Accepted(to_run(run, conversation.id), conversation)

        return await self._database.write(job)

    async def cancel_queued(self, run_id: str, user_id: str) -> Run | None:
        def job(connection: sqlite3.Connection) -> Run | None:
            query = f"{_RUN} WHERE runs.id = ? AND runs.user_id = ? AND runs.status = 'queued'"
            row = connection.execute(query, (run_id, user_id)).fetchone()
            if row is None:
                return None
            run = to_run(row, row["conversation_id"])
            run.cancel_in_queue()
            connection.execute(
                "UPDATE runs SET status = ?, ended_at = ?, last_seq = ?, outline = ? WHERE id = ?",
                (run.status.value, to_micros(run.ended_at or utc_now()), run.last_seq, dump(run.outline), run.id),
            )
            return run

        return await self._database.write(job)

    async def renew(self, lease: Lease, conversation_ids: Sequence[str]) -> None:
        values = [(to_micros(lease.expires_at), key, lease.owner) for key in conversation_ids]
        query = "UPDATE conversations SET lease_expires_at = ? WHERE id = ? AND lease_owner = ?"
        await self._database.write(lambda connection: connection.executemany(query, values))

    async def claim(self, lease: Lease, *, now: datetime, driven: Collection[str] = ()) -> list[Accepted]:
        # The data folder belongs to one process, so a run of another owner has lost its process, whatever its lease says.
        # One of our own whose lease has run out was given up here: its steps could not be stored.
        def job(connection: sqlite3.Connection) -> list[Accepted]:
            rows = connection.execute(
                "SELECT * FROM conversations WHERE active_run_id IS NOT NULL"
                " AND (lease_owner NOT IN (?, ?) OR (lease_owner = ? AND lease_expires_at < ?))",
                (lease.owner, NOBODY, lease.owner, to_micros(now)),
            ).fetchall()
            lost = (row for row in rows if row["id"] not in driven)
            claimed = [self._unless_it_is_broken(connection, row, lease, _take_over) for row in lost]
            idle = connection.execute(
                "SELECT * FROM conversations WHERE active_run_id IS NULL"
                " AND number IN (SELECT conversation FROM runs WHERE place_in_queue IS NOT NULL)"
            ).fetchall()
            claimed += [self._unless_it_is_broken(connection, row, lease, _promote) for row in idle]
            return [accepted for accepted in claimed if accepted is not None]

        return await self._database.write(job)

    def _unless_it_is_broken(
        self,
        connection: sqlite3.Connection,
        row: sqlite3.Row,
        lease: Lease,
        work: Callable[[sqlite3.Connection, sqlite3.Row, Lease], Accepted | None],
    ) -> Accepted | None:
        """What `work` on one conversation gives; None, and nothing changed, where that conversation fails."""
        connection.execute("SAVEPOINT conversation")
        try:
            return work(connection, row, lease)
        except sqlite3.OperationalError:
            raise
        except Exception as error:  # noqa: BLE001 - logged, counted, and tried again with the next claim
            connection.execute("ROLLBACK TO conversation")
            self._skipped.note(row["id"], error)
            return None
        finally:
            if connection.in_transaction:
                connection.execute("RELEASE conversation")


def _take_over(connection: sqlite3.Connection, row: sqlite3.Row, lease: Lease) -> Accepted:
    """Take the lease of a conversation whose process is gone."""
    _lease(connection, row["number"], lease)
    connection.execute("UPDATE runs SET takeovers = takeovers + 1 WHERE id = ?", (row["active_run_id"],))
    run = connection.execute(f"{_RUN} WHERE runs.id = ?", (row["active_run_id"],)).fetchone()
    return Accepted(to_run(run, row["id"]), to_conversation(row), resumes=True)


def _accept(connection: sqlite3.Connection, acceptance: Acceptance) -> Accepted:
    run, message = acceptance.run, acceptance.message
    if (first := _earlier(connection, acceptance)) is not None:
        return first
    conversation, tip = _conversation_for(connection, acceptance)
    if acceptance.keep_model and conversation.model != run.model:
        connection.execute("UPDATE conversations SET model = ? WHERE number = ?", (run.model, tip.number))
        conversation.model = run.model
    idle = conversation.active_run_id is None and not _has_queue(connection, tip.number)
    if not idle and acceptance.on_busy is OnBusy.REJECT:
        raise ConversationBusy("The conversation is still being answered. Wait for the answer, or cancel it.")
    if idle:
        return _begin(connection, conversation, tip, run, message, acceptance.lease)
    if connection.execute(_MESSAGE, (tip.number, run.message_id)).fetchone() is not None:
        raise without_a_run()
    run.enqueue()
    _insert_run(connection, tip.number, run, place_in_queue=0 if acceptance.on_busy is OnBusy.INTERRUPT else 1)
    return Accepted(run, conversation)


def _earlier(connection: sqlite3.Connection, acceptance: Acceptance) -> Accepted | None:
    """The run that the same message began before, if there is one."""
    run = acceptance.run
    query = f"{_RUN} WHERE runs.user_id = ? AND message_id = ?"
    values = [run.user_id, run.message_id]
    if not acceptance.anywhere:
        query += " AND conversations.id = ?"
        values.append(run.conversation_id)
    found = connection.execute(f"{query} LIMIT 2", values).fetchall()
    if not found:
        return None
    if len(found) > 1:
        raise in_several_conversations()
    [row] = found
    first = to_run(row, row["conversation_id"])
    query = "SELECT content, parts FROM messages WHERE conversation = ? AND id = ?"
    stored = connection.execute(query, (row["conversation"], run.message_id)).fetchone()
    content = first.request.get("content") if stored is None else join_content(stored["content"], stored["parts"])
    check_same(acceptance, content)
    return Accepted(first, to_conversation(_row(connection, row["conversation"])), is_new=False)


def _conversation_for(connection: sqlite3.Connection, acceptance: Acceptance) -> tuple[Conversation, Tip]:
    """The conversation that a turn is asked for in, made where it is to be made."""
    row = find(connection, acceptance.run.conversation_id, acceptance.run.user_id)
    if row is None:
        made = acceptance.create
        if made is None or is_taken(connection, made.id):
            raise NotFound("There is no such conversation.")
        return made, Tip(insert_conversation(connection, made), 0, None, 0)
    if acceptance.go_on_from is not None and not row["active_run_id"]:
        go_on(connection, row, acceptance.go_on_from)
        row = _row(connection, row["number"])
    return to_conversation(row), Tip.of(row)


def _begin(
    connection: sqlite3.Connection,
    conversation: Conversation,
    tip: Tip,
    run: Run,
    message: Message | None,
    lease: Lease,
) -> Accepted:
    """Store the user message and its run, and take the lease of the idle conversation."""
    if message is not None:
        before = tip.last_seq
        append(connection, tip, [message])
        if tip.last_seq == before:
            raise without_a_run()
    run.begin(message)
    _insert_run(connection, tip.number, run, place_in_queue=None)
    _move(connection, tip, run.id, lease)
    return Accepted(run, _moved(conversation, tip, run.id), message)


def _promote(connection: sqlite3.Connection, row: sqlite3.Row, lease: Lease) -> Accepted | None:
    """Begin the next run in the queue of the idle conversation `row`."""
    tip = Tip.of(row)
    waiting = connection.execute(
        f"{_RUN} WHERE conversation = ? AND place_in_queue IS NOT NULL ORDER BY place_in_queue, runs.created_at, runs.id",
        (tip.number,),
    ).fetchall()
    for waiting_row in waiting:
        run = to_run(waiting_row, row["id"])
        message = run.user_message()
        append(connection, tip, [message])
        if run.status is RunStatus.CANCELLED:
            connection.execute("UPDATE runs SET place_in_queue = NULL WHERE id = ?", (run.id,))
            _move(connection, tip, None, None)
            continue
        run.begin(message)
        connection.execute(
            "UPDATE runs SET place_in_queue = NULL, status = ?, started_at = ?, request = ?, last_seq = ?, outline = ?"
            " WHERE id = ?",
            (
                run.status.value,
                to_micros(run.started_at or utc_now()),
                dump(run.turn_options),
                run.last_seq,
                dump(run.outline),
                run.id,
            ),
        )
        _move(connection, tip, run.id, lease)
        return Accepted(run, _moved(to_conversation(row), tip, run.id), message)
    return None


def _commit(connection: sqlite3.Connection, step: Step) -> bool:
    run = step.run
    row = find(connection, run.conversation_id, None)
    if row is None or row["active_run_id"] != run.id or row["lease_owner"] != step.owner:
        raise LeaseLost("The run belongs to another process now.")
    tip = Tip.of(row)
    append(connection, tip, step.messages)
    connection.execute(
        "UPDATE runs SET status = ?, answer_id = ?, last_message_id = ?, finish_reason = ?, usage = ?, error = ?,"
        " last_seq = ?, takeovers = ?, outline = ?, options = ?, ended_at = ? WHERE id = ?",
        (
            run.status.value,
            run.answer_id,
            run.last_message_id,
            run.finish_reason,
            dump(run.usage) if run.usage else None,
            dump(run.error) if run.error else None,
            run.last_seq,
            run.takeovers,
            dump(run.outline),
            dump_options(run),
            None if run.ended_at is None else to_micros(run.ended_at),
            run.id,
        ),
    )
    if run.status.ended:
        _move(connection, tip, None, None)
        return _has_queue(connection, tip.number)
    owner = NOBODY if run.status is RunStatus.WAITING else row["lease_owner"]
    _move(connection, tip, run.id, Lease(owner, from_micros(row["lease_expires_at"])))
    return False


def _lease(connection: sqlite3.Connection, number: int, lease: Lease) -> None:
    connection.execute(
        "UPDATE conversations SET lease_owner = ?, lease_expires_at = ? WHERE number = ?",
        (lease.owner, to_micros(lease.expires_at), number),
    )


def _has_queue(connection: sqlite3.Connection, number: int) -> bool:
    query = "SELECT 1 FROM runs WHERE conversation = ? AND place_in_queue IS NOT NULL LIMIT 1"
    return connection.execute(query, (number,)).fetchone() is not None


def _row(connection: sqlite3.Connection, number: int) -> sqlite3.Row:
    return connection.execute("SELECT * FROM conversations WHERE number = ?", (number,)).fetchone()


def _move(connection: sqlite3.Connection, tip: Tip, run_id: str | None, lease: Lease | None) -> None:
    """Write where the conversation's branch ends now, and who drives it."""
    connection.execute(
        "UPDATE conversations SET head_message_id = ?, last_seq = ?, message_count = ?, active_run_id = ?,"
        " lease_owner = ?, lease_expires_at = ?, updated_at = ? WHERE number = ?",
        (
            tip.head,
            tip.last_seq,
            tip.count,
            run_id,
            lease.owner if lease else None,
            to_micros(lease.expires_at) if lease else None,
            to_micros(utc_now()),
            tip.number,
        ),
    )


def _moved(conversation: Conversation, tip: Tip, run_id: str) -> Conversation:
    changes = {
        "head_message_id": tip.head,
        "last_seq": tip.last_seq,
        "message_count": tip.count,
        "active_run_id": run_id,
    }
    return conversation.model_copy(update=changes)


def _insert_run(connection: sqlite3.Connection, number: int, run: Run, place_in_queue: int | None) -> None:
    connection.execute(
        "INSERT INTO runs (id, conversation, user_id, message_id, status, place_in_queue, model, answer_id, request,"
        " options, last_seq, outline, created_at, started_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            run.id,
            number,
            run.user_id,
            run.message_id,
            run.status.value,
            place_in_queue,
            run.model,
            run.answer_id,
            dump(run.request if run.status is RunStatus.QUEUED else run.turn_options),
            dump_options(run),
            run.last_seq,
            dump(run.outline),
            to_micros(run.created_at),
            None if run.started_at is None else to_micros(run.started_at),
        ),
    )
