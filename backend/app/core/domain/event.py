"""Run events: what happens in a run, numbered without a gap, the source of every client's stream."""

from typing import Any, Final

import orjson

ENDS: Final = frozenset({"complete", "cancelled", "error"})
"""The types of event that end a run."""

WAITING_FOR_STORAGE: Final = "waiting_for_storage"
"""The notice that a finished step waits for the store."""

SUSPENDED: Final = "suspended"
"""The notice that the service gave up waiting for the store: the run is resumed when that is back."""


class RunEvent:
    """One event of a run.

    Attributes:
        seq: its number in the run, from 1.
        type: `accepted`, `started`, `token`, … (docs/protocol.md).
        data: the whole event as a JSON object, with `type`, `run_id`, `conversation_id` and `seq`.
    """

    __slots__ = ("_json", "data", "seq", "type")

    def __init__(self, seq: int, type: str, data: dict[str, Any]) -> None:  # noqa: A002 - the wire's own word
        self.seq = seq
        self.type = type
        self.data = data
        self._json: str | None = None

    @property
    def ends(self) -> bool:
        """Whether this is the run's last event."""
        return self.type in ENDS

    @property
    def is_notice(self) -> bool:
        """Whether it only tells how things are now: it has no number of its own and is not kept."""
        return "seq" not in self.data

    @property
    def json(self) -> str:
        """The event as a JSON text, made once and shared by all who send it."""
        if self._json is None:
            self._json = to_json(self.data)
        return self._json

    @classmethod
    def notice(cls, run_id: str, conversation_id: str, after: int, type: str, fields: dict[str, Any]) -> "RunEvent":  # noqa: A002
        """A notice of `type`, told behind event number `after`."""
        return cls(after, type, {"type": type, "run_id": run_id, "conversation_id": conversation_id, **fields})

    @classmethod
    def of(cls, run_id: str, conversation_id: str, seq: int, type: str, fields: dict[str, Any]) -> "RunEvent":  # noqa: A002
        """The event of `type` with `fields` beside the ones that every event has."""
        data = {"type": type, "run_id": run_id, "conversation_id": conversation_id, "seq": seq}
        data.update(fields)
        return cls(seq, type, data)


def to_json(value: Any) -> str:
    """`value` as JSON text: UTF-8, times in ISO 8601 with `Z`."""
    return orjson.dumps(value, option=orjson.OPT_UTC_Z).decode()
