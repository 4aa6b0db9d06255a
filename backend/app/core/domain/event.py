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
        run_id: the run.
    """

    __slots__ = ("_data", "_json", "run_id", "seq", "type")

    def __init__(self, seq: int, type: str, data: dict[str, Any]) -> None:  # noqa: A002 - the wire's own word
        self.seq = seq
        self.type = type
        self.run_id: str = data.get("run_id", "")
        self._data: dict[str, Any] | None = data
        self._json = b""

    @property
    def data(self) -> dict[str, Any]:
        """The whole event as a JSON object, with `type`, `run_id`, `conversation_id` and `seq`; read anew once it is compact."""
        return orjson.loads(self._json) if self._data is None else self._data

    def compact(self) -> int:
        """Keep the event as JSON alone, which takes the least memory; how many bytes it has.

        An event that cannot be written as JSON stays as it is: whoever needs its text is told why.
        """
        if self._data is not None:
            try:
                self._json = bytes(memoryview(_dump(self._data)))  # orjson's own keeps the room for more
            except (TypeError, ValueError):
                return 0
            self._data = None
        return len(self._json)

    @property
    def ends(self) -> bool:
        """Whether this is the run's last event."""
        return self.type in ENDS

    @property
    def is_notice(self) -> bool:
        """Whether it only tells how things are now: it has no number of its own and is not kept."""
        return self._data is not None and "seq" not in self._data

    @property
    def json(self) -> str:
        """The event as a JSON text."""
        return to_json(self._data) if self._data is not None else self._json.decode()

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
    return _dump(value).decode()


def _dump(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_UTC_Z)
