"""Runs: accept a message, drive its turn to an end, let clients come and go, stop it."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from app.core.domain.conversation import Conversation, title_from
from app.core.domain.errors import (
    AtelierError,
    EmptyInput,
    Internal,
    LeaseLost,
    NotFound,
    RateLimited,
    StorageUnavailable,
    describe,
)
from app.core.domain.event import RunEvent
from app.core.domain.ids import new_id
from app.core.domain.message import Content, Message, MessageRole, text_of
from app.core.domain.run import OnBusy, Run
from app.core.domain.time import utc_now
from app.core.domain.user import User
from app.core.log_context import current_run
from app.core.ports import (
    Acceptance,
    Accepted,
    IAgent,
    IModelCatalog,
    IRunFeed,
    IRunLog,
    Lease,
    Store,
    Turn,
)
from app.core.services.context import load_context
from app.core.services.repair import open_calls
from app.core.services.replay import replay
from app.core.services.turn import TurnRecorder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunLimits:
    """The bounds of runs.

    Attributes:
        context_tokens: how much of a conversation a model is sent.
        system_prompt: what every model is told first.
        lease: how long a process may be silent before another one takes its runs over.
        max_runs: turns that this process drives at once.
    """

    context_tokens: int = 32_000
    system_prompt: str = ""
    lease: timedelta = timedelta(seconds=30)
    max_runs: int = 1_000


@dataclass(frozen=True, slots=True)
class Send:
    """A user message to be answered."""

    content: Content
    conversation_id: str | None = None
    message_id: str | None = None
    model: str | None = None
    on_busy: OnBusy = OnBusy.QUEUE


@dataclass(slots=True)
class _Driven:
    """A run that this process drives."""

    recorder: TurnRecorder
    task: asyncio.Task[None] | None = None
    cancelling: bool = False


class RunService:
    """Accepts messages, and owns every run of this process until it ends or is handed on."""

    def __init__(self, store: Store, log: IRunLog, agent: IAgent, catalog: IModelCatalog, limits: RunLimits) -> None:
        self._store = store
        self._log = log
        self._agent = agent
        self._catalog = catalog
        self._limits = limits
        self._owner = new_id()
        self._driven: dict[str, _Driven] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def active(self) -> int:
        """Runs that this process drives now."""
        return len(self._driven)

    # --- life

    async def start(self) -> None:
        """Take over the runs that a process before this one left, and keep the leases of our own."""
        await self._claim()
        self._keeper = asyncio.create_task(self._keep_leases(), name="leases")

    async def stop(self) -> None:
        """Stop driving: every run is left where its last stored step is, for the next process to go on."""
        self._closing = True
        tasks = [driven.task for driven in self._driven.values() if driven.task is not None]
        if self._keeper is not None:
            tasks.append(self._keeper)
        held = self._held()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if held:
            await self._store.runs.renew(Lease(self._owner, utc_now()), held)

    # --- use cases

    async def send(self, user: User, send: Send) -> Run:
        """Store a user message and begin its turn, or queue it; once this returns it cannot be lost.

        The run's `accepted` event is in the log by then. The same `message_id` again gives the first run.

        Raises:
            EmptyInput, UnknownModel, ProviderNotConfigured, NotFound, ConversationBusy, RateLimited, StorageUnavailable.
        """
        if _is_blank(send.content):
            raise EmptyInput("The message is empty. Write something and send it again.")
        if self._closing or self.active >= self._limits.max_runs:
            raise RateLimited("The service is busy with as many answers as it can give at once. Try again in a moment.")
        known = await self._conversation(user, send.conversation_id) if send.conversation_id else None
        model = self._catalog.check(send.model or (known.model if known else None) or self._catalog.default)
        fresh = None if known else Conversation(user_id=user.id, title=title_from(text_of(send.content)))
        conversation_id = known.id if known else fresh.id if fresh else ""
        message = Message(
            id=send.message_id or new_id(),
            conversation_id=conversation_id,
            role=MessageRole.USER,
            content=send.content,
        )
        run = Run(
            conversation_id=conversation_id,
            user_id=user.id,
            model=model,
            message_id=message.id,
            request={"content": send.content, "on_busy": send.on_busy.value},
        )
        accepted = await self._store.runs.accept(
            Acceptance(run=run, message=message, on_busy=send.on_busy, lease=self._lease(), create=fresh)
        )
        if accepted.is_new:
            self._begin(accepted)
            if send.on_busy is OnBusy.INTERRUPT and accepted.message is None:
                await self._interrupt(accepted.run)
        return accepted.run

    async def attach(self, user: User, run_id: str, after: int, wake: Callable[[], None]) -> IRunFeed:
        """The events of a run after number `after`, those to come included; `wake` tells when there are more.

        Raises:
            NotFound: the user has no such run.
        """
        run = await self.get(user, run_id)
        feed = await self._log.follow(run_id, after, wake)
        if feed is not None:
            return feed
        conversation = await self._conversation(user, run.conversation_id)
        if run_id not in self._driven:
            run = await self._stored(user, run_id)
            if run.status.ended:
                return await replay(self._store.messages, conversation, run, after)
        rest = await self._log.follow_rest(run_id, wake)
        driven = self._driven.get(run_id)
        partial = driven.recorder.partial if driven is not None else None
        return await replay(self._store.messages, conversation, run, after, partial=partial, rest=rest)

    async def get(self, user: User, run_id: str) -> Run:
        """A run of this user.

        Raises:
            NotFound: the user has no such run.
        """
        driven = self._driven.get(run_id)
        if driven is not None and driven.task is not None and driven.recorder.run.user_id == user.id:
            return driven.recorder.run
        return await self._stored(user, run_id)

    async def cancel(self, user: User, run_id: str) -> Run:
        """Stop a run; one that has ended stays as it is. Its events tell when it has stopped.

        Raises:
            NotFound: the user has no such run.
        """
        run = await self.get(user, run_id)
        driven = self._driven.get(run_id)
        if driven is not None and driven.task is not None:
            if not driven.cancelling and not run.status.ended:
                driven.cancelling = True
                driven.task.cancel()
            return run
        queued = await self._store.runs.cancel_queued(run_id, user.id)
        if queued is None:
            return run
        if driven is not None:
            driven.recorder.emit("cancelled")
            del self._driven[run_id]
        return queued

    async def cancel_conversation(self, user: User, conversation: Conversation) -> None:
        """Stop what runs in a conversation, and wait until it has stopped."""
        for driven in [d for d in self._driven.values() if d.recorder.run.conversation_id == conversation.id]:
            task = driven.task
            await self.cancel(user, driven.recorder.run.id)
            if task is not None:
                await asyncio.wait([task])

    async def wait(self, user: User, run_id: str) -> list[RunEvent]:
        """All events of a run, once it has ended. Going away while waiting does not stop the run."""
        more = asyncio.Event()
        feed = await self.attach(user, run_id, 0, more.set)
        events: list[RunEvent] = []
        try:
            while not feed.ended:
                batch = feed.read(1_000)
                events.extend(batch)
                if not batch:
                    await more.wait()
                    more.clear()
        finally:
            feed.close()
        return events

    # --- driving

    def _begin(self, accepted: Accepted) -> None:
        """Tell that a run is accepted, and drive it if its turn has come."""
        recorder = TurnRecorder(accepted.run, self._owner, self._store.runs, self._log)
        queued = accepted.message is None
        recorder.accepted(queued=queued)
        self._driven[accepted.run.id] = _Driven(recorder)
        if not queued:
            self._drive(accepted)

    def _drive(self, accepted: Accepted, *, resume: bool = False) -> None:
        """Start the task of a run whose lease is ours."""
        run = accepted.run
        driven = self._driven.get(run.id)
        if driven is None:
            driven = _Driven(TurnRecorder(run, self._owner, self._store.runs, self._log))
            self._driven[run.id] = driven
            if run.last_seq == 0 and not resume:
                driven.recorder.accepted(queued=True)
        driven.recorder.run = run
        driven.task = asyncio.create_task(self._run(driven, accepted, resume), name=f"run {run.id}")

    async def _run(self, driven: _Driven, accepted: Accepted, resume: bool) -> None:
        recorder = driven.recorder
        run = recorder.run
        current_run.set(run.id)
        try:
            try:
                await self._turn(recorder, accepted, resume)
            except asyncio.CancelledError:
                if not driven.cancelling:
                    raise
                asyncio.current_task().uncancel()  # pyright: ignore[reportOptionalMemberAccess]
                if not run.status.ended:
                    await recorder.cancelled()
            except LeaseLost:
                raise
            except AtelierError as error:
                logger.warning("run %s failed: %s: %s", run.id, error.code, error.message)
                await recorder.failed(error)
            except Exception as error:
                logger.exception("run %s failed", run.id)
                await recorder.failed(describe(error))
        except LeaseLost:
            logger.warning("run %s was taken over by another process", run.id)
        finally:
            self._driven.pop(run.id, None)
        if recorder.queue_behind and not self._closing:
            await self._promote(run.conversation_id)

    async def _turn(self, recorder: TurnRecorder, accepted: Accepted, resume: bool) -> None:
        run = recorder.run
        if not resume:
            recorder.started(accepted.message)
        if accepted.message is not None and accepted.conversation.title is None:
            title = title_from(accepted.message.text)
            await self._store.conversations.update(run.conversation_id, run.user_id, {"title": title})
        history = await load_context(
            self._store.messages,
            accepted.conversation,
            system_prompt=self._limits.system_prompt,
            budget=self._limits.context_tokens,
            newest=accepted.message,
        )
        if resume:
            recorder.resumed(open_calls(history))
        turn = Turn(
            run_id=run.id,
            conversation_id=run.conversation_id,
            user_id=run.user_id,
            model=run.model,
            history=history,
        )
        await self._agent.run(turn, recorder)
        if not run.status.ended:
            raise Internal("The agent stopped without an answer. Please try again.")

    async def _promote(self, conversation_id: str) -> None:
        try:
            accepted = await self._store.runs.promote(conversation_id, self._lease())
        except StorageUnavailable as error:
            logger.warning("the queue of a conversation waits for the store: %s", error.message)
        else:
            if accepted is not None:
                self._drive(accepted)

    async def _interrupt(self, waiting: Run) -> None:
        """Stop the run that `waiting` is to take the place of."""
        for driven in list(self._driven.values()):
            run = driven.recorder.run
            if run.conversation_id == waiting.conversation_id and driven.task is not None and not driven.cancelling:
                driven.cancelling = True
                driven.task.cancel()

    # --- leases

    def _lease(self) -> Lease:
        return Lease(self._owner, utc_now() + self._limits.lease)

    def _held(self) -> list[str]:
        """The conversations whose lease this process holds."""
        return [d.recorder.run.conversation_id for d in self._driven.values() if d.task is not None]

    async def _claim(self) -> None:
        for accepted in await self._store.runs.claim(self._lease(), now=utc_now()):
            if accepted.run.id not in self._driven:
                logger.info("run %s goes on after an interruption", accepted.run.id)
                self._drive(accepted, resume=accepted.message is None)

    async def _keep_leases(self) -> None:
        """Renew our leases three times in their life, and look for runs whose owner is gone."""
        while True:
            await asyncio.sleep(self._limits.lease.total_seconds() / 3)
            try:
                if held := self._held():
                    await self._store.runs.renew(self._lease(), held)
                await self._claim()
            except StorageUnavailable as error:
                logger.warning("leases could not be renewed: %s", error.message)

    # --- inside

    async def _stored(self, user: User, run_id: str) -> Run:
        run = await self._store.runs.get(run_id, user.id)
        if run is None:
            raise NotFound("There is no such run.")
        return run

    async def _conversation(self, user: User, conversation_id: str) -> Conversation:
        conversation = await self._store.conversations.get(conversation_id, user.id)
        if conversation is None:
            raise NotFound("There is no such conversation.")
        return conversation


def _is_blank(content: Content) -> bool:
    if isinstance(content, str):
        return not content.strip()
    return all(part.get("type") == "text" and not str(part.get("text", "")).strip() for part in content)
