"""The checker: which of the service's promises a stored conversation breaks. It reads the store alone.

The promises are those of docs/architecture.md, by their numbers. A conversation that was imported may break the second
one: what is not ours is kept as it came, and repaired when a model is sent it.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from app.core.domain.conversation import Conversation
from app.core.domain.event import ENDS
from app.core.domain.message import MessageRole
from app.core.domain.run import OutlineEntry, RunStatus
from app.core.ports import Store
from app.core.services.repair import calls_of
from app.core.services.stored import BLOCK, Stored, read_stored
from app.core.services.turn import EPOCH

_PIECES = {"token": "text", "reasoning": "reasoning"}


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that is broken.

    Attributes:
        conversation_id: where.
        promise: its number.
        what: in words.
    """

    conversation_id: str
    promise: int
    what: str


async def check_all(store: Store) -> AsyncIterator[Violation]:
    """Every violation in a store, conversation by conversation."""
    after = ""
    while block := await store.conversations.ids(limit=BLOCK, after=after):
        for conversation_id, user_id in block:
            for violation in await check(store, conversation_id, user_id):
                yield violation
        after = block[-1][0]


async def check(store: Store, conversation_id: str, user_id: str) -> list[Violation]:
    """What is wrong with one conversation; nothing, as it should be.

    While it is being answered it is read until nothing has changed in between.
    """
    while True:
        before = await store.conversations.get(conversation_id, user_id)
        violations = await _check_once(store, before) if before is not None else []
        if not violations or await store.conversations.get(conversation_id, user_id) == before:
            return violations


async def _check_once(store: Store, conversation: Conversation) -> list[Violation]:
    found = _Findings(await read_stored(store, conversation))
    return [Violation(conversation.id, promise, what) for promise, what in found.all()]


class _Findings:
    """The checks, one a promise."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self._conversation = stored.conversation
        self._messages = stored.messages
        self._runs = stored.runs
        self._by_id = stored.by_id

    def all(self) -> Iterator[tuple[int, str]]:
        for promise, check in (
            (1, self._accepted_messages_are_stored_once),
            (2, self._calls_have_their_results),
            (3, self._messages_are_in_order),
            (3, self._at_most_one_run_is_on),
            (3, self._runs_that_wait_have_a_place),
            (4, self._pieces_are_the_text),
            (5, self._events_have_no_gap),
        ):
            for what in check():
                yield promise, what

    def _accepted_messages_are_stored_once(self) -> Iterator[str]:
        if len(self._by_id) != len(self._messages):
            yield "a message id stands twice"
        if self._conversation.message_count != len(self._messages):
            yield f"{len(self._messages)} messages are stored, {self._conversation.message_count} are counted"
        for run in self._runs:
            asked = self._by_id.get(run.user_message_id)
            is_queued = run.status is RunStatus.QUEUED or (run.status is RunStatus.CANCELLED and run.started_at is None)
            if asked is None and not is_queued:
                yield f"run {run.id} answers a message that is not stored"
            if asked is not None and asked.role is not MessageRole.USER:
                yield f"run {run.id} answers a message of the {asked.role.value}"

    def _calls_have_their_results(self) -> Iterator[str]:
        waits = any(run.status in (RunStatus.WAITING, RunStatus.RUNNING) for run in self._runs)
        for branch in self._stored.branches:
            open_: set[str] = set()
            for message in branch:
                if message.role is MessageRole.TOOL:
                    if message.tool_call_id not in open_:
                        yield f"message {message.seq} answers a call that is not open"
                    open_.discard(message.tool_call_id or "")
                    continue
                if open_:
                    yield f"before message {message.seq} a call has no result"
                calls = calls_of(message)
                open_ = {str(call.get("id")) for call in calls}
                if len(open_) < len(calls):
                    yield f"message {message.seq} has two calls of one id"
            is_active = bool(branch) and branch[-1].id == self._conversation.head_message_id
            if open_ and not (waits and is_active):
                yield "the last calls of a branch have no result, and no run goes on with them"

    def _messages_are_in_order(self) -> Iterator[str]:
        for before, after in pairwise(self._messages):
            if (before.seq or 0) >= (after.seq or 0):
                yield f"message {after.seq} does not rise above the one before it"
        for message in self._messages:
            parent = self._by_id.get(message.parent_id or "")
            if message.parent_id is not None and (parent is None or (parent.seq or 0) >= (message.seq or 0)):
                yield f"message {message.seq} has no parent before it"
            if parent is not None and not self._stored.has_right_parent(message):
                yield f"the branch of message {message.seq} does not go through its parent"
        active = self._stored.active_branch
        head = active[-1].id if active else None
        if head != self._conversation.head_message_id:
            yield "the active branch does not end in the head"
        if self._messages and (self._messages[-1].seq or 0) > self._conversation.last_seq:
            yield "a message stands behind the last place"

    def _at_most_one_run_is_on(self) -> Iterator[str]:
        on = self._stored.begun
        if len(on) > 1:
            yield f"{len(on)} runs have begun and not ended"
        active = self._conversation.active_run_id
        if active != (on[0].id if on else None):
            yield f"the active run is {active}, and on is {on[0].id if on else None}"

    def _runs_that_wait_have_a_place(self) -> Iterator[str]:
        places = self._stored.places
        for run in self._runs:
            if run.id in places and run.status not in (RunStatus.QUEUED, RunStatus.CANCELLED):
                yield f"run {run.id} has begun and still holds a place in the queue"
            if run.status is RunStatus.QUEUED and run.id not in places and run.id != self._conversation.active_run_id:
                yield f"run {run.id} waits for its turn and has no place in the queue"

    def _pieces_are_the_text(self) -> Iterator[str]:
        for run in self._runs:
            for (kind, message_id), length in _told(run.outline).items():
                message = self._by_id.get(message_id)
                if message is None:
                    if run.status.ended:
                        yield f"run {run.id} told pieces of a message that is not stored"
                    continue
                stored = message.text if kind == "token" else str(message.metadata.get("reasoning", ""))
                if len(stored) != length:
                    yield f"run {run.id} told {length} of {len(stored)} characters of message {message.seq}"

    def _events_have_no_gap(self) -> Iterator[str]:
        for run in self._runs:
            expected, last = 1, ""
            for entry in run.outline:
                seq, kind = entry[0], entry[1]
                jumped = kind == "reset" and seq > expected and seq % EPOCH == 1
                if seq != expected and not jumped:
                    yield f"run {run.id} tells event {seq} where {expected} is due"
                if last in ENDS:
                    yield f"run {run.id} goes on after its end"
                expected = seq + (len(entry[3]) if kind in _PIECES else 1)
                last = kind
            if run.status.ended and last not in ENDS and run.started_at is not None:
                yield f"run {run.id} has ended without saying so"
            if not run.status.ended and last in ENDS:
                yield f"run {run.id} has told its end and goes on"


def _told(outline: Sequence[OutlineEntry]) -> dict[tuple[str, str], int]:
    """How many characters were told of each message, by kind; what a reset has made void does not count."""
    told: dict[tuple[str, str], int] = {}
    for entry in outline:
        kind: str = entry[1]
        if kind in _PIECES:
            key = (kind, str(entry[2]))
            told[key] = told.get(key, 0) + sum(entry[3])
        elif kind == "reset":
            fields: dict[str, Any] = entry[2]
            for of in _PIECES:
                told.pop((of, fields["message_id"]), None)
    return told
