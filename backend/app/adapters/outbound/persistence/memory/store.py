"""The memory store: a real little store, with the same rules as the others and nothing on disk.

Every method does its work without awaiting, so each is a transaction of its own. What goes in and out is copied:
nobody can change what is stored by changing an object.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from app.adapters.outbound.persistence.conflicts import check_same, in_several_conversations, without_a_run
from app.adapters.outbound.persistence.rows import decode_cursor, encode_cursor
from app.adapters.outbound.persistence.skipped import Skipped
from app.core.domain.conversation import Conversation, ModelOptions, Summary, clip_spans, go_on_from
from app.core.domain.errors import ConversationBusy, LeaseLost, NotFound
from app.core.domain.graph import WorkflowDocument
from app.core.domain.ids import new_id
from app.core.domain.message import Message
from app.core.domain.run import OnBusy, Run, RunState, RunStatus
from app.core.domain.search import words_in, words_to_search
from app.core.domain.skill import Skill
from app.core.domain.time import utc_now
from app.core.ports import Acceptance, Accepted, Amendment, ConversationPage, Lease, Place, Session, Step, UsageRow


@dataclass(slots=True)
class _Record:
    """A conversation with all that belongs to it."""

    conversation: Conversation
    messages: dict[int, Message] = field(default_factory=dict[int, Message])
    seqs: dict[str, int] = field(default_factory=dict[str, int])
    lease: Lease | None = None
    workflow: WorkflowDocument | None = None
    queue: list[tuple[int, datetime, str]] = field(default_factory=list[tuple[int, datetime, str]])

    def append(self, message: Message) -> bool:
        """Put `message` at the end of the active branch; whether it is new."""
        known = self.seqs.get(message.id)
        if known is not None:
            message.seq, message.parent_id = known, self.messages[known].parent_id
            return False
        self.conversation.last_seq += 1
        message.seq, message.parent_id = self.conversation.last_seq, self.conversation.head_message_id
        self.put(message)
        self.conversation.head_message_id = message.id
        self.conversation.updated_at = utc_now()
        return True

    def go_on(self, head: Place) -> None:
        """Make the branch that ends in `head` the active one."""
        conversation = self.conversation
        conversation.forks, conversation.spans = go_on_from(conversation, head.seq)
        conversation.head_message_id = head.message_id

    def put(self, message: Message) -> None:
        seq = message.seq or 0
        self.messages[seq] = message.model_copy(deep=True)
        self.seqs[message.id] = seq

    def between(self, first: int, last: int) -> list[Message]:
        newest = next(reversed(self.messages), 0)
        seqs = range(first, min(last, newest) + 1)
        return [self.messages[seq].model_copy(deep=True) for seq in seqs if seq in self.messages]


class MemoryStore:
    """A store that is gone with its process."""

    def __init__(self) -> None:
        self.records: dict[str, _Record] = {}
        self.all_runs: dict[str, Run] = {}
        self.conversations = _Conversations(self)
        self.messages = _Messages(self)
        self.runs = _Runs(self)
        self.usage = _Usage()
        self.workflows = _Workflows(self)
        self.skills = _Skills()
        self.sessions = _Sessions()

    def record(self, conversation_id: str, user_id: str | None = None) -> _Record | None:
        """What is stored of a conversation; with a user, only if it is theirs."""
        record = self.records.get(conversation_id)
        return record if record is not None and user_id in (None, record.conversation.user_id) else None

    async def ping(self) -> None:
        """Always there."""

    async def faults(self) -> Sequence[str]:
        """There is no file."""
        return ()

    async def close(self) -> None:
        """Nothing to let go of."""


class _Conversations:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def create(self, conversation: Conversation) -> Conversation:
        if conversation.id in self._store.records:
            raise NotFound("There is no such conversation.")
        self._store.records[conversation.id] = _Record(conversation.model_copy(deep=True))
        return conversation

    async def get(self, conversation_id: str, user_id: str) -> Conversation | None:
        record = self._store.record(conversation_id, user_id)
        return None if record is None else record.conversation.model_copy(deep=True)

    async def list(
        self, user_id: str, *, limit: int, cursor: str | None = None, q: str | None = None, archived: bool | None = None
    ) -> ConversationPage:
        def key(conversation: Conversation) -> tuple[datetime, str]:
            return (conversation.updated_at, conversation.id)

        words = words_to_search(q)
        found = [
            record.conversation
            for record in self._store.records.values()
            if record.conversation.user_id == user_id
            and archived in (None, record.conversation.archived)
            and (not words or _matches(record, words))
        ]
        found.sort(key=key, reverse=True)
        if cursor is not None:
            start = decode_cursor(cursor)
            found = [conversation for conversation in found if key(conversation) < start]
        items = [conversation.model_copy(deep=True) for conversation in found[:limit]]
        return ConversationPage(items, encode_cursor(items[-1]) if len(found) > limit else None)

    async def update(self, conversation_id: str, user_id: str, changes: dict[str, Any]) -> Conversation | None:
        record = self._store.record(conversation_id, user_id)
        if record is None:
            return None
        for key in ("title", "model", "system_prompt", "archived", "pinned", "tool_approval"):
            if key in changes:
                setattr(record.conversation, key, changes[key])
        if "model_options" in changes:
            record.conversation.model_options = ModelOptions(**dict(changes["model_options"] or {}))
        if "summary" in changes:
            record.conversation.summary = Summary(**changes["summary"]) if changes["summary"] else None
        record.conversation.updated_at = utc_now()
        return record.conversation.model_copy(deep=True)

    async def delete(self, conversation_id: str, user_id: str) -> bool:
        if self._store.record(conversation_id, user_id) is None:
            return False
        del self._store.records[conversation_id]
        runs = self._store.all_runs
        for run in [run for run in runs.values() if run.conversation_id == conversation_id]:
            del runs[run.id]
        return True

    async def increment_message_count(self, conversation_id: str, n: int) -> None:
        if (record := self._store.record(conversation_id)) is not None:
            record.conversation.message_count += n
            record.conversation.updated_at = utc_now()

    async def move(self, conversation_id: str, user_id: str, head: Place) -> Conversation | None:
        record = self._store.record(conversation_id, user_id)
        if record is None:
            return None
        if record.conversation.active_run_id:
            raise ConversationBusy("The conversation is still being answered. Wait for the answer, or cancel it.")
        record.go_on(head)
        return record.conversation.model_copy(deep=True)

    async def ids(self, *, limit: int, after: str = "") -> Sequence[tuple[str, str]]:
        found = sorted((key, record.conversation.user_id) for key, record in self._store.records.items() if key > after)
        return found[:limit]

    async def amend(self, amendment: Amendment) -> bool:
        record = self._store.record(amendment.read.id)
        if record is None or record.conversation != amendment.read:
            return False
        for message in amendment.added:
            record.put(message)
        record.messages = dict(sorted(record.messages.items()))
        for message_id, parent_id in amendment.parents.items():
            record.messages[record.seqs[message_id]].parent_id = parent_id
        for run in amendment.runs:
            self._store.all_runs[run.id] = run.model_copy(deep=True)
        kept = [entry for entry in record.queue if entry[2] not in amendment.places]
        runs = self._store.all_runs
        placed = [(place, runs[key].created_at, key) for key, place in amendment.places.items() if place is not None]
        record.queue = kept + placed
        conversation = record.conversation
        conversation.head_message_id = amendment.head_message_id
        conversation.message_count, conversation.last_seq = amendment.message_count, amendment.last_seq
        if amendment.active_run_id is None:
            conversation.active_run_id, record.lease = None, None
        return True

    async def restore(self, conversation: Conversation, messages: Sequence[Message]) -> Conversation:
        taken = conversation.id in self._store.records
        kept = conversation.model_copy(update={"id": new_id()} if taken else None, deep=True)
        kept.last_seq = (messages[-1].seq or 0) if messages else 0
        record = _Record(kept)
        for message in messages:
            record.put(message.model_copy(update={"conversation_id": kept.id}))
        self._store.records[kept.id] = record
        return kept.model_copy(deep=True)


class _Messages:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def create(self, message: Message) -> Message:
        record = self._store.record(message.conversation_id)
        if record is None:
            raise NotFound("There is no such conversation.")
        record.append(message)
        return message

    async def get_by_conversation_id(self, conversation_id: str) -> list[Message]:
        record = self._store.record(conversation_id)
        if record is None:
            return []
        spans = clip_spans(record.conversation.spans)
        return [message for span in spans for message in record.between(*span)]

    async def get_many(self, conversation_id: str, message_ids: Sequence[str]) -> list[Message]:
        record = self._store.record(conversation_id)
        if record is None:
            return []
        seqs = sorted(record.seqs[key] for key in set(message_ids) if key in record.seqs)
        return [record.messages[seq].model_copy(deep=True) for seq in seqs]

    async def page(
        self, conversation: Conversation, *, limit: int, before: int | None = None, after: int | None = None
    ) -> list[Message]:
        record = self._store.record(conversation.id)
        if record is None:
            return []
        spans = clip_spans(conversation.spans, before=before, after=after)
        found = [message for span in spans for message in record.between(*span)]
        return found[-limit:] if after is None else found[:limit]

    async def all(self, conversation_id: str, *, limit: int, after: int = 0) -> list[Message]:
        record = self._store.record(conversation_id)
        return [] if record is None else record.between(after + 1, 2**62)[:limit]


class _Runs:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._skipped = Skipped()

    async def accept(self, acceptance: Acceptance) -> Accepted:
        store, run, message = self._store, acceptance.run, acceptance.message
        if (first := self._earlier(acceptance)) is not None:
            return first
        record = self._record_for(acceptance)
        if (record.conversation.active_run_id or record.queue) and acceptance.on_busy is OnBusy.REJECT:
            raise ConversationBusy("The conversation is still being answered. Wait for the answer, or cancel it.")
        if run.message_id in record.seqs:
            raise without_a_run()
        if acceptance.keep_model:
            record.conversation.model = run.model
        if acceptance.go_on_from is not None:
            record.go_on(acceptance.go_on_from)
        if message is None:
            run.begin(None)
            store.all_runs[run.id] = run.model_copy(deep=True)
            record.conversation.active_run_id, record.lease = run.id, acceptance.lease
            return Accepted(run, record.conversation.model_copy(deep=True))
        is_idle = not record.conversation.active_run_id and not record.queue
        if not is_idle:
            run.enqueue()
        store.all_runs[run.id] = run.model_copy(deep=True)
        record.queue.append((0 if acceptance.on_busy is OnBusy.INTERRUPT else 1, run.created_at, run.id))
        if is_idle and (promoted := self._promote(record, acceptance.lease)) is not None:
            return promoted
        return Accepted(run, record.conversation.model_copy(deep=True))

    def _earlier(self, acceptance: Acceptance) -> Accepted | None:
        """The run that the same message began before, if there is one."""
        run = acceptance.run
        found = [
            earlier
            for earlier in self._store.all_runs.values()
            if (earlier.user_id, earlier.message_id) == (run.user_id, run.message_id)
            and (acceptance.anywhere or earlier.conversation_id == run.conversation_id)
        ]
        if not found:
            return None
        if len(found) > 1:
            raise in_several_conversations()
        [first] = found
        record = self._store.records[first.conversation_id]
        seq = record.seqs.get(run.message_id)
        check_same(acceptance, first.request.get("content") if seq is None else record.messages[seq].content)
        return Accepted(first.model_copy(deep=True), record.conversation.model_copy(deep=True), is_new=False)

    def _record_for(self, acceptance: Acceptance) -> _Record:
        records = self._store.records
        if acceptance.create is not None and acceptance.create.id not in records:
            records[acceptance.create.id] = _Record(acceptance.create.model_copy(deep=True))
        record = self._store.record(acceptance.run.conversation_id, acceptance.run.user_id)
        if record is None:
            raise NotFound("There is no such conversation.")
        return record

    async def promote(self, conversation_id: str, lease: Lease) -> Accepted | None:
        record = self._store.record(conversation_id)
        return None if record is None or record.conversation.active_run_id else self._promote(record, lease)

    def _promote(self, record: _Record, lease: Lease) -> Accepted | None:
        conversation = record.conversation
        for entry in sorted(record.queue):
            run = self._store.all_runs[entry[2]]
            message = run.user_message()
            record.queue.remove(entry)
            conversation.message_count += record.append(message)
            if run.status is RunStatus.CANCELLED:
                continue
            run.request = run.turn_options
            run.begin(message)
            conversation.active_run_id, record.lease = run.id, lease
            return Accepted(run.model_copy(deep=True), conversation.model_copy(deep=True), message)
        return None

    async def commit(self, step: Step) -> bool:
        record = self._store.record(step.run.conversation_id)
        if (
            record is None
            or record.conversation.active_run_id != step.run.id
            or record.lease is None
            or record.lease.owner != step.owner
        ):
            raise LeaseLost("The run belongs to another process now.")
        for message in step.messages:
            record.conversation.message_count += record.append(message)
        self._store.all_runs[step.run.id] = step.run.model_copy(deep=True)
        if step.run.status is RunStatus.WAITING:
            record.lease = None
        if not step.run.status.ended:
            return False
        record.conversation.active_run_id, record.lease = None, None
        return bool(record.queue)

    async def get(self, run_id: str, user_id: str) -> Run | None:
        run = self._store.all_runs.get(run_id)
        return run.model_copy(deep=True) if run is not None and run.user_id == user_id else None

    async def of_conversation(self, conversation_id: str) -> Sequence[Run]:
        runs = [run for run in self._store.all_runs.values() if run.conversation_id == conversation_id]
        return [run.model_copy(deep=True) for run in sorted(runs, key=lambda run: (run.created_at, run.id))]

    async def places(self, conversation_id: str) -> Mapping[str, int]:
        record = self._store.record(conversation_id)
        return {} if record is None else {run_id: place for place, _, run_id in record.queue}

    async def answering(self, conversation_id: str, message_ids: Sequence[str]) -> Sequence[RunState]:
        runs = await self.of_conversation(conversation_id)
        return [run.state for run in runs if run.user_message_id in message_ids]

    async def take(self, run_id: str, user_id: str, lease: Lease) -> Accepted | None:
        run = self._store.all_runs.get(run_id)
        if run is None or run.user_id != user_id or run.status is not RunStatus.WAITING:
            return None
        run.status = RunStatus.RUNNING
        record = self._store.records[run.conversation_id]
        record.lease = lease
        return Accepted(run.model_copy(deep=True), record.conversation.model_copy(deep=True))

    async def cancel_queued(self, run_id: str, user_id: str) -> Run | None:
        run = self._store.all_runs.get(run_id)
        if run is None or run.user_id != user_id or run.status is not RunStatus.QUEUED:
            return None
        run.cancel_in_queue()
        return run.model_copy(deep=True)

    async def renew(self, lease: Lease, conversation_ids: Sequence[str]) -> None:
        for key in conversation_ids:
            record = self._store.record(key)
            if record is not None and record.lease is not None and record.lease.owner == lease.owner:
                record.lease = lease

    async def claim(self, lease: Lease, *, now: datetime, driven: Collection[str] = ()) -> list[Accepted]:
        claimed: list[Accepted] = []
        for record in self._store.records.values():
            try:
                accepted = self._claim(record, lease, now, driven)
            except Exception as error:  # noqa: BLE001 - logged, counted, and tried again with the next claim
                self._skipped.note(record.conversation.id, error)
            else:
                claimed += [accepted] if accepted is not None else []
        return claimed

    def _claim(self, record: _Record, lease: Lease, now: datetime, driven: Collection[str]) -> Accepted | None:
        conversation, held = record.conversation, record.lease
        if not conversation.active_run_id:
            return self._promote(record, lease)
        is_ours = held is not None and held.owner == lease.owner and held.expires_at >= now
        if held is None or is_ours or conversation.id in driven:
            return None
        run = self._store.all_runs[conversation.active_run_id]
        run.takeovers += 1
        record.lease = lease
        return Accepted(run.model_copy(deep=True), conversation.model_copy(deep=True), resumes=True)


def _matches(record: _Record, words: list[str]) -> bool:
    texts = [record.conversation.title or "", *(message.text for message in record.messages.values())]
    return any(all(any(c.startswith(w) for c in words_in(text)) for w in words) for text in texts)


class _Workflows:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def get(self, conversation_id: str) -> WorkflowDocument | None:
        record = self._store.record(conversation_id)
        return record.workflow.model_copy(deep=True) if record is not None and record.workflow is not None else None

    async def put(self, conversation_id: str, document: WorkflowDocument) -> bool:
        record = self._store.record(conversation_id)
        if record is None:
            raise NotFound("There is no such conversation.")
        if (record.workflow.revision if record.workflow is not None else 0) != document.revision:
            return False
        document.revision += 1
        record.workflow = document.model_copy(deep=True)
        return True


class _Skills:
    def __init__(self) -> None:
        self._rows: dict[tuple[str | None, str], Skill] = {}

    async def list(self, user_id: str) -> Sequence[Skill]:
        return [self._rows[key].model_copy() for key in sorted(key for key in self._rows if key[0] == user_id)]

    async def add(self, skill: Skill) -> bool:
        key = (skill.user_id, skill.slug)
        return self._rows.setdefault(key, kept := skill.model_copy()) is kept

    async def update(self, skill: Skill) -> bool:
        key = (skill.user_id, skill.slug)
        if key not in self._rows:
            return False
        self._rows[key] = skill.model_copy(update={"created_at": self._rows[key].created_at})
        return True

    async def delete(self, user_id: str, slug: str) -> bool:
        return self._rows.pop((user_id, slug), None) is not None


class _Sessions:
    def __init__(self) -> None:
        self._rows: dict[str, Session] = {}

    async def add(self, session: Session) -> None:
        self._rows[session.digest] = session

    async def get(self, digest: str) -> Session | None:
        return self._rows.get(digest)

    async def remove(self, digest: str) -> None:
        self._rows.pop(digest, None)

    async def remove_ended(self, now: datetime, token_mark: str) -> int:
        ended = [row.digest for row in self._rows.values() if row.expires_at <= now or row.token_mark != token_mark]
        for digest in ended:
            del self._rows[digest]
        return len(ended)


class _Usage:
    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, str, str], UsageRow] = {}

    async def add(self, rows: Sequence[UsageRow]) -> None:
        for row in rows:
            key = (row.user_id, row.day, row.model, row.conversation_id)
            self._rows[key] = _sum(self._rows.get(key), row)

    async def sums(
        self, user_id: str, *, since: str, until: str, conversation_id: str | None = None
    ) -> Sequence[UsageRow]:
        found: dict[tuple[str, str], UsageRow] = {}
        for row in self._rows.values():
            is_wanted = row.user_id == user_id and since <= row.day <= until
            if is_wanted and conversation_id in (None, row.conversation_id):
                one = replace(row, conversation_id=conversation_id or "")
                found[row.day, row.model] = _sum(found.get((row.day, row.model)), one)
        return [found[key] for key in sorted(found)]


def _sum(one: UsageRow | None, other: UsageRow) -> UsageRow:
    if one is None:
        return replace(other)
    return replace(
        one,
        requests=one.requests + other.requests,
        input_tokens=one.input_tokens + other.input_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
    )
