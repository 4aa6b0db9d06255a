"""A run while a process drives it, or while it waits there for its turn."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from app.core.domain.tool import ApprovalPolicy
from app.core.services.answers import Answer
from app.core.services.turn import TurnRecorder


class Begin(Enum):
    """How a process comes to drive a run."""

    FRESH = auto()
    AFTER_A_CRASH = auto()
    WITH_AN_ANSWER = auto()


@dataclass(slots=True)
class Driven:
    """A run that this process drives, or that waits here for its turn.

    Attributes:
        ready: set once it is known which calls are open.
        gate: held while an answer to an open call is stored, and while it is decided whether the run has to wait.
        answers: answers that came with the run.
    """

    recorder: TurnRecorder
    task: asyncio.Task[None] | None = None
    cancelling: bool = False
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Lock = field(default_factory=asyncio.Lock)
    answers: list[Answer] = field(default_factory=list[Answer])
    policy: ApprovalPolicy = field(default_factory=lambda: ApprovalPolicy({}, {}))
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
