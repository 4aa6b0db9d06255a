"""What the application asks of an agent: to carry a turn from where its history stands to its end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from app.core.domain.message import Message
from app.core.domain.tool import ApprovalPolicy, CallTraits
from app.core.ports.llm import IAnswerSink


class ITurnRecorder(IAnswerSink, Protocol):
    """What an agent reports of a turn. Whatever it reports as finished is stored when the call returns."""

    def begin_answer(self) -> str:
        """A new assistant message begins; its id, under which its pieces are sent."""
        ...

    async def calls_tools(self, message: Message, traits: Mapping[str, CallTraits]) -> None:
        """The assistant message is finished and calls tools; `traits` tell of each call by its id where it runs."""
        ...

    def tool_progress(self, tool_call_id: str, **progress: Any) -> None:
        """A tool says how far it is: `progress`, `total`, `text`, `preview`."""
        ...

    async def tool_finished(self, message: Message) -> None:
        """A tool has answered; `message` is its TOOL message."""
        ...

    async def close(self, messages: Sequence[Message]) -> None:
        """The turn is over: store what is not stored yet, and the end of the run."""
        ...


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn to run.

    Attributes:
        history: what the model is to see, oldest first, every call with its result; ends with the message to go on from.
        client_tools: the tools that the user's client can run; the model is offered them beside the agent's own.
        approvals: for calls by id, whether the user agreed: `{"approved": bool, "reason": …}`.
        policy: which tools need approval.
        has_skills: whether the user keeps skills.
        options: how the model is to answer, in the words of OpenAI's chat completions.
        budget: tokens that the model may be sent; tool results are shortened to fit. None where nothing is shortened.
    """

    run_id: str
    conversation_id: str
    user_id: str
    model: str
    history: Sequence[Message]
    client_tools: Sequence[str] = ()
    approvals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    policy: ApprovalPolicy = field(default_factory=lambda: ApprovalPolicy({}, {}))
    has_skills: bool = False
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    budget: int | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """What the next call of a model would send.

    Attributes:
        messages, tools: in OpenAI's form, whatever the provider.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]


class IAgent(Protocol):
    """Runs turns."""

    async def run(self, turn: Turn, recorder: ITurnRecorder) -> None:
        """Run `turn` and report all of it to `recorder`: to its end, or to calls that wait for the user or their client.

        Raises:
            AtelierError: the turn cannot come to an answer; what was reported as finished stays.
        """
        ...

    async def preview(self, turn: Turn) -> Preview:
        """What the first call of `turn` would send."""
        ...
