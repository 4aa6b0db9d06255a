"""Repairs of what is stored: whatever can be told again from messages and runs is told again from them.

Messages and their numbers are the truth: a parent, a head, a count or a place follows from them. What was lost with a
message, or told and never stored, cannot be brought back; it is left as it is, and named.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

from app.core.domain.conversation import Conversation
from app.core.domain.errors import ConversationBusy, Interrupted
from app.core.domain.event import ENDS
from app.core.domain.message import Message, MessageRole
from app.core.domain.run import Run, RunStatus
from app.core.domain.time import utc_now
from app.core.ports import Amendment, Place, Store
from app.core.services.checker import Violation, check
from app.core.services.repair import interrupted, open_calls
from app.core.services.stored import BLOCK, Stored, read_stored

_STATUS = {"complete": RunStatus.COMPLETED, "cancelled": RunStatus.CANCELLED, "error": RunStatus.FAILED}
_END = {status: kind for kind, status in _STATUS.items()}
_LOST = Interrupted("The service was interrupted while it worked on this answer. Your message is kept. Try again.")


@dataclass(frozen=True, slots=True)
class Repaired:
    """What became of a conversation that broke promises.

    Attributes:
        changes: what was changed, in words.
        left: the promises that it breaks still.
        was_busy: it was being answered, and was left alone.
    """

    conversation_id: str
    changes: Sequence[str]
    left: Sequence[Violation]
    was_busy: bool = False


async def repair_all(store: Store) -> AsyncIterator[Repaired]:
    """Repair every conversation that breaks a promise; done twice, the second time changes nothing."""
    after = ""
    while block := await store.conversations.ids(limit=BLOCK, after=after):
        for conversation_id, user_id in block:
            if await check(store, conversation_id, user_id):
                yield await repair_conversation(store, conversation_id, user_id)
        after = block[-1][0]


async def repair_conversation(store: Store, conversation_id: str, user_id: str) -> Repaired:
    """Repair one conversation."""
    changes: list[str] = []
    was_busy = False
    conversation = await store.conversations.get(conversation_id, user_id)
    if conversation is not None:
        plan = _Plan(await read_stored(store, conversation))
        if plan.changes:
            was_busy = not await store.conversations.amend(plan.amendment())
            changes += plan.changes if not was_busy else []
        try:
            changes += await _close_calls(store, conversation_id, user_id)
        except ConversationBusy:
            was_busy = True
    return Repaired(conversation_id, changes, await check(store, conversation_id, user_id), was_busy)


class _Plan:
    """What is to be changed in a conversation, before any message is added.

    Attributes:
        changes: in words.
    """

    def __init__(self, stored: Stored) -> None:
        self._added = _missing_results(stored)
        self._stored = stored.with_messages(self._added)
        self._conversation = stored.conversation
        self._parents: dict[str, str | None] = {}
        self._runs: dict[str, Run] = {}
        self._places: dict[str, int | None] = {}
        self._active = self._active_run()
        self.changes = [f"a call before message {self._behind(m)} has a result, interrupted" for m in self._added]
        self.changes += [*self._plan_parents(), *self._plan_runs(), *self._plan_places(), *self._plan_conversation()]

    def amendment(self) -> Amendment:
        """The changes, as the store takes them."""
        return Amendment(
            read=self._conversation,
            head_message_id=self._head,
            message_count=len(self._stored.messages),
            last_seq=self._last_seq,
            active_run_id=self._active,
            added=self._added,
            parents=self._parents,
            runs=list(self._runs.values()),
            places=self._places,
        )

    @property
    def _head(self) -> str | None:
        branch = self._stored.active_branch
        return branch[-1].id if branch else None

    @property
    def _last_seq(self) -> int:
        messages = self._stored.messages
        return max(self._conversation.last_seq, (messages[-1].seq or 0) if messages else 0)

    def _active_run(self) -> str | None:
        """The run that the conversation names, if that is one that goes on."""
        named = self._conversation.active_run_id
        return named if any(run.id == named and _last_event(run) not in ENDS for run in self._stored.begun) else None

    def _behind(self, message: Message) -> int | None:
        return next((m.seq for m in self._stored.messages if (m.seq or 0) > (message.seq or 0)), None)

    def _plan_parents(self) -> Iterator[str]:
        for message in self._stored.messages:
            if not self._stored.has_right_parent(message):
                before = self._stored.before(message.seq or 0)
                self._parents[message.id] = before.id if before is not None else None
                yield f"message {message.seq} follows the message before it on its branch"

    def _plan_runs(self) -> Iterator[str]:
        for run in self._stored.runs:
            told_end, goes_on = _last_event(run), run in self._stored.begun
            if goes_on and told_end in ENDS:
                yield self._end(run, _STATUS[told_end], f"run {run.id} has ended, as its last event says")
            elif goes_on and run.id != self._active:
                yield self._end(run, RunStatus.FAILED, f"run {run.id} has failed: nobody went on with it")
            elif run.status.ended and run.started_at is not None and told_end not in ENDS:
                yield self._end(run, run.status, f"run {run.id} says how it ended")

    def _end(self, run: Run, status: RunStatus, change: str) -> str:
        ended = run.model_copy(deep=True)
        ended.status, ended.ended_at = status, run.ended_at or utc_now()
        if status is RunStatus.FAILED:
            ended.error = run.error or _LOST.to_wire()
        if _last_event(run) not in ENDS:
            ended.last_seq = _next_seq(run)
            ended.outline.append([ended.last_seq, _END[status], _end_fields(ended)])
        self._runs[run.id] = ended
        return change

    def _plan_places(self) -> Iterator[str]:
        for run in self._stored.runs:
            has_place = run.id in self._stored.places
            waits = run.status in (RunStatus.QUEUED, RunStatus.CANCELLED)
            is_done = not waits or (run.status is RunStatus.CANCELLED and run.message_id in self._stored.by_id)
            if has_place and is_done:
                self._places[run.id] = None
                yield f"run {run.id} leaves the queue"
            elif run.status is RunStatus.QUEUED and not has_place and "content" in run.request:
                self._places[run.id] = 1
                yield f"run {run.id} waits in the queue"

    def _plan_conversation(self) -> Iterator[str]:
        read, count = self._conversation, len(self._stored.messages)
        if read.message_count != count:
            yield f"{count} messages are counted, not {read.message_count}"
        if read.last_seq != self._last_seq:
            yield f"the last place is {self._last_seq}, not {read.last_seq}"
        if read.head_message_id != self._head:
            yield "the head is the last message of the active branch"
        if read.active_run_id != self._active:
            yield f"run {read.active_run_id} is not the active run any more"


async def _close_calls(store: Store, conversation_id: str, user_id: str) -> list[str]:
    """Add a result to each open call at the end of a branch that no run goes on with.

    Raises:
        ConversationBusy: the conversation is being answered.
    """
    conversation = await store.conversations.get(conversation_id, user_id)
    changes: list[str] = []
    if conversation is None or conversation.active_run_id is not None:
        return changes
    stored = await read_stored(store, conversation)
    branches = [branch for branch in stored.branches if branch and open_calls(branch)]
    branches.sort(key=lambda branch: branch[-1].id == conversation.head_message_id)  # it stays the active one
    for branch in branches:
        await _go_to(store, conversation, branch[-1])
        for call in open_calls(branch):
            await store.messages.create(interrupted(conversation_id, call))
            await store.conversations.increment_message_count(conversation_id, 1)
            changes.append(f"a call of message {_caller(branch).seq} has a result that says it was interrupted")
    head = stored.by_id.get(conversation.head_message_id or "")
    if branches and head is not None and branches[-1][-1] is not head:
        await _go_to(store, conversation, head)
    return changes


async def _go_to(store: Store, conversation: Conversation, message: Message) -> None:
    """Make the branch that ends in `message` the active one, where it is not."""
    current = await store.conversations.get(conversation.id, conversation.user_id)
    if current is not None and current.head_message_id != message.id:
        await store.conversations.move(conversation.id, conversation.user_id, Place(message.seq or 0, message.id))


def _missing_results(stored: Stored) -> list[Message]:
    """Results for calls in the middle of a branch, where the places behind the call are free."""
    added: dict[int, Message] = {}
    for branch in stored.branches:
        for number, message in enumerate(branch):
            if message.role is MessageRole.TOOL or not (calls := open_calls(branch[:number])):
                continue
            before, seq = branch[number - 1].seq or 0, message.seq or 0
            free = [place for place in range(before + 1, seq) if place not in added]
            if len(free) < len(calls) or any(before < start <= seq for start, _ in stored.conversation.forks):
                continue
            for place, call in zip(free, calls, strict=False):
                result = interrupted(stored.conversation.id, call)
                result.seq = place
                added[place] = result
    together = stored.with_messages(list(added.values()))
    for seq, result in added.items():
        parent = together.before(seq)
        result.parent_id = parent.id if parent is not None else None
    return list(added.values())


def _caller(branch: Sequence[Message]) -> Message:
    return next(message for message in reversed(branch) if message.role is MessageRole.ASSISTANT)


def _last_event(run: Run) -> str:
    return run.outline[-1][1] if run.outline else ""


def _next_seq(run: Run) -> int:
    if not run.outline:
        return 1
    seq, kind, *rest = run.outline[-1]
    return seq + (len(rest[1]) if kind in ("token", "reasoning") else 1)


def _end_fields(run: Run) -> dict[str, object]:
    if run.status is RunStatus.FAILED:
        return dict(run.error or {})
    fields: dict[str, object] = {"message_id": run.last_message_id} if run.last_message_id else {}
    if run.status is RunStatus.COMPLETED:
        fields["finish_reason"] = run.finish_reason or "stop"
    return fields
