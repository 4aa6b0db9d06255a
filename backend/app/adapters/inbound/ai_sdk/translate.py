"""Run events as chunks of the UI message stream (the schema of the npm package `ai`, versions 6 and 7)."""

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from app.core.domain.event import RunEvent, to_json
from app.core.domain.run import OutlineEntry, Run

Chunk = dict[str, Any]

_FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
}


class Translator:
    """Translates the events of one run, in order.

    A turn is one message for the AI SDK, and each stored assistant message one step of it. The message's id is that of
    the first stored one, so that what is streamed and what is read later are the same.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._answered = run.answered_calls
        self._started = False
        self._step: str | None = None
        self._part: tuple[str, str] | None = None
        self._parts = 0
        self._previews: dict[str, str] = {}

    def begin(self, message_id: str | None) -> Iterator[Chunk]:
        """The head of the stream, where the message's id is known before its first event."""
        if message_id is not None and not self._started:
            self._started = True
            metadata = {"runId": self._run.id, "conversationId": self._run.conversation_id, "model": self._run.model}
            yield {"type": "start", "messageId": message_id, "messageMetadata": metadata}

    def chunks(self, event: RunEvent) -> Iterator[Chunk]:
        """What `event` is on this wire."""
        data = event.data
        match event.type:
            case "token" | "reasoning":
                yield from self._piece(data["message_id"], event.type, data["content"])
            case "tool_call":
                yield from self._in_step(data["message_id"])
                yield from self._end_part()
                yield from self._call(data)
            case "tool_approved" if data["executor"] == "client" and data["tool_call_id"] not in self._answered:
                yield _input_of(data)
            case "tool_progress":
                call_id = data["tool_call_id"]
                kept = {key: data[key] for key in ("progress", "total", "text") if key in data}
                # Each preliminary output takes the place of the one before it: the picture so far stays in it.
                if preview := data.get("preview") or self._previews.get(call_id):
                    kept["preview"] = self._previews[call_id] = preview
                yield {"type": "tool-output-available", "toolCallId": call_id, "output": kept, "preliminary": True}
            case "tool_result":
                yield from self._result(data)
            case "message" if data["message"]["role"] == "assistant":
                yield from self._in_step(data["message"]["id"])
                yield from self._end_part()
            case "reset":
                yield from self._end_part()
                yield {"type": "data-reset", "data": {"messageId": data["message_id"]}, "transient": True}
            case "waiting_for_storage" | "suspended" as state:
                yield {
                    "type": "data-storage",
                    "data": {"state": state, "message": data["message"]},
                    "transient": True,
                }
            case "complete":
                metadata = {"usage": data["usage"]} if data.get("usage") else {}
                yield from self._finish(_FINISH_REASONS.get(data["finish_reason"], "other"), metadata)
            case "cancelled":
                yield from self._end_step()
                yield {"type": "abort"}
            case "error":
                yield from self._end_step()
                yield {"type": "error", "errorText": data["message"]}
            case _:
                return

    def waits(self) -> Iterator[Chunk]:
        """The stream ends here, because the client has to do something: its request brings what is missing."""
        yield from self._finish("tool-calls", {})

    def _piece(self, message_id: str, kind: str, content: str) -> Iterator[Chunk]:
        yield from self._in_step(message_id)
        name = "text" if kind == "token" else "reasoning"
        if self._part is None or self._part[0] != name:
            yield from self._end_part()
            self._parts += 1
            self._part = (name, f"{message_id}-{self._parts}")
            yield {"type": f"{name}-start", "id": self._part[1]}
        yield {"type": f"{name}-delta", "id": self._part[1], "delta": content}

    def _call(self, data: dict[str, Any]) -> Iterator[Chunk]:
        """A call. Clients run their tools on `tool-input-available`, so that is sent only for calls that may run now."""
        call_id = data["tool_call_id"]
        needs_approval = data["needs_approval"]
        if data["executor"] == "client" and (needs_approval or call_id in self._answered):
            yield {"type": "tool-input-start", "toolCallId": call_id, "toolName": data["name"]}
            yield {"type": "tool-input-delta", "toolCallId": call_id, "inputTextDelta": to_json(data["arguments"])}
        else:
            yield _input_of(data)
        if needs_approval:
            yield {"type": "tool-approval-request", "approvalId": call_id, "toolCallId": call_id}

    def _result(self, data: dict[str, Any]) -> Iterator[Chunk]:
        call_id = data["tool_call_id"]
        if data.get("denied"):
            yield {"type": "tool-output-denied", "toolCallId": call_id}
        elif data["is_error"]:
            yield {"type": "tool-output-error", "toolCallId": call_id, "errorText": _text(data["content"])}
        else:
            yield {"type": "tool-output-available", "toolCallId": call_id, "output": _value(data["content"])}
        for artifact in data.get("artifacts", ()):
            yield {"type": "file", "url": artifact["url"], "mediaType": artifact["media_type"]}

    def _in_step(self, message_id: str) -> Iterator[Chunk]:
        yield from self.begin(message_id)
        if self._step != message_id:
            yield from self._end_step()
            self._step = message_id
            yield {"type": "start-step"}

    def _end_part(self) -> Iterator[Chunk]:
        if self._part is not None:
            name, part_id = self._part
            self._part = None
            yield {"type": f"{name}-end", "id": part_id}

    def _end_step(self) -> Iterator[Chunk]:
        yield from self._end_part()
        if self._step is not None:
            self._step = None
            yield {"type": "finish-step"}

    def _finish(self, reason: str, metadata: dict[str, Any]) -> Iterator[Chunk]:
        yield from self._end_step()
        yield {"type": "finish", "finishReason": reason, **({"messageMetadata": metadata} if metadata else {})}


def without_void(events: Sequence[RunEvent]) -> list[RunEvent]:
    """`events` without the pieces that a later one of them makes void.

    This wire cannot take pieces back, so who takes a turn up again should not be told those of a step that began anew.
    """
    resets = {event.data["message_id"]: event.seq for event in events if event.type == "reset"}
    if not resets:
        return list(events)
    return [
        event
        for event in events
        if event.type not in ("token", "reasoning") or event.seq > resets.get(event.data["message_id"], 0)
    ]


def first_answer(outline: Sequence[OutlineEntry]) -> str | None:
    """The id of the first assistant message that a run told of."""
    for entry in outline:
        kind, what = entry[1], entry[2]
        if kind in ("token", "reasoning"):
            return what
        if kind == "tool_call":
            return what["message_id"]
    return None


def _input_of(call: dict[str, Any]) -> Chunk:
    return {
        "type": "tool-input-available",
        "toolCallId": call["tool_call_id"],
        "toolName": call["name"],
        "input": call["arguments"],
    }


def _text(content: Any) -> str:
    return content if isinstance(content, str) else orjson.dumps(content).decode()


def _value(content: Any) -> Any:
    """A tool's output: JSON objects and lists as such, everything else as it stands."""
    if isinstance(content, str) and content[:1] in ("{", "["):
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError:
            return content
    return content
