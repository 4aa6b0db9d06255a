"""The events of a run told again from what is stored, number for number, when the log no longer has them.

A run keeps an outline of its events beside its messages: for a piece of text its length, for a message its id,
for what is nowhere else stored the event itself. Outline and messages together give back every event, but for
pieces that a `reset` has made void: those are passed over, which is the one jump in numbers that clients expect.
"""

from collections.abc import Iterator
from typing import Any
from weakref import WeakValueDictionary

from app.core.domain.event import RunEvent
from app.core.domain.message import Message, MessageRole
from app.core.domain.run import OutlineEntry, Run
from app.core.ports import IMessageRepository
from app.core.ports.run_log import IRunFeed

_PIECES = ("token", "reasoning")


def outline(entries: list[OutlineEntry], event: RunEvent) -> None:
    """Add `event` to the outline of its run."""
    data = event.data
    kind = event.type
    if kind in _PIECES:
        message_id, length = data["message_id"], len(data["content"])
        last = entries[-1] if entries else None
        if last is not None and last[1] == kind and last[2] == message_id and last[0] + len(last[3]) == event.seq:
            last[3].append(length)
        else:
            entries.append([event.seq, kind, message_id, [length]])
    elif kind == "message":
        entries.append([event.seq, kind, data["message"]["id"]])
    elif kind == "tool_result":
        entries.append([event.seq, kind, data["message_id"], data["tool_call_id"]])
    else:
        fields = {key: value for key, value in data.items() if key not in _COMMON}
        entries.append([event.seq, kind, fields])


_COMMON = frozenset({"type", "run_id", "conversation_id", "seq"})


async def replay(
    messages: IMessageRepository,
    run: Run,
    after: int,
    *,
    partial: Message | None = None,
    rest: tuple[int, IRunFeed] | None = None,
) -> IRunFeed:
    """The events of `run` after number `after`, as its outline and its stored messages tell them.

    Args:
        partial: the answer that is being written and is not stored yet.
        rest: for a run that has not ended, where the log begins, and the feed that goes on from there.
    """
    stored = await _messages_of(messages, run)
    if partial is not None:
        stored.setdefault(partial.id, partial)
    until, live = rest if rest is not None else (None, None)
    return _Replay(_between(_tell(run, stored), after, until), live, max(after, until or 0))


async def told_so_far(messages: IMessageRepository, run: Run) -> list[RunEvent]:
    """The events of a run that its process had stored before it died, from the first on, as far as none is missing."""
    events: list[RunEvent] = []
    for event in _tell(run, await _messages_of(messages, run)):
        if event.seq != (events[-1].seq if events else 0) + 1 and event.type != "reset":
            break
        events.append(event)
    return events


def _between(events: Iterator[RunEvent], after: int, until: int | None) -> Iterator[RunEvent]:
    for event in events:
        if until is not None and event.seq > until:
            return
        if event.seq > after:
            yield event


class _Stored(dict[str, Message]):
    """The messages of a run, by id."""


_ended_runs: WeakValueDictionary[str, _Stored] = WeakValueDictionary()
"""The messages of ended runs that are being told: many who listen to one run share them."""


async def _messages_of(messages: IMessageRepository, run: Run) -> _Stored:
    if (known := _ended_runs.get(run.id)) is not None:
        return known
    ids = {entry[2] for entry in run.outline if isinstance(entry[2], str)}
    found = await messages.get_many(run.conversation_id, sorted(ids))
    stored = _Stored({message.id: message for message in found})
    if run.status.ended:
        _ended_runs[run.id] = stored
    return stored


def tool_result_fields(message: Message) -> dict[str, Any]:
    """The fields of the `tool_result` event for a stored TOOL message."""
    metadata = message.metadata
    fields: dict[str, Any] = {
        "message_id": message.id,
        "tool_call_id": message.tool_call_id,
        "name": metadata.get("name", ""),
        "content": message.content,
        "is_error": metadata.get("status") == "error",
    }
    if metadata.get("denied"):
        fields["denied"] = True
    if artifacts := metadata.get("artifacts"):
        fields["artifacts"] = artifacts
    return fields


def _tell(run: Run, stored: dict[str, Message]) -> Iterator[RunEvent]:
    said: dict[tuple[str, str], int] = {}
    void = {entry[2]["message_id"]: entry[0] for entry in run.outline if entry[1] == "reset"}
    for entry in run.outline:
        seq, kind = entry[0], entry[1]
        if kind in _PIECES:
            message_id: str = entry[2]
            message = stored.get(message_id)
            if message is None or seq < void.get(message_id, 0):
                continue
            text = message.text if kind == "token" else str(message.metadata.get("reasoning", ""))
            start = said.get((kind, message_id), 0)
            for number, length in enumerate(entry[3]):
                fields = {"message_id": message_id, "content": text[start : start + length]}
                yield RunEvent.of(run.id, run.conversation_id, seq + number, kind, fields)
                start += length
            said[(kind, message_id)] = start
        elif kind == "message":
            if (message := stored.get(entry[2])) is not None:
                yield RunEvent.of(run.id, run.conversation_id, seq, kind, {"message": message.to_wire()})
        elif kind == "tool_result":
            message = stored.get(entry[2])
            if message is not None and message.role is MessageRole.TOOL:
                yield RunEvent.of(run.id, run.conversation_id, seq, kind, tool_result_fields(message))
        else:
            yield RunEvent.of(run.id, run.conversation_id, seq, kind, entry[2])


class _Replay:
    """A feed of events that are made as they are read, and of those that a live feed has after number `after`."""

    def __init__(self, events: Iterator[RunEvent], live: IRunFeed | None, after: int) -> None:
        self._events = events
        self._next = next(events, None)
        self._live = live
        self._after = after

    def read(self, limit: int) -> list[RunEvent]:
        """The next events, at most `limit`."""
        batch: list[RunEvent] = []
        while self._next is not None and len(batch) < limit:
            batch.append(self._next)
            self._next = next(self._events, None)
        while not batch and self._live is not None and (found := self._live.read(limit)):
            batch = [event for event in found if event.seq > self._after]
        return batch

    @property
    def ended(self) -> bool:
        """Whether all of them have been read."""
        return self._next is None and (self._live is None or self._live.ended)

    def give_up(self) -> None:
        """Nothing more will come."""
        if self._live is not None:
            self._live.give_up()

    def close(self) -> None:
        """Stop listening."""
        if self._live is not None:
            self._live.close()
