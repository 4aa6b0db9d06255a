"""Runs: accept a message, drive its turn to an end, let clients come and go, stop it."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from app.core.domain.conversation import Conversation, branch_to, title_from
from app.core.domain.errors import (
    AtelierError,
    EmptyInput,
    Internal,
    InvalidFrame,
    LeaseLost,
    NotFound,
    RateLimited,
    StorageUnavailable,
    describe,
)
from app.core.domain.event import RunEvent
from app.core.domain.ids import new_id
from app.core.domain.message import Content, Message, MessageRole, text_of
from app.core.domain.run import OnBusy, Run, RunStatus
from app.core.domain.time import utc_now
from app.core.domain.tool import Approval, ApprovalPolicy, CallTraits
from app.core.domain.user import User
from app.core.log_context import current_run
from app.core.ports import (
    Acceptance,
    Accepted,
    IAgent,
    IModelCatalog,
    IRunCommands,
    IRunFeed,
    IRunLog,
    Lease,
    NoOtherProcess,
    Place,
    Store,
    Turn,
)
from app.core.services.answers import Answer, ToolResult, as_command, check_answer, from_command, tool_message
from app.core.services.context import BLOCK, context_budget, load_context
from app.core.services.driven import Begin, Driven
from app.core.services.listeners import Listeners
from app.core.services.prompt import PromptService, join
from app.core.services.repair import open_calls
from app.core.services.replay import told_so_far
from app.core.services.turn import CountTokens, TurnRecorder

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0


@dataclass(frozen=True, slots=True)
class RunLimits:
    """The bounds of runs.

    Attributes:
        context_tokens: how much of a conversation a model is sent.
        lease: how long a process may be silent before another one takes its runs over.
        max_runs: turns that this process drives at once.
        max_queued: runs accepted by this process that wait behind others at once.
        tool_approval: which tools need approval, where a conversation does not say otherwise.
        default_approval: what tools need of which neither says anything, as it is now.
    """

    context_tokens: int = 32_000
    lease: timedelta = timedelta(seconds=30)
    max_runs: int = 1_000
    max_queued: int = 1_000
    tool_approval: Mapping[str, Approval] = field(default_factory=dict[str, Approval])
    default_approval: Callable[[], Mapping[str, Approval]] = dict[str, Approval]

    def policy(self, rules: Mapping[str, Approval], *, can_ask: bool = True) -> ApprovalPolicy:
        """Which tools need approval now, in a turn that has rules of its own."""
        return ApprovalPolicy(self.tool_approval, rules, can_ask=can_ask, defaults=self.default_approval())


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
    """Accepts messages, and owns every run of this process until it ends or is handed on."""

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
        self._count = count
        self._commands = commands or NoOtherProcess()
        self._store = store
        self._log = log
        self._agent = agent
        self._catalog = catalog
        self._limits = limits
        self._prompts = prompts
        self._owner = new_id()
        self._driven: dict[str, Driven] = {}
        self._errands: set[asyncio.Task[None]] = set()
        self._listeners = Listeners(store, log, self._driven, limits.lease)
        self._keeper: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def active(self) -> int:
        """Runs that this process drives now."""
        return sum(driven.task is not None for driven in self._driven.values())

    # --- life

    async def start(self) -> None:
        """Take over the runs that a process before this one left, and keep the leases of our own."""
        self._commands.listen(self._obey)
        await self.look_for_lost_runs()
        self._keeper = asyncio.create_task(self._keep_leases(), name="leases")

    async def stop(self) -> None:
        """Stop driving: every run is left where its last stored step is, for the next process to go on."""
        self._closing = True
        tasks = [driven.task for driven in self._driven.values() if driven.task is not None]
        tasks += self._errands
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
        self._check_input(send.content)
        if send.skill is not None:
            await self._prompts.check_skill(user, send.skill)
        known = await self._known(user, send)
        if known and known.active_run_id and len(self._driven) - self.active >= self._limits.max_queued:
            raise RateLimited("As many messages wait for their turn as the service can hold. Try again in a moment.")
        model = self._model(known, send.model, send.client_tools)
        fresh = None
        if known is None:
            made_id = send.conversation_id or new_id()
            fresh = Conversation(id=made_id, user_id=user.id, title=title_from(text_of(send.content)))
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
            Acceptance(run=run, message=message, on_busy=send.on_busy, lease=self._lease(), create=fresh)
        )
        if accepted.is_new:
            self._begin(accepted)
            active = accepted.conversation.active_run_id
            if send.on_busy is OnBusy.INTERRUPT and accepted.run.status is RunStatus.QUEUED and active:
                await self.cancel(user, active)
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

        Raises:
            NotFound, InvalidFrame: there is no such user message.
            EmptyInput, UnknownModel, ProviderNotConfigured, ConversationBusy, RateLimited, StorageUnavailable.
        """
        self._check_input(content)
        conversation, old = await self._message(user, conversation_id, message_id, MessageRole.USER)
        parent = (await self._store.messages.get_many(conversation.id, [old.parent_id])) if old.parent_id else []
        head = Place(parent[0].seq or 0, parent[0].id) if parent else Place(0, None)
        metadata = _skill(old)
        message = Message(conversation_id=conversation.id, role=MessageRole.USER, content=content, metadata=metadata)
        run = Run(
            conversation_id=conversation.id,
            user_id=user.id,
            model=self._model(conversation, model, client_tools),
            message_id=message.id,
            request={"content": content, **metadata},
            client_tools=list(dict.fromkeys(client_tools)),
        )
        return await self._branch(run, message, head)

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
            model=self._model(conversation, model, client_tools),
            message_id=new_id(),
            input_id=asked.id,
            request=_skill(asked),
            client_tools=list(dict.fromkeys(client_tools)),
        )
        return await self._branch(run, None, Place(asked.seq or 0, asked.id))

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
        while True:
            driven = self._driven.get(run_id)
            if driven is not None and driven.task is not None:
                await driven.ready.wait()
                async with driven.gate:
                    if self._driven.get(run_id) is driven:
                        await self._apply(driven, answer)
                        return True
                continue  # it has come to wait, or to its end, in between
            run = await self._listeners.stored(user, run_id)
            conversation = await self._conversation(user, run.conversation_id)
            open_ = {call["id"]: call for call in await self._open_calls(conversation)}
            check_answer(run, open_, self._limits.policy(conversation.tool_approval), answer)
            accepted = await self._store.runs.take(run_id, user.id, self._lease())
            if accepted is not None:
                self._drive(accepted, Begin.WITH_AN_ANSWER, answer)
            return accepted is not None

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
            await self._commands.send({"run_id": run_id, **as_command(answer)})
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _keep_cancelling(self, user: User, run_id: str) -> None:
        """Have a run stopped that another process drives, or did before it died."""
        pause = FIRST_PAUSE
        try:
            while not (run := await self.get(user, run_id)).status.ended:
                if self._listeners.drives(run_id) or run.status is not RunStatus.RUNNING:
                    await self.cancel(user, run_id)
                    return
                await self._commands.send({"run_id": run_id, "cancel": True})
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
        except AtelierError as error:
            logger.warning("run %s could not be stopped: %s", run_id, error.message)

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside everything else; it ends with the service at the latest."""
        task = asyncio.create_task(work)
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
        driven = self._driven.get(run_id)
        if driven is not None and driven.task is not None:
            if not driven.cancelling and not run.status.ended:
                driven.cancelling = True
                driven.task.cancel()
            return run
        if run.status is RunStatus.WAITING:
            accepted = await self._store.runs.take(run_id, user.id, self._lease())
            if accepted is not None:
                self._drive(accepted, Begin.WITH_AN_ANSWER).cancelling = True
            return run
        queued = await self._store.runs.cancel_queued(run_id, user.id)
        if queued is None:
            if not run.status.ended:
                self._own(self._keep_cancelling(user, run_id))
            return run
        self._driven.pop(run_id, None)
        recorder = TurnRecorder(queued, self._owner, self._store.runs, self._log, self._count)
        recorder.tell(None, after=1)
        return queued

    async def cancel_conversation(self, user: User, conversation: Conversation) -> None:
        """Stop what runs in a conversation, and wait until it has stopped."""
        waiting: list[str] = [
            d.recorder.run.id for d in self._driven.values() if d.recorder.run.conversation_id == conversation.id
        ]
        active = conversation.active_run_id
        for run_id in {*waiting, *([active] if active else [])}:
            await self.cancel(user, run_id)
            await self.wait(user, run_id)

    # --- driving

    def _begin(self, accepted: Accepted) -> None:
        """Tell that a run is accepted, and drive it if its turn has come."""
        recorder = TurnRecorder(accepted.run, self._owner, self._store.runs, self._log, self._count)
        recorder.tell(accepted.message)
        self._driven[accepted.run.id] = Driven(recorder)
        if accepted.run.status is RunStatus.QUEUED:
            self._log.release(accepted.run.id)
        else:
            self._drive(accepted, Begin.FRESH)

    def _drive(self, accepted: Accepted, begin: Begin, *answers: Answer) -> Driven:
        """Start the task of a run whose lease is ours."""
        run = accepted.run
        driven = self._driven.get(run.id)
        if driven is None:
            driven = Driven(TurnRecorder(run, self._owner, self._store.runs, self._log, self._count))
            self._driven[run.id] = driven
            if begin is Begin.FRESH:
                driven.recorder.tell(accepted.message)
        elif driven.recorder.run is not run:
            driven.recorder.run = run
            driven.recorder.tell(accepted.message, after=1)  # it has been told here that it is accepted
        driven.answers.extend(answers)
        driven.policy = self._limits.policy(accepted.conversation.tool_approval)
        driven.task = asyncio.create_task(self._run(driven, accepted, begin), name=f"run {run.id}")
        return driven

    async def _run(self, driven: Driven, accepted: Accepted, begin: Begin) -> None:
        recorder = driven.recorder
        run = recorder.run
        current_run.set(run.id)
        try:
            try:
                await self._turn(driven, accepted, begin)
            except asyncio.CancelledError:
                if not driven.cancelling:
                    raise
                asyncio.current_task().uncancel()  # pyright: ignore[reportOptionalMemberAccess]
                if run.status is RunStatus.WAITING:  # it had just come to wait, and nobody holds its lease
                    await self._store.runs.take(run.id, run.user_id, self._lease())
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
            self._log.release(run.id)
        except Exception as error:
            logger.exception("the end of run %s could not be stored", run.id)
            recorder.emit("error", **describe(error).to_wire())
        finally:
            driven.ready.set()
            if self._driven.get(run.id) is driven:
                del self._driven[run.id]
        if recorder.queue_behind and not self._closing:
            await self._promote(run.conversation_id)

    async def _turn(self, driven: Driven, accepted: Accepted, begin: Begin) -> None:
        """Run the agent until the run has ended, or waits for an answer."""
        recorder, run = driven.recorder, driven.recorder.run
        conversation, newest = accepted.conversation, accepted.message
        if newest is not None and conversation.title is None:
            await self._store.conversations.update(run.conversation_id, run.user_id, {"title": title_from(newest.text)})
        while True:
            stored = run.last_seq
            user, budget = User(id=run.user_id, name=""), self._budget(run.model)
            skill = run.request.get("skill")
            parts = await self._prompts.parts(
                user, conversation, budget=budget, client_tools=run.client_tools, skill=skill
            )
            history = await load_context(
                self._store.messages, conversation, prompt=join(parts), budget=budget, newest=newest
            )
            if not driven.ready.is_set():
                recorder.has_open(open_calls(history))
            if begin is Begin.AFTER_A_CRASH:
                told = await told_so_far(self._store.messages, run)
                await recorder.resumed(told, _untold(run, history), self._traits_of(driven))
            driven.ready.set()  # not sooner: an answer is numbered behind the reset
            if begin is Begin.WITH_AN_ANSWER and driven.cancelling:
                await recorder.cancelled()
                return
            if begin is Begin.WITH_AN_ANSWER:
                await self._apply_first(driven)
            else:
                await self._agent.run(self._turn_of(driven, history, await self._prompts.has_skills(user)), recorder)
            if run.status.ended or await self._has_to_wait(driven, since=stored):
                return
            begin, newest = Begin.FRESH, None
            conversation = await self._conversation(user, run.conversation_id)

    def _traits_of(self, driven: Driven) -> Callable[[str], CallTraits]:
        """What a client is told of calls of a run beside their names and arguments."""
        client_tools = driven.recorder.run.client_tools
        return lambda name: driven.policy.traits(name, client_tools)

    def _turn_of(self, driven: Driven, history: Sequence[Message], has_skills: bool) -> Turn:
        run = driven.recorder.run
        return Turn(
            run_id=run.id,
            conversation_id=run.conversation_id,
            user_id=run.user_id,
            model=run.model,
            history=history,
            client_tools=run.client_tools,
            approvals=run.approvals,
            policy=driven.policy,
            has_skills=has_skills,
        )

    async def _apply_first(self, driven: Driven) -> None:
        """Store the answers that the run was taken up for."""
        async with driven.gate:
            for answer in driven.answers:
                try:
                    await self._apply(driven, answer)
                except AtelierError as error:
                    logger.warning("an answer came too late: %s", error.message)
            driven.answers.clear()

    async def _has_to_wait(self, driven: Driven, *, since: int) -> bool:
        """Whether calls are open that only an answer from outside can close; the run is left to it then.

        Raises:
            Internal: nothing is open, and nothing was stored after event number `since`.
        """
        recorder, run = driven.recorder, driven.recorder.run
        async with driven.gate:
            open_ = recorder.open_calls
            if not open_:
                if run.last_seq == since:
                    raise Internal("The agent stopped without an answer. Please try again.")
                return False
            ready = {key for key, value in run.approvals.items() if value["approved"]}
            if any(key in ready and call["name"] not in run.client_tools for key, call in open_.items()):
                return False
            await recorder.wait()
            del self._driven[run.id]
            self._log.release(run.id)
            return True

    async def _apply(self, driven: Driven, answer: Answer) -> None:
        """Store an answer to an open call, and tell of it.

        Raises:
            NotFound, InvalidFrame: the call is not open, or does not want such an answer.
        """
        recorder, run = driven.recorder, driven.recorder.run
        call = check_answer(run, recorder.open_calls, driven.policy, answer)
        if isinstance(answer, ToolResult):
            await recorder.tool_finished(tool_message(run, call, answer.result, is_error=answer.is_error))
            return
        run.approvals[answer.tool_call_id] = {"approved": answer.approved, "reason": answer.reason}
        try:
            if answer.approved:
                await recorder.save()
            else:
                reason = f" The reason: {answer.reason}" if answer.reason else ""
                refusal = f"The user refused this call.{reason}"
                message = tool_message(run, call, refusal, is_error=True)
                message.metadata["denied"] = True
                await recorder.tool_finished(message)
        except StorageUnavailable:
            del run.approvals[answer.tool_call_id]
            raise

    async def _promote(self, conversation_id: str) -> None:
        try:
            accepted = await self._store.runs.promote(conversation_id, self._lease())
        except StorageUnavailable as error:
            logger.warning("the queue of a conversation waits for the store: %s", error.message)
        else:
            if accepted is not None:
                self._drive(accepted, Begin.FRESH)

    async def _branch(self, run: Run, message: Message | None, head: Place) -> Run:
        """Begin a turn behind `head`, where a new branch begins."""
        accepted = await self._store.runs.accept(
            Acceptance(run=run, message=message, on_busy=OnBusy.REJECT, lease=self._lease(), go_on_from=head)
        )
        self._begin(accepted)
        return accepted.run

    async def _obey(self, command: dict[str, Any]) -> None:
        """Carry out what another process was asked for a run that this one drives."""
        driven = self._driven.get(command["run_id"])
        if driven is None or driven.task is None:
            return
        if command.get("cancel"):
            if not driven.cancelling and not driven.recorder.run.status.ended:
                driven.cancelling = True
                driven.task.cancel()
            return
        await driven.ready.wait()
        async with driven.gate:
            if self._driven.get(command["run_id"]) is driven:
                try:
                    await self._apply(driven, from_command(command))
                except AtelierError as error:
                    logger.info("an answer from another server changes nothing: %s", error.message)

    # --- leases

    def _lease(self) -> Lease:
        return Lease(self._owner, utc_now() + self._limits.lease)

    def _held(self) -> list[str]:
        """The conversations whose lease this process holds."""
        return [d.recorder.run.conversation_id for d in self._driven.values() if d.task is not None]

    async def look_for_lost_runs(self) -> None:
        """Take over the runs whose process is gone, and begin those whose turn has come."""
        for accepted in await self._store.runs.claim(self._lease(), now=utc_now(), driven=self._held()):
            if accepted.run.id not in self._driven:
                logger.info("run %s goes on after an interruption", accepted.run.id)
                self._drive(accepted, Begin.AFTER_A_CRASH if accepted.resumes else Begin.FRESH)

    async def _keep_leases(self) -> None:
        """Renew our leases three times in their life, and look for runs whose owner is gone."""
        while True:
            await asyncio.sleep(self._limits.lease.total_seconds() / 3)
            try:
                if held := self._held():
                    await self._store.runs.renew(self._lease(), held)
                await self.look_for_lost_runs()
                await self._drop_those_begun_elsewhere()
                await self._listeners.look_after()
            except StorageUnavailable as error:
                logger.warning("leases could not be renewed: %s", error.message)

    async def _drop_those_begun_elsewhere(self) -> None:
        """Forget runs that were queued here and whose turn another process has begun."""
        for run_id, driven in [(key, d) for key, d in self._driven.items() if d.task is None]:
            run = await self._store.runs.get(run_id, driven.recorder.run.user_id)
            if driven.task is None and (run is None or run.status is not RunStatus.QUEUED):
                self._driven.pop(run_id, None)

    # --- inside

    def _check_input(self, content: Content) -> None:
        if _is_blank(content):
            raise EmptyInput("The message is empty. Write something and send it again.")
        self._check_room()

    def _check_room(self) -> None:
        if self._closing or self.active >= self._limits.max_runs:
            raise RateLimited("The service is busy with as many answers as it can give at once. Try again in a moment.")

    def _model(self, conversation: Conversation | None, named: str | None, client_tools: Sequence[str]) -> str:
        """The model of a turn: the one that was named, else the conversation's, else the default."""
        model = named or (conversation.model if conversation else None) or self._catalog.default
        return self._catalog.check(model, tools=bool(client_tools))

    def _budget(self, model: str) -> int:
        """How many tokens of a conversation `model` is sent: room for its answer is left."""
        return context_budget(self._limits.context_tokens, self._catalog.facts(model))

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
        conversation = await self._store.conversations.get(conversation_id, user.id)
        if conversation is None:
            raise NotFound("There is no such conversation.")
        return conversation


def _skill(message: Message) -> dict[str, Any]:
    """The skill that the turn of a user message uses, as messages and runs note it."""
    return {"skill": message.metadata["skill"]} if isinstance(message.metadata.get("skill"), str) else {}


def _untold(run: Run, history: Sequence[Message]) -> list[Message]:
    """The messages of a run that are stored and that its outline does not know of: its process died in between."""
    places = [place for place, message in enumerate(history) if message.id == run.user_message_id]
    known = {entry[2] for entry in run.outline if entry[1] == "message"}
    return [m for m in history[places[-1] + 1 :] if m.seq is not None and m.id not in known] if places else []


def _is_blank(content: Content) -> bool:
    if isinstance(content, str):
        return not content.strip()
    return all(part.get("type") == "text" and not str(part.get("text", "")).strip() for part in content)
