"""Conversations and their history: find, change, delete, take away and bring back."""

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from app.core.domain.conversation import (
    Conversation,
    Fork,
    Span,
    clip_spans,
    existing,
    go_on_from,
    newest_stretch_behind,
    title_from,
)
from app.core.domain.errors import InvalidFrame, NotFound
from app.core.domain.event import to_json
from app.core.domain.graph import WorkflowDocument
from app.core.domain.ids import is_client_id, new_id
from app.core.domain.message import Message, MessageRole
from app.core.domain.run import RunState, RunStatus
from app.core.domain.user import User
from app.core.ports import ConversationPage, IModelCatalog, Place, Store
from app.core.services.model_choice import next_model

EXPORT_FORMAT = "atelier.conversation/1"
MAX_IMPORT_MESSAGES = 10_000
_BLOCK = 500
_SCRATCH = uuid.UUID("0d7f6a52-6f0f-5f6e-9a1c-1f6c0d3f7b10")
SCRATCH_TITLE = "Workflow of my programs"


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Some messages of the active branch, oldest first.

    Attributes:
        next_cursor: the `seq` to go on from in the same direction; None at the end.
        siblings: for messages by id that have others in their place on other branches, how many stand there.
        runs: for user messages by id that have no complete answer on this branch, the run that was to answer them.
    """

    items: Sequence[Message]
    next_cursor: int | None
    siblings: Mapping[str, int]
    runs: Mapping[str, RunState]


class HistoryService:
    """What a user does with conversations that are not being answered."""

    def __init__(self, store: Store, catalog: IModelCatalog) -> None:
        self._store = store
        self._catalog = catalog

    async def create(
        self, user: User, *, title: str | None = None, model: str | None = None, system_prompt: str | None = None
    ) -> Conversation:
        """A new, empty conversation.

        Raises:
            UnknownModel, ProviderNotConfigured: `model` cannot be asked here.
        """
        if model is not None:
            self._catalog.check(model)
        conversation = Conversation(user_id=user.id, title=title, model=model, system_prompt=system_prompt)
        return await self._store.conversations.create(conversation)

    async def scratch(self, user_id: str) -> str:
        """The id of the conversation whose workflow a user's programs build; made where it is missing."""
        made_id = str(uuid.uuid5(_SCRATCH, user_id))
        if await self._store.conversations.get(made_id, user_id) is None:
            await self._store.conversations.create(Conversation(id=made_id, user_id=user_id, title=SCRATCH_TITLE))
        return made_id

    async def get(self, user: User, conversation_id: str) -> Conversation:
        """A conversation of this user.

        Raises:
            NotFound: the user has no such conversation.
        """
        return existing(await self._store.conversations.get(conversation_id, user.id))

    def next_model(self, conversation: Conversation) -> str:
        """The model that answers next in a conversation, where the message names none."""
        return next_model(self._catalog, conversation)

    async def list(
        self, user: User, *, limit: int, cursor: str | None, q: str | None, archived: bool | None
    ) -> ConversationPage:
        """The user's conversations, newest activity first; with `q` those in which its words occur.

        Raises:
            InvalidFrame: `cursor` is not one of ours.
        """
        return await self._store.conversations.list(user.id, limit=limit, cursor=cursor, q=q, archived=archived)

    async def update(self, user: User, conversation_id: str, changes: dict[str, Any]) -> Conversation:
        """Change title, model, system prompt, archived or pinned.

        Raises:
            NotFound, UnknownModel, ProviderNotConfigured.
        """
        if changes.get("model") is not None:
            self._catalog.check(changes["model"])
        return existing(await self._store.conversations.update(conversation_id, user.id, changes))

    async def delete(self, user: User, conversation_id: str) -> None:
        """Delete a conversation with everything in it.

        Raises:
            NotFound: the user has no such conversation.
        """
        if not await self._store.conversations.delete(conversation_id, user.id):
            raise NotFound("There is no such conversation.")

    async def messages(
        self, user: User, conversation_id: str, *, limit: int, before: int | None, after: int | None
    ) -> HistoryPage:
        """A page of the active branch, oldest first.

        Raises:
            NotFound: the user has no such conversation.
        """
        conversation = await self.get(user, conversation_id)
        found = await self._store.messages.page(conversation, limit=limit + 1, before=before, after=after)
        if len(found) <= limit:
            siblings = _siblings(conversation, found, is_first=after is None)
            return HistoryPage(found, None, siblings, await self.unanswered(conversation, found))
        page = found[1:] if after is None else found[:-1]
        siblings = _siblings(conversation, found if after is None else page)
        cursor = page[0].seq if after is None else page[-1].seq
        return HistoryPage(page, cursor, siblings, await self.unanswered(conversation, page))

    async def unanswered(self, conversation: Conversation, messages: Sequence[Message]) -> Mapping[str, RunState]:
        """For user messages by id whose newest run on the active branch has not completed, that run.

        Args:
            messages: a stretch of the active branch.
        """
        asked = [message.id for message in messages if message.role is MessageRole.USER]
        if not asked:
            return {}
        runs = await self._store.runs.answering(conversation.id, asked)
        if all(run.status is RunStatus.COMPLETED for run in runs):
            return {}
        on_branch = await self._runs_on_branch(conversation, messages, runs)
        newest = {run.message_id: run for run in on_branch}
        return {key: run for key, run in newest.items() if run.status is not RunStatus.COMPLETED}

    async def _runs_on_branch(
        self, conversation: Conversation, messages: Sequence[Message], runs: Sequence[RunState]
    ) -> Sequence[RunState]:
        """Those of `runs` that belong to the active branch: what they stored is on it, or nothing else answers in their place."""
        ids = [run.last_message_id for run in runs if run.last_message_id is not None]
        stored = await self._store.messages.get_many(conversation.id, ids) if ids else []
        spans = clip_spans(conversation.spans)
        shown = {m.id for m in stored if any(first <= (m.seq or 0) <= last for first, last in spans)}
        last = messages[-1]
        behind = await self._store.messages.page(conversation, limit=1, after=last.seq)
        answered = {
            message.id
            for message, following in pairwise([*messages, *behind])
            if following.role is not MessageRole.USER
        }
        return [
            run
            for run in runs
            if (run.last_message_id in shown if run.last_message_id else run.message_id not in answered)
        ]

    async def has_message(self, user: User, conversation_id: str, message_id: str) -> bool:
        """Whether the user has such a conversation with such a message."""
        if await self._store.conversations.get(conversation_id, user.id) is None:
            return False
        return bool(await self._store.messages.get_many(conversation_id, [message_id]))

    async def message(self, user: User, conversation_id: str, message_id: str) -> Message:
        """One message, on whatever branch it is.

        Raises:
            NotFound: there is no such message.
        """
        _, message = await self._message(user, conversation_id, message_id)
        return message

    async def siblings(self, user: User, conversation_id: str, message_id: str) -> Sequence[Message]:
        """The messages that have the same parent as a message, itself among them, in order.

        Raises:
            NotFound: there is no such message.
        """
        conversation, message = await self._message(user, conversation_id, message_id)
        parent = 0
        if message.parent_id is not None:
            found = await self._store.messages.get_many(conversation_id, [message.parent_id])
            parent = (found[0].seq or 0) if found else 0
        starts = [start for start, behind in conversation.forks if behind == parent]
        spans: list[Span] = sorted({(seq, seq) for seq in (parent + 1, message.seq or 0, *starts)})
        places = conversation.model_copy(update={"spans": spans})
        candidates = await self._store.messages.page(places, limit=len(spans))
        return [candidate for candidate in candidates if candidate.parent_id == message.parent_id]

    async def switch(self, user: User, conversation_id: str, message_id: str) -> Conversation:
        """Make the newest branch that goes through a message the active one.

        Raises:
            NotFound: there is no such message.
            ConversationBusy: the conversation is being answered.
        """
        conversation, message = await self._message(user, conversation_id, message_id)
        stretch = newest_stretch_behind(conversation, message.seq or 0)
        tail = conversation.model_copy(update={"spans": [stretch]})
        found = await self._store.messages.page(tail, limit=1)
        last = found[-1] if found else message
        return existing(await self._store.conversations.move(conversation_id, user.id, Place(last.seq or 0, last.id)))

    async def _message(self, user: User, conversation_id: str, message_id: str) -> tuple[Conversation, Message]:
        conversation = await self.get(user, conversation_id)
        found = await self._store.messages.get_many(conversation_id, [message_id])
        if not found:
            raise NotFound("There is no such message in the conversation.")
        return conversation, found[0]

    async def export_json(self, conversation: Conversation) -> AsyncIterator[str]:
        """The conversation with all its branches, its workflow and its summary as one JSON document, in pieces."""
        head = {**conversation.to_wire(), "head_message_id": conversation.head_message_id, "active_run_id": None}
        if conversation.summary is not None:
            head["summary"] = conversation.summary.model_dump()
        yield f'{{"format":{to_json(EXPORT_FORMAT)},"conversation":{to_json(head)},"messages":['
        after, separator = 0, ""
        while block := await self._store.messages.all(conversation.id, limit=_BLOCK, after=after):
            yield separator + ",".join(to_json(message.to_wire()) for message in block)
            after, separator = block[-1].seq or 0, ","
        workflow = await self._store.workflows.get(conversation.id)
        yield f'],"workflow":{to_json(workflow.to_export())}}}\n' if workflow is not None else "]}\n"

    async def export_markdown(self, conversation: Conversation) -> AsyncIterator[str]:
        """The active branch as a Markdown document, in pieces."""
        yield f"# {conversation.title or 'Conversation'}\n"
        after = 0
        unanswered: RunState | None = None
        while block := await self._store.messages.page(conversation, limit=_BLOCK, after=after):
            runs = await self.unanswered(conversation, block)
            for message in block:
                if message.role is MessageRole.USER:
                    yield _why_unanswered(unanswered)
                    unanswered = runs.get(message.id)
                yield _markdown(message)
            after = block[-1].seq or after
        yield _why_unanswered(unanswered)

    async def import_conversation(
        self,
        user: User,
        conversation: dict[str, Any],
        messages: Sequence[dict[str, Any]],
        workflow: Mapping[str, Any] | None = None,
    ) -> Conversation:
        """Store a conversation that was exported, or bare messages in order, for this user.

        Ids and order are kept where they are free. Messages with only role, content and metadata follow each other.

        Raises:
            InvalidFrame: a message or the workflow is not one; the error says which.
        """
        if len(messages) > MAX_IMPORT_MESSAGES:
            raise InvalidFrame(f"That is more than {MAX_IMPORT_MESSAGES} messages. Import it in parts.")
        document = WorkflowDocument.from_export(workflow) if workflow is not None else None
        given = conversation.get("id")
        fields = {key: conversation[key] for key in _KEPT if conversation.get(key) is not None}
        restored = Conversation(
            id=given if isinstance(given, str) and is_client_id(given) else new_id(), user_id=user.id, **fields
        )
        built = _build(restored.id, messages)
        head = conversation.get("head_message_id")
        by_id = {message.id: message for message in built}
        last = by_id.get(head) if isinstance(head, str) else None
        last = last or (built[-1] if built else None)
        restored.head_message_id = last.id if last else None
        restored.last_seq = (built[-1].seq or 0) if built else 0
        restored.forks = forks_of(built)
        restored.forks, restored.spans = go_on_from(restored, (last.seq or 0) if last else 0)
        restored.message_count = len(built)
        if restored.title is None:
            first = next((message for message in built if message.role is MessageRole.USER), None)
            restored.title = title_from(first.text) if first else None
        stored = await self._store.conversations.restore(restored, built)
        if document is not None:
            await self._store.workflows.put(stored.id, document)
        return stored


_KEPT = ("title", "model", "system_prompt", "archived", "pinned", "summary", "created_at", "updated_at")


def forks_of(messages: Sequence[Message]) -> list[Fork]:
    """Where a tree of messages, in order of `seq`, branches."""
    forks: list[Fork] = []
    places: dict[str | None, int] = {None: 0}
    previous = 0
    for message in messages:
        seq, parent = message.seq or 0, places.get(message.parent_id, previous)
        if parent != previous:
            forks.append((seq, parent))
        places[message.id] = previous = seq
    return forks


def _build(conversation_id: str, raw: Sequence[dict[str, Any]]) -> list[Message]:
    """The messages of an import, numbered as they were, or in order where they were not."""
    built: list[Message] = []
    ids: set[str] = set()
    for index, fields in enumerate(raw):
        previous = built[-1] if built else None
        message_id = fields.get("id")
        if not isinstance(message_id, str) or not is_client_id(message_id) or message_id in ids:
            message_id = new_id()
        seq = fields.get("seq")
        lowest = (previous.seq or 0) + 1 if previous else 1
        if not isinstance(seq, int) or not lowest <= seq < 2**31:
            seq = lowest
        parent = fields.get("parent_id", previous.id if previous else None)
        if parent is not None and parent not in ids:
            parent = previous.id if previous else None
        kept = {
            key: fields[key] for key in ("role", "content", "metadata", "created_at") if fields.get(key) is not None
        }
        try:
            message = Message(conversation_id=conversation_id, id=message_id, seq=seq, parent_id=parent, **kept)
        except ValueError as error:
            raise InvalidFrame(f"messages[{index}] is not a message: it needs a role and content.") from error
        ids.add(message_id)
        built.append(message)
    return built


def _siblings(conversation: Conversation, messages: Sequence[Message], *, is_first: bool = False) -> dict[str, int]:
    """How many messages stand in the place of each of `messages` that has others there.

    Args:
        messages: a stretch of the active branch.
        is_first: whether the branch begins with it; else its first message is left out: what it goes on from is not known.
    """
    starts = {start for start, _ in conversation.forks}
    counts: dict[str, int] = {}
    parent = 0 if is_first else None
    for message in messages:
        if parent is not None:
            goes_straight_on = parent < conversation.last_seq and parent + 1 not in starts
            count = sum(behind == parent for _, behind in conversation.forks) + goes_straight_on
            if count > 1:
                counts[message.id] = count
        parent = message.seq or 0
    return counts


def _markdown(message: Message) -> str:
    if message.role is MessageRole.TOOL:
        name = message.metadata.get("name") or "tool"
        return f"\n## Tool: {name}\n\n{_fenced(message.text)}\n"
    parts = [f"\n## {message.role.value.capitalize()}\n"]
    if message.text:
        parts.append(message.text + "\n")
    parts += [
        f"Calls `{call.get('name')}`:\n\n{_fenced(to_json(call.get('args') or {}), 'json')}\n"
        for call in message.tool_calls
    ]
    return "\n".join(parts)


def _why_unanswered(run: RunState | None) -> str:
    """A note on a turn that failed or was stopped; nothing for any other."""
    if run is not None and run.status is RunStatus.FAILED:
        return f"\n*No complete answer: {(run.error or {}).get('message', 'the turn failed.')}*\n"
    return "\n*Stopped.*\n" if run is not None and run.status is RunStatus.CANCELLED else ""


def _fenced(text: str, language: str = "") -> str:
    """`text` in a code fence that it cannot close."""
    longest = max((len(run) for run in text.replace("\n", " ").split(" ") if set(run) == {"`"}), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
