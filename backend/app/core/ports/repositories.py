"""What the application asks of a store. Every adapter passes the same contract tests."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from app.core.domain.conversation import Conversation
from app.core.domain.message import Message
from app.core.domain.run import OnBusy, Run, RunState
from app.core.ports.sessions import ISessionRepository
from app.core.ports.usage import IUsageRepository
from app.core.ports.workshop import ISkillRepository, IWorkflowDocuments


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of one process to drive a run, until it expires."""

    owner: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Place:
    """A message as the end of a branch: its `seq` and its id; 0 and None before the first one."""

    seq: int
    message_id: str | None


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A turn that somebody asks for.

    Attributes:
        run: the run to make; its `conversation_id` names the conversation.
        message: the user message that begins it; None where one that is stored is answered again.
        create: the conversation to make for it where there is none of that id; None where it must exist.
        anywhere: no conversation was named, so the same message in any conversation of the user is the same message.
        keep_model: whether the conversation goes on with the run's model, because the user named it.
        go_on_from: the message that the turn goes on from, where that is not the end of the active branch; a new
            branch begins there. Such a turn is not queued: `on_busy` is `reject`.
    """

    run: Run
    message: Message | None
    on_busy: OnBusy
    lease: Lease
    create: Conversation | None = None
    anywhere: bool = False
    keep_model: bool = False
    go_on_from: Place | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of an `Acceptance`, or a queued run whose turn has come.

    Attributes:
        run: the run; `queued` where it waits, `running` where this process holds its lease.
        conversation: the conversation as it is now.
        message: the stored user message that begins the run; None where it has none, or was begun before.
        is_new: False where the same message had been accepted before; `run` is then the first run.
        resumes: True where another process had begun the run.
    """

    run: Run
    conversation: Conversation
    message: Message | None = None
    is_new: bool = True
    resumes: bool = False


@dataclass(slots=True)
class Step:
    """What a run has to store at once: finished messages and the run as it stands after them.

    The messages get their `seq` and `parent_id` from the store. A run that has ended or waits gives its lease back.
    """

    run: Run
    owner: str
    messages: Sequence[Message] = field(default_factory=tuple[Message, ...])


@dataclass(frozen=True, slots=True)
class Amendment:
    """What a repair changes in a conversation, all of it or nothing.

    Attributes:
        read: the conversation as the repair read it; where it has changed since, nothing is amended.
        added: messages to store at the free places that their `seq` names.
        parents: new parents of messages, by the messages' ids.
        runs: runs whose status, error, end or outline is new.
        places: new places in the queue, by the runs' ids; None takes a run out of the queue.
    """

    read: Conversation
    head_message_id: str | None
    message_count: int
    last_seq: int
    active_run_id: str | None
    added: Sequence[Message] = field(default_factory=tuple[Message, ...])
    parents: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    runs: Sequence[Run] = field(default_factory=tuple[Run, ...])
    places: Mapping[str, int | None] = field(default_factory=dict[str, int | None])


@dataclass(frozen=True, slots=True)
class ConversationPage:
    """Some conversations, newest activity first, and where to go on."""

    items: list[Conversation]
    next_cursor: str | None


class IMessageRepository(Protocol):
    """The messages of conversations."""

    async def create(self, message: Message) -> Message:
        """Append `message` to the active branch of its conversation; the same id twice stores it once.

        Raises:
            NotFound: there is no such conversation.
        """
        ...

    async def get_by_conversation_id(self, conversation_id: str) -> list[Message]:
        """The active branch, whole, oldest first."""
        ...

    async def get_many(self, conversation_id: str, message_ids: Sequence[str]) -> list[Message]:
        """Those of the messages that exist, on whatever branch they are, in order of `seq`."""
        ...

    async def page(
        self, conversation: Conversation, *, limit: int, before: int | None = None, after: int | None = None
    ) -> list[Message]:
        """At most `limit` messages of the active branch of `conversation` as it was read, oldest first.

        With `after` the first ones whose `seq` is greater, else the last ones (whose `seq` is smaller than `before`).
        """
        ...

    async def all(self, conversation_id: str, *, limit: int, after: int = 0) -> list[Message]:
        """At most `limit` messages of all branches, in order of `seq`, from the first whose `seq` is greater than `after`."""
        ...


class IConversationRepository(Protocol):
    """Conversations. Each belongs to a user, and nobody else can find it."""

    async def create(self, conversation: Conversation) -> Conversation:
        """Store a new, empty conversation.

        Raises:
            NotFound: the id is taken (by whom is not said).
        """
        ...

    async def get(self, conversation_id: str, user_id: str) -> Conversation | None:
        """The conversation, if `user_id` owns it."""
        ...

    async def list(
        self, user_id: str, *, limit: int, cursor: str | None = None, q: str | None = None, archived: bool | None = None
    ) -> ConversationPage:
        """A user's conversations, newest activity first.

        With `q` only those whose title, or the text of one of whose messages, has for each word of `q` a word
        that begins with it; upper and lower case are one (core/domain/search.py).

        Raises:
            InvalidFrame: `cursor` is not one that this service gave out, or `q` has too few letters or too many words.
            SearchTooBroad: `q` matches too much to look through in time.
        """
        ...

    async def update(self, conversation_id: str, user_id: str, changes: dict[str, Any]) -> Conversation | None:
        """Set some of `title, model, system_prompt, archived, pinned, tool_approval, model_options`; None where there is no such conversation."""
        ...

    async def delete(self, conversation_id: str, user_id: str) -> bool:
        """Delete it with its messages and runs; False where there is no such conversation."""
        ...

    async def increment_message_count(self, conversation_id: str, n: int) -> None:
        """Add `n` to the number of messages that `create` of the messages' repository does not count."""
        ...

    async def move(self, conversation_id: str, user_id: str, head: Place) -> Conversation | None:
        """Make the branch that ends in `head` the active one; None where there is no such conversation.

        Raises:
            ConversationBusy: it has a run that has not ended.
        """
        ...

    async def ids(self, *, limit: int, after: str = "") -> Sequence[tuple[str, str]]:
        """At most `limit` conversations of all users, in order of their ids: `(id, user_id)` each."""
        ...

    async def amend(self, amendment: Amendment) -> bool:
        """Repair a conversation; False where it has changed since it was read, or is being answered."""
        ...

    async def restore(self, conversation: Conversation, messages: Sequence[Message]) -> Conversation:
        """Store a conversation with its messages at once, or nothing of it; a conversation id that is taken is replaced.

        The messages have `seq` and `parent_id`, rise in `seq`, and their ids are unique.
        """
        ...


class IRunRepository(Protocol):
    """Runs, the queue of each conversation, and the lease that lets one process drive a conversation."""

    async def accept(self, acceptance: Acceptance) -> Accepted:
        """Store the user message and its run, and take the conversation's lease; or queue the run behind another.

        The same message again, with the same id and content, changes nothing and gives the first run.

        Raises:
            NotFound: there is no such conversation for this user.
            MessageConflict: another message has the id, in this conversation or, with `anywhere`, in any of the user's.
            ConversationBusy: it has a run, and `on_busy` is `reject`.
        """
        ...

    async def promote(self, conversation_id: str, lease: Lease) -> Accepted | None:
        """Begin the next queued run of a conversation that has none: store its user message and take the lease.

        The message of a queued run that was cancelled is stored too, and its turn passed over.
        """
        ...

    async def commit(self, step: Step) -> bool:
        """Store a step, all of it or nothing; storing a message again under its id changes nothing.

        Returns:
            Whether the run has ended and another one is queued behind it.

        Raises:
            LeaseLost: another process owns the conversation now.
        """
        ...

    async def get(self, run_id: str, user_id: str) -> Run | None:
        """The run, if `user_id` owns it."""
        ...

    async def of_conversation(self, conversation_id: str) -> Sequence[Run]:
        """All runs of a conversation, oldest first."""
        ...

    async def places(self, conversation_id: str) -> Mapping[str, int]:
        """The places of the runs in a conversation's queue, by the runs' ids."""
        ...

    async def answering(self, conversation_id: str, message_ids: Sequence[str]) -> Sequence[RunState]:
        """The runs that answer these user messages, oldest first: those that began with them, and those that answered again."""
        ...

    async def take(self, run_id: str, user_id: str, lease: Lease) -> Accepted | None:
        """Take the lease of a run that waits, and make it run; None where it does not wait (any more)."""
        ...

    async def cancel_queued(self, run_id: str, user_id: str) -> Run | None:
        """End a run that is still queued as `cancelled`; None where it is not queued (any more)."""
        ...

    async def renew(self, lease: Lease, conversation_ids: Sequence[str]) -> None:
        """Prolong the leases of conversations that `lease.owner` holds."""
        ...

    async def claim(self, lease: Lease, *, now: datetime, driven: Collection[str] = ()) -> list[Accepted]:
        """Take over every run whose lease has expired, and begin the runs whose turn has come.

        In a store that one process has to itself, the lease of any other owner counts as expired. The conversations
        `driven` are left alone: this process drives them, however late it is with renewing. A conversation that
        cannot be taken over is logged, counted and skipped.

        Each takeover is counted in the run; a step that is stored with `takeovers` 0 begins the count again.

        Raises:
            StorageUnavailable: the store itself cannot be used now.
        """
        ...


class Store(Protocol):
    """A store that is open: its repositories, and what start, health checks and shutdown need."""

    @property
    def conversations(self) -> IConversationRepository:
        """Conversations."""
        ...

    @property
    def messages(self) -> IMessageRepository:
        """Messages."""
        ...

    @property
    def runs(self) -> IRunRepository:
        """Runs."""
        ...

    @property
    def usage(self) -> IUsageRepository:
        """Sums of tokens."""
        ...

    @property
    def workflows(self) -> IWorkflowDocuments:
        """The workflows that are being built."""
        ...

    @property
    def skills(self) -> ISkillRepository:
        """Skills."""
        ...

    @property
    def sessions(self) -> ISessionRepository:
        """Browser sessions."""
        ...

    async def ping(self) -> None:
        """Answer if the store can be read and written.

        Raises:
            StorageUnavailable: it cannot.
        """
        ...

    async def faults(self) -> Sequence[str]:
        """What is wrong with the files of the store, where it has some of its own: a sentence for each finding."""
        ...

    async def close(self) -> None:
        """Finish what is being written, and let go of files and connections."""
        ...
