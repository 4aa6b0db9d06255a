"""A conversation as it is stored, with everything that belongs to it: what the checker reads, and what a repair starts from."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from app.core.domain.conversation import Conversation, branch_to, clip_spans
from app.core.domain.message import Message
from app.core.domain.run import Run, RunStatus
from app.core.ports import Store

BLOCK = 1_000


@dataclass(slots=True)
class Stored:
    """A conversation, all its messages in order of `seq`, its runs, and the places of those that wait in its queue."""

    conversation: Conversation
    messages: Sequence[Message]
    runs: Sequence[Run]
    places: Mapping[str, int] = field(default_factory=dict[str, int])
    by_id: dict[str, Message] = field(init=False)
    _seqs: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.by_id = {message.id: message for message in self.messages}
        self._seqs = [message.seq or 0 for message in self.messages]

    def with_messages(self, added: Sequence[Message]) -> "Stored":
        """The same with more messages."""
        messages = sorted([*self.messages, *added], key=lambda message: message.seq or 0)
        return Stored(self.conversation, messages, self.runs, self.places)

    @property
    def begun(self) -> list[Run]:
        """The runs that have begun and not ended."""
        return [run for run in self.runs if run.status in (RunStatus.RUNNING, RunStatus.WAITING)]

    @property
    def active_branch(self) -> list[Message]:
        """The messages of the active branch."""
        return self._between(clip_spans(self.conversation.spans))

    @property
    def branches(self) -> Iterator[list[Message]]:
        """Every branch of the tree, from the first message to a leaf."""
        parents = {message.parent_id for message in self.messages}
        for message in self.messages:
            if message.id not in parents:
                yield self._between(branch_to(self.conversation.forks, message.seq or 0))

    def before(self, seq: int) -> Message | None:
        """The message before number `seq` on its branch."""
        for first, last in reversed(branch_to(self.conversation.forks, seq)):
            place = bisect_right(self._seqs, min(last, seq - 1)) - 1
            if place >= 0 and self._seqs[place] >= first:
                return self.messages[place]
        return None

    def has_right_parent(self, message: Message) -> bool:
        """Whether a message names the one before it on its branch; one that names none may be the first anywhere."""
        if message.parent_id is None:
            return True
        parent = self.by_id.get(message.parent_id)
        return parent is not None and self.before(message.seq or 0) is parent

    def _between(self, spans: Sequence[tuple[int, int]]) -> list[Message]:
        return [m for m in self.messages if any(first <= (m.seq or 0) <= last for first, last in spans)]


async def read_stored(store: Store, conversation: Conversation) -> Stored:
    """Everything that is stored of a conversation."""
    runs = await store.runs.of_conversation(conversation.id)
    places = await store.runs.places(conversation.id)
    messages: list[Message] = []
    while block := await store.messages.all(
        conversation.id, limit=BLOCK, after=(messages[-1].seq or 0) if messages else 0
    ):
        messages += block
    return Stored(conversation, messages, runs, places)
