"""A long conversation made short for the model: its older messages become a summary. The history keeps them all."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.core.domain.conversation import Conversation, Summary, existing
from app.core.domain.errors import ConversationBusy, InvalidFrame, ProviderUnavailable
from app.core.domain.message import Message, MessageRole
from app.core.domain.user import User
from app.core.ports import IModelCatalog, Store
from app.core.services.context import context_budget, summarised, text_tokens
from app.core.services.model_choice import choose_model
from app.core.services.passing import PassingTurns

BLOCK = 200
CHARACTERS_PER_TOKEN = 3
MAX_TOOL_TEXT = 2_000
TASK = """\
You shorten conversations so that they can go on. Write down, in the language of the conversation and in at most 400 words, \
what the one who goes on has to know: what the user wants, what was decided and why, names, numbers, files and addresses that \
matter, results of tools, and what is still open. No greeting, no comment, only that."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What became of it.

    Attributes:
        messages: how many messages the summary stands for.
        tokens: about how many tokens it has.
    """

    messages: int
    tokens: int


class Compaction:
    """Summaries of conversations.

    Args:
        context_tokens: how much of a conversation a model is sent at most.
    """

    def __init__(self, store: Store, catalog: IModelCatalog, passing: PassingTurns, context_tokens: int) -> None:
        self._store = store
        self._catalog = catalog
        self._passing = passing
        self._context_tokens = context_tokens

    async def compact(self, user: User, conversation_id: str, model: str | None = None) -> Compacted:
        """Have the conversation's model summarise all but the last turn of the active branch.

        Raises:
            NotFound: the user has no such conversation.
            ConversationBusy: it is being answered.
            InvalidFrame: there is nothing to summarise.
            UnknownModel, ProviderNotConfigured and the other errors of providers: the model cannot do it.
        """
        conversation = existing(await self._store.conversations.get(conversation_id, user.id))
        if conversation.active_run_id is not None:
            raise ConversationBusy("The conversation is still being answered. Wait for the answer, or cancel it.")
        old = await self._old_messages(conversation)
        if not old:
            raise InvalidFrame("There is nothing to summarise yet: only the last turn is there, and it stays as it is.")
        name = choose_model(self._catalog, conversation, model)
        known = conversation.summary.text if conversation.summary and summarised(conversation) else ""
        text = await self._summarise(user, name, known, old)
        summary = Summary(text=text, seq=old[-1].seq or 0)
        await self._store.conversations.update(conversation_id, user.id, {"summary": summary.model_dump()})
        return Compacted(len(old), text_tokens(text))

    async def _old_messages(self, conversation: Conversation) -> list[Message]:
        """What is not summarised yet and stands before the last turn."""
        messages: list[Message] = []
        after = summarised(conversation)
        while block := await self._store.messages.page(conversation, limit=BLOCK, after=after):
            messages += block
            after = block[-1].seq or after
        last = max((place for place, m in enumerate(messages) if m.role is MessageRole.USER), default=0)
        return messages[:last]

    async def _summarise(self, user: User, model: str, known: str, messages: Sequence[Message]) -> str:
        """A summary of `messages` and of what was summarised before, part by part where they do not fit at once."""
        budget = context_budget(self._context_tokens, self._catalog.facts(model))
        room = max(1_000, (budget - text_tokens(TASK) - 1_500) * CHARACTERS_PER_TOKEN)
        part: list[str] = []
        size = 0
        for text in [_told(message)[:room] for message in messages]:
            if part and size + len(text) > room:
                known = await self._ask(user, model, known, "\n\n".join(part))
                part, size = [], 0
            part.append(text)
            size += len(text)
        return await self._ask(user, model, known, "\n\n".join(part))

    async def _ask(self, user: User, model: str, known: str, text: str) -> str:
        before = f"What went before, as you shortened it:\n{known}\n\n" if known else ""
        task = [
            Message(conversation_id="", role=MessageRole.SYSTEM, content=TASK),
            Message(conversation_id="", role=MessageRole.USER, content=f"{before}The conversation:\n\n{text}"),
        ]
        pieces: list[str] = []
        async for batch in self._passing.run(user, model, task, with_tools=False):
            for event in batch:
                if event.type == "token":
                    pieces.append(event.data["content"])
                elif event.type == "reset":
                    pieces.clear()
                elif event.type == "error":
                    raise ProviderUnavailable(event.data["message"])
        if not (summary := "".join(pieces).strip()):
            raise ProviderUnavailable("The model gave no summary. Try again, or choose another model.")
        return summary


def _told(message: Message) -> str:
    """A message as the one who summarises reads it."""
    who = message.role.value if message.role is not MessageRole.TOOL else f"tool {message.metadata.get('name', '')}"
    text = message.text if message.role is not MessageRole.TOOL else message.text[:MAX_TOOL_TEXT]
    calls = "".join(f"\n(calls {call['name']} with {str(call['args'])[:MAX_TOOL_TEXT]})" for call in message.tool_calls)
    return f"{who}: {text}{calls}"
