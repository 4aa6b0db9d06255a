"""A run: one turn of the agent on one conversation, from its acceptance to its end."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field

from app.core.domain.ids import new_id
from app.core.domain.message import Message, MessageRole
from app.core.domain.time import utc_now

OutlineEntry = list[Any]
"""One or more events of a run in short: `[seq of the first, type, …]`."""


class RunStatus(StrEnum):
    """Where a run stands. `queued` waits behind another run of its conversation."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing can happen in the run any more."""
        return self in (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED)


class OnBusy(StrEnum):
    """What becomes of a message whose conversation has a run already."""

    REJECT = "reject"
    QUEUE = "queue"
    INTERRUPT = "interrupt"


class RunState(BaseModel):
    """How far a run is and how it ended, without its events: what a list of messages shows of it.

    Attributes:
        message_id: the user message that the run answers.
        last_message_id: the last assistant message that the run stored.
    """

    id: str
    message_id: str
    status: RunStatus
    model: str
    last_message_id: str | None = None
    error: dict[str, Any] | None = None
    created_at: datetime
    ended_at: datetime | None = None

    def to_wire(self) -> dict[str, Any]:
        """The state as every JSON surface shows it."""
        return {
            "id": self.id,
            "status": self.status.value,
            "model": self.model,
            "last_message_id": self.last_message_id,
            "error": self.error,
            "created_at": self.created_at,
            "ended_at": self.ended_at,
        }


class Run(BaseModel):
    """A run and how it ended.

    Attributes:
        model: `provider@model`, resolved when the run was accepted.
        message_id: the user message that began it; with the owner, the key that makes sending idempotent.
        input_id: the user message that is answered, where the run has none of its own (it answers one again).
        client_tools: the tools that the client that began the run can run.
        approvals: for calls by id, whether the user agreed, and why not: `{"approved": bool, "reason": str | None}`.
        request: the options of the turn, such as its skill; and the user message's content until the message is stored.
        takeovers: how often the run was taken over since its last stored step.
        answer_id: the id that the next assistant message will be stored under, known before it is written,
            so that a process that takes over can void what was streamed under it.
        last_seq: the number of the run's last event when it was last stored.
        outline: the run's events without what the stored messages say anyway (core/services/replay.py), so that
            they can be told again, number for number, when the log no longer has them.
    """

    id: str = Field(default_factory=new_id)
    conversation_id: str
    user_id: str
    status: RunStatus = RunStatus.RUNNING
    model: str
    message_id: str
    input_id: str | None = None
    client_tools: list[str] = Field(default_factory=list[str])
    approvals: dict[str, dict[str, Any]] = Field(default_factory=dict[str, dict[str, Any]])
    answer_id: str = Field(default_factory=new_id)
    request: dict[str, Any] = Field(default_factory=dict[str, Any])
    takeovers: int = 0
    last_message_id: str | None = None
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    last_seq: int = 0
    outline: list[OutlineEntry] = Field(default_factory=list[OutlineEntry])
    created_at: datetime = Field(default_factory=utc_now)
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def user_message_id(self) -> str:
        """The user message that the run answers."""
        return self.input_id or self.message_id

    @property
    def state(self) -> RunState:
        """The run without its events."""
        return RunState(
            id=self.id,
            message_id=self.user_message_id,
            status=self.status,
            model=self.model,
            last_message_id=self.last_message_id,
            error=self.error,
            created_at=self.created_at,
            ended_at=self.ended_at,
        )

    @property
    def was_queued(self) -> bool:
        """Whether it was accepted behind another run, as its first event says."""
        return bool(self.outline) and bool(self.outline[0][2].get("queued"))

    @property
    def approval_states(self) -> dict[str, str]:
        """The calls that need the user's approval, by id: `pending`, `approved` or `refused`."""
        return {
            call["tool_call_id"]: _approval_state(self.approvals.get(call["tool_call_id"]))
            for call in self._told_calls()
            if call["needs_approval"]
        }

    @property
    def answered_calls(self) -> set[str]:
        """The ids of the calls that have a result."""
        return {entry[3] for entry in self.outline if entry[1] == "tool_result" and len(entry) > 3}

    def was_told_to_need_approval(self, call_id: str) -> bool | None:
        """Whether the `tool_call` event said that the call needs approval; None if there is no such event yet."""
        return next((call["needs_approval"] for call in self._told_calls() if call["tool_call_id"] == call_id), None)

    def _told_calls(self) -> Iterator[dict[str, Any]]:
        return (entry[2] for entry in self.outline if entry[1] == "tool_call")

    @property
    def turn_options(self) -> dict[str, Any]:
        """The request without the content, which the stored user message has."""
        return {key: value for key, value in self.request.items() if key != "content"}

    def user_message(self) -> Message:
        """The user message of a run that was queued, to be stored when its turn comes."""
        return Message(
            id=self.message_id,
            conversation_id=self.conversation_id,
            role=MessageRole.USER,
            content=self.request["content"],
            metadata={"skill": self.request["skill"]} if "skill" in self.request else {},
            created_at=self.created_at,
        )

    def enqueue(self) -> None:
        """The run is accepted, and waits behind another."""
        self.status = RunStatus.QUEUED
        self._note("accepted", {"message_id": self.user_message_id, "queued": True})

    def begin(self, message: Message | None) -> None:
        """The run's turn begins; `message` is the user message that begins it, where it has one of its own.

        Its first events are the same whoever tells them, so they stand in the outline before anybody does.
        """
        self.status, self.started_at = RunStatus.RUNNING, utc_now()
        if not self.outline:
            self._note("accepted", {"message_id": self.user_message_id, "queued": False})
        self._note("started", {"model": self.model})
        if message is not None:
            self._note("message", message.id)

    def cancel_in_queue(self) -> None:
        """The run ends before its turn came."""
        self.status, self.ended_at = RunStatus.CANCELLED, utc_now()
        self._note("cancelled", {})

    def _note(self, kind: str, what: Any) -> None:
        self.last_seq += 1
        self.outline.append([self.last_seq, kind, what])

    def to_wire(self) -> dict[str, Any]:
        """The run as every JSON surface shows it."""
        return {
            "id": self.id,
            "conversation_id": self.conversation_id,
            "status": self.status.value,
            "model": self.model,
            "message_id": self.user_message_id,
            "last_message_id": self.last_message_id,
            "client_tools": self.client_tools,
            "approvals": self.approval_states,
            "finish_reason": self.finish_reason,
            "usage": self.usage,
            "error": self.error,
            "created_at": self.created_at,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
        }


def _approval_state(said: Mapping[str, Any] | None) -> str:
    if said is None:
        return "pending"
    return "approved" if said["approved"] else "refused"
