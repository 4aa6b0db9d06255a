"""Runs: accept a message, let clients come and go, answer what a run waits for, stop it."""

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from app.core.domain.conversation import Conversation, branch_to, existing, title_from
from app.core.domain.errors import (
    AtelierError,
    EmptyInput,
    InvalidFrame,
    NotFound,
    RateLimited,
    ShuttingDown,
    StorageUnavailable,
)
from app.core.domain.event import RunEvent
from app.core.domain.ids import new_id
from app.core.domain.message import Content, Message, MessageRole, same_content, text_of
from app.core.domain.run import OnBusy, Run, RunStatus
from app.core.domain.user import User
from app.core.ports import (
    Acceptance,
    IAgent,
    IModelCatalog,
    IRunCommands,
    IRunFeed,
    IRunLog,
    NoOtherProcess,
    Place,
    Store,
)
from app.core.services.answers import Answer, as_command, check_answer, from_command
from app.core.services.context import BLOCK
from app.core.services.driver import RunDriver
from app.core.services.listeners import Listeners
from app.core.services.model_choice import choose_model
from app.core.services.prompt import PromptService
from app.core.services.repair import open_calls
from app.core.services.run_limits import RunLimits
from app.core.services.turn import CountTokens

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0
_UNNAMED = uuid.UUID("5b0c8f0e-6f8e-5a58-9a55-2f7e0f6f3c1d")


@dataclass(frozen=True, slots=True)
class Send:
    """A user message to be answered.

    Attributes:
        create: make the conversation under the id that is given, where there is none.
        skill: the slug of a skill that this turn uses.
    """

    content: Content
    conversation_id: str | None = None
    message_id: str | None = None
    model: str | None = None
    on_busy: OnBusy = OnBusy.QUEUE
    client_tools: Sequence[str] = ()
    create: bool = False
    skill: str | None = None


class RunService:
    """Takes what users say: messages to answer, answers to open calls, the wish to stop; runs then go on by themselves."""

    def __init__(
        self,
        store: Store,
        log: IRunLog,
        agent: IAgent,
        catalog: IModelCatalog,
        limits: RunLimits,
        prompts: PromptService,
        commands: IRunCommands | None = None,
        count: CountTokens | None = None,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._limits = limits
        self._prompts = prompts
        self._commands = commands or NoOtherProcess()
        self._driver = RunDriver(store, log, agent, catalog, limits, prompts, count)
        self._listeners = Listeners(store, log, self._driver.runs, limits.lease)
        self._errands: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def active(self) -> int:
        """Runs that this process drives now."""
        return self._driver.active

    # --- life

    async def start(self) -> None:
        """Take over the runs that a process before this one left, and keep the leases of our own."""
        self._commands.listen(self._take_command)
        await self._driver.look_for_lost_runs()
        self._keeper = asyncio.create_task(self._keep_leases(), name="leases")

    @property
    def is_closing(self) -> bool:
        """Whether nothing new is taken any more."""
        return self._driver.is_closing

    async def finish(self, seconds: float) -> None:
        """Take nothing new, and let what runs come to its end, for at most `seconds`."""
        await self._driver.finish(seconds)

    async def stop(self) -> None:
        """Stop driving: every run is left where its last stored step is, for the next process to go on."""
        self._driver.close()
        tasks = [*self._errands, *([self._keeper] if self._keeper is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._driver.stop()
        self._listeners.close()

    # --- use cases

    async def send(self, user: User, send: Send) -> Run:
        """Store a user message and begin its turn, or queue it; once this returns it cannot be lost.

        The run's `accepted` event is in the log by then. The same message under the same `message_id` again gives the
        first run. The conversation goes on with the model, where one is named.

        Raises:
            EmptyInput, UnknownModel, ProviderNotConfigured, NotFound, ConversationBusy, RateLimited, StorageUnavailable.
            MessageConflict: another message has the id.
        """
        self._check_input(send.content)
        if send.skill is not None:
            await self._prompts.check_skill(user, send.skill)
        known = await self._known(user, send)
        if known and known.active_run_id and not self._driver.has_room_to_wait:
            raise RateLimited("As many messages wait for their turn as the service can hold. Try again in a moment.")
        model = choose_model(self._catalog, known, send.model, tools=bool(send.client_tools))
        fresh = None
        if known is None:
            title = title_from(text_of(send.content))
            fresh = Conversation(id=_id_of_new(user, send), user_id=user.id, title=title, model=send.model)
        conversation_id = known.id if known else fresh.id if fresh else ""
        message = Message(
            id=send.message_id or new_id(),
            conversation_id=conversation_id,
            role=MessageRole.USER,
            content=send.content,
            metadata={"skill": send.skill} if send.skill is not None else {},
        )
        run = Run(
            conversation_id=conversation_id,
            user_id=user.id,
            model=model,
            message_id=message.id,
            request={"content": send.content, "on_busy": send.on_busy.value, **_skill(message)},
            client_tools=list(dict.fromkeys(send.client_tools)),
        )
        accepted = await self._store.runs.accept(
            Acceptance(
                run=run,
                message=message,
                on_busy=send.on_busy,
                lease=self._driver.lease(),
                create=fresh,
                anywhere=send.conversation_id is None,
                keep_model=send.model is not None,
            )
        )
        if accepted.is_new:
            self._driver.begin(accepted)
            active = accepted.conversation.active_run_id
            if send.on_busy is OnBusy.INTERRUPT and accepted.run.status is RunStatus.QUEUED and active:
                await self.cancel(user, active)
        elif accepted.run.status is RunStatus.QUEUED and accepted.conversation.active_run_id is None:
            # Two of the same came at once, and the one that was refused held the place of the one that waits.
            await self._driver.promote(accepted.run.conversation_id)
        return accepted.run

    async def edit(
        self,
        user: User,
        conversation_id: str,
        message_id: str,
        content: Content,
        model: str | None = None,
        client_tools: Sequence[str] = (),
    ) -> Run:
        """Put `content` in the place of a user message as a new branch, and answer it.

        The same edit again, while it is being answered, gives the run that answers it.

        Raises:
            NotFound, InvalidFrame: there is no such user message.
            EmptyInput, UnknownModel, ProviderNotConfigured, ConversationBusy, RateLimited, StorageUnavailable.
        """
        self._check_input(content)
        conversation, old = await self._message(user, conversation_id, message_id, MessageRole.USER)
        if (running := await self._same_edit(conversation, old, content)) is not None:
            return running
        parent = (await self._store.messages.get_many(conversation.id, [old.parent_id])) if old.parent_id else []
        head = Place(parent[0].seq or 0, parent[0].id) if parent else Place(0, None)
        metadata = _skill(old)
        message = Message(conversation_id=conversation.id, role=MessageRole.USER, content=content, metadata=metadata)
        run = Run(
            conversation_id=conversation.id,
            user_id=user.id,
            model=choose_model(self._catalog, conversation, model, tools=bool(client_tools)),
            message_id=message.id,
            request={"content": content, **metadata},
            client_tools=list(dict.fromkeys(client_tools)),
        )
        return await self._branch(run, message, head, keep_model=model is not None)

    async def regenerate(
        self,
        user: User,
        conversation_id: str,
        message_id: str,
        model: str | None = None,
        client_tools: Sequence[str] = (),
    ) -> Run:
        """Run the turn of an assistant message again, as a new branch behind the user message that it answers.

        Raises:
            NotFound, InvalidFrame: there is no such assistant message.
            UnknownModel, ProviderNotConfigured, ConversationBusy, RateLimited, StorageUnavailable.
        """
        conversation, old = await self._message(user, conversation_id, message_id, MessageRole.ASSISTANT)
        asked = await self._question_of(conversation, old)
        return await self._run_again(user, conversation, asked, model, client_tools)

    async def retry(
        self,
        user: User,
        conversation_id: str,
        message_id: str,
        model: str | None = None,
        client_tools: Sequence[str] = (),
    ) -> Run:
        """Run the turn of a user message again: the way on from a turn that ended without an answer.

        Raises:
            NotFound, InvalidFrame: there is no such user message.
            UnknownModel, ProviderNotConfigured, ConversationBusy, RateLimited, StorageUnavailable.
        """
        conversation, asked = await self._message(user, conversation_id, message_id, MessageRole.USER)
        return await self._run_again(user, conversation, asked, model, client_tools)

    async def _run_again(
        self,
        user: User,
        conversation: Conversation,
        asked: Message,
        model: str | None,
        client_tools: Sequence[str],
    ) -> Run:
        self._check_room()
        run = Run(
            conversation_id=conversation.id,
            user_id=user.id,
            model=choose_model(self._catalog, conversation, model, tools=bool(client_tools)),
            message_id=new_id(),
            input_id=asked.id,
            request=_skill(asked),
            client_tools=list(dict.fromkeys(client_tools)),
        )
        return await self._branch(run, None, Place(asked.seq or 0, asked.id), keep_model=model is not None)

    async def answer(self, user: User, run_id: str, answer: Answer) -> Run:
        """Take an answer to an open call of a run: a tool's result from the client, or the user's approval.

        Once this returns the answer is on its way into the run; the run's events tell of it.

        Raises:
            NotFound: the user has no such run, or it has no such open call (any more).
            InvalidFrame: the call does not want an answer of this kind.
        """
        run = await self.get(user, run_id)
        if not await self._take_answer(user, run_id, answer):
            self._own(self._deliver(user, run_id, answer))
        return run

    async def _take_answer(self, user: User, run_id: str, answer: Answer) -> bool:
        """Take an answer if this process drives the run or can; False where another one drives it, or did before it died."""
        if await self._driver.hand(run_id, answer):
            return True
        run = await self._listeners.stored(user, run_id)
        conversation = await self._conversation(user, run.conversation_id)
        open_ = {call["id"]: call for call in await self._open_calls(conversation)}
        policy = self._limits.policy(conversation.tool_approval, run.client_tools)
        check_answer(run, open_, policy, answer)
        if self.is_closing:
            raise ShuttingDown
        return await self._driver.take_up(user, run_id, answer)

    async def _deliver(self, user: User, run_id: str, answer: Answer) -> None:
        """Bring an answer to a run that another process drives, until the call is open no more."""
        pause = FIRST_PAUSE
        while True:
            try:
                if await self._take_answer(user, run_id, answer):
                    return
            except (NotFound, InvalidFrame):
                logger.debug("an answer to run %s has arrived", run_id)
                return
            except AtelierError as error:
                logger.warning("an answer to run %s has to wait: %s", run_id, error.message)
            except Exception:
                logger.exception("an answer to run %s could not be delivered yet", run_id)
            await self._commands.send({"run_id": run_id, **as_command(answer)})
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _keep_cancelling(self, user: User, run_id: str) -> None:
        """Have a run stopped that another process drives, or did before it died."""
        pause = FIRST_PAUSE
        while True:
            try:
                run = await self.get(user, run_id)
                if run.status.ended:
                    return
                if self._driver.drives(run_id) or run.status is not RunStatus.RUNNING:
                    await self.cancel(user, run_id)
                    return
            except NotFound:
                return
            except AtelierError as error:
                logger.warning("run %s cannot be stopped yet: %s", run_id, error.message)
            except Exception:
                logger.exception("run %s cannot be stopped yet", run_id)
            await self._commands.send({"run_id": run_id, "cancel": True})
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside everything else; it ends with the service at the latest."""
        task = asyncio.create_task(_logged(work))
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def attach(self, user: User, run_id: str, after: int, wake: Callable[[], None]) -> IRunFeed:
        """The events of a run after number `after`, those to come included; `wake` tells when there are more.

        Raises:
            NotFound: the user has no such run.
        """
        return await self._listeners.attach(user, run_id, after, wake)

    async def wait(self, user: User, run_id: str) -> list[RunEvent]:
        """All events of a run, once it has ended or waits for the user. Going away while waiting does not stop the run."""
        return await self._listeners.wait(user, run_id)

    def stream(
        self, user: User, run_id: str, after: int = 0, *, until_it_waits: bool = True
    ) -> AsyncGenerator[list[RunEvent]]:
        """The events of a run after number `after` in batches, until it has ended or, with `until_it_waits`, waits for the user.

        An empty batch means that nothing has happened for a while.

        Raises:
            NotFound: the user has no such run.
        """
        return self._listeners.stream(user, run_id, after, until_it_waits=until_it_waits)

    async def get(self, user: User, run_id: str) -> Run:
        """A run of this user.

        Raises:
            NotFound: the user has no such run.
        """
        return await self._listeners.find(user, run_id)

    async def cancel(self, user: User, run_id: str) -> Run:
        """Stop a run; one that has ended stays as it is. Its events tell when it has stopped.

        Raises:
            NotFound: the user has no such run.
        """
        run = await self.get(user, run_id)
        if self._driver.interrupt(run_id):
            return run
        if run.status is RunStatus.WAITING:
            await self._driver.take_up(user, run_id, cancelling=True)
            return run
        queued = await self._driver.drop_queued(user, run_id)
        if queued is None and not run.status.ended:
            self._own(self._keep_cancelling(user, run_id))
        return queued or run

    async def cancel_conversation(self, user: User, conversation: Conversation) -> None:
        """Stop what runs in a conversation, and wait until it has stopped."""
        waiting: list[str] = [
            id_ for id_, d in self._driver.runs.items() if d.recorder.run.conversation_id == conversation.id
        ]
        active = conversation.active_run_id
        for run_id in {*waiting, *([active] if active else [])}:
            await self.cancel(user, run_id)
            await self.wait(user, run_id)

    async def _same_edit(self, conversation: Conversation, old: Message, content: Content) -> Run | None:
        """The run that answers this very edit of a message now: a client that lost its connection sends it again."""
        if conversation.active_run_id is None:
            return None
        run = await self._store.runs.get(conversation.active_run_id, conversation.user_id)
        asked = await self._store.messages.get_many(conversation.id, [run.user_message_id]) if run is not None else []
        is_same = any(m.parent_id == old.parent_id and same_content(m.content, content) for m in asked)
        return run if is_same else None

    async def _branch(self, run: Run, message: Message | None, head: Place, *, keep_model: bool) -> Run:
        """Begin a turn behind `head`, where a new branch begins."""
        accepted = await self._store.runs.accept(
            Acceptance(
                run=run,
                message=message,
                on_busy=OnBusy.REJECT,
                lease=self._driver.lease(),
                go_on_from=head,
                keep_model=keep_model,
            )
        )
        self._driver.begin(accepted)
        return accepted.run

    async def _take_command(self, command: dict[str, Any]) -> None:
        """Carry a command out beside the others: one that has to wait must not hold up those behind it."""
        self._own(self._obey(command))

    async def _obey(self, command: dict[str, Any]) -> None:
        """Carry out what another process was asked for a run that this one drives."""
        if command.get("cancel"):
            self._driver.interrupt(command["run_id"])
            return
        try:
            await self._driver.hand(command["run_id"], from_command(command))
        except AtelierError as error:
            logger.info("an answer from another server changes nothing: %s", error.message)

    async def _keep_leases(self) -> None:
        """Renew our leases three times in their life, and look for runs whose owner is gone."""
        while True:
            await asyncio.sleep(self._limits.lease.total_seconds() / 3)
            for look_after in (self._driver.look_after, self._listeners.look_after):
                try:
                    await look_after()
                except StorageUnavailable as error:
                    logger.warning("leases could not be renewed: %s", error.message)
                except Exception:
                    logger.exception("leases could not be looked after; the next round tries again")

    # --- inside

    def _check_input(self, content: Content) -> None:
        if _is_blank(content):
            raise EmptyInput("The message is empty. Write something and send it again.")
        self._check_room()

    def _check_room(self) -> None:
        if self.is_closing:
            raise ShuttingDown
        if not self._driver.has_room:
            raise RateLimited("The service is busy with as many answers as it can give at once. Try again in a moment.")

    async def _known(self, user: User, send: Send) -> Conversation | None:
        """The conversation that a message is for; None where it is to be made."""
        if send.conversation_id is None:
            return None
        if send.create:
            return await self._store.conversations.get(send.conversation_id, user.id)
        return await self._conversation(user, send.conversation_id)

    async def _message(
        self, user: User, conversation_id: str, message_id: str, role: MessageRole
    ) -> tuple[Conversation, Message]:
        """A message of a conversation of this user that has the role asked for."""
        conversation = await self._conversation(user, conversation_id)
        found = await self._store.messages.get_many(conversation.id, [message_id])
        if not found:
            raise NotFound("There is no such message in the conversation.")
        if found[0].role is not role:
            raise InvalidFrame(f"That is a message of the {found[0].role.value}. Name one of the {role.value}.")
        return conversation, found[0]

    async def _question_of(self, conversation: Conversation, answer: Message) -> Message:
        """The user message whose turn an assistant message belongs to."""
        branch = conversation.model_copy(update={"spans": branch_to(conversation.forks, answer.seq or 0)})
        before = answer.seq
        while block := await self._store.messages.page(branch, limit=BLOCK, before=before):
            for message in reversed(block):
                if message.role is MessageRole.USER:
                    return message
            before = block[0].seq
        raise InvalidFrame("No message of the user stands before that answer, so it cannot be given again.")

    async def _open_calls(self, conversation: Conversation) -> Sequence[dict[str, Any]]:
        """The open calls at the end of a conversation's active branch."""
        return open_calls(await self._store.messages.page(conversation, limit=BLOCK))

    async def _conversation(self, user: User, conversation_id: str) -> Conversation:
        return existing(await self._store.conversations.get(conversation_id, user.id))


def _id_of_new(user: User, send: Send) -> str:
    """The id of the conversation that a message makes.

    Where only the message has an id, the same message sent twice at once makes the same conversation.
    """
    if send.conversation_id is None and send.message_id is not None:
        return str(uuid.uuid5(_UNNAMED, f"{user.id}/{send.message_id}"))
    return send.conversation_id or new_id()


def _skill(message: Message) -> dict[str, Any]:
    """The skill that the turn of a user message uses, as messages and runs note it."""
    return {"skill": message.metadata["skill"]} if isinstance(message.metadata.get("skill"), str) else {}


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    """Run `work`, and log the exception that ends it."""
    try:
        await work
    except Exception:
        logger.exception("a background task failed")


def _is_blank(content: Content) -> bool:
    if isinstance(content, str):
        return not content.strip()
    return all(part.get("type") == "text" and not str(part.get("text", "")).strip() for part in content)
