"""The runs of this process: their turns from the first step to the last, and the leases they are driven under."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from app.core.domain.conversation import Conversation, existing, title_from
from app.core.domain.errors import (
    AtelierError,
    Internal,
    Interrupted,
    LeaseLost,
    StorageLost,
    StorageUnavailable,
    describe,
)
from app.core.domain.ids import new_id
from app.core.domain.message import Message
from app.core.domain.run import Run, RunStatus
from app.core.domain.time import utc_now
from app.core.domain.tool import CallTraits
from app.core.domain.user import User
from app.core.log_context import current_run
from app.core.ports import Accepted, IAgent, IModelCatalog, IRunLog, Lease, Store, Turn
from app.core.services.answers import Answer, ToolResult, check_answer, tool_message
from app.core.services.context import BLOCK, context_budget, load_context
from app.core.services.driven import Begin, Driven
from app.core.services.prompt import PromptService, join
from app.core.services.repair import open_calls
from app.core.services.replay import told_so_far
from app.core.services.run_limits import RunLimits
from app.core.services.turn import CountTokens, TurnRecorder

logger = logging.getLogger(__name__)

MAX_TAKEOVERS = 3
"""How often in a row a run is taken over without a step in between that was stored."""


class RunDriver:
    """Drives runs until they end, wait for the user, or are handed on to another process.

    Attributes:
        runs: what this process drives, and what waits here for its turn, by the run's id.
    """

    def __init__(
        self,
        store: Store,
        log: IRunLog,
        agent: IAgent,
        catalog: IModelCatalog,
        limits: RunLimits,
        prompts: PromptService,
        count: CountTokens | None,
    ) -> None:
        self.runs: dict[str, Driven] = {}
        self._store = store
        self._log = log
        self._agent = agent
        self._catalog = catalog
        self._limits = limits
        self._prompts = prompts
        self._count = count
        self._owner = new_id()
        self._to_be_cancelled: set[str] = set()
        self._is_closing = False

    @property
    def active(self) -> int:
        """Runs that are driven now."""
        return sum(driven.task is not None for driven in self.runs.values())

    @property
    def is_closing(self) -> bool:
        """Whether no run is begun any more."""
        return self._is_closing

    @property
    def has_room(self) -> bool:
        """Whether one run more can be driven."""
        return self.active < self._limits.max_runs

    @property
    def has_room_to_wait(self) -> bool:
        """Whether one run more can wait here for its turn."""
        return len(self.runs) - self.active < self._limits.max_queued

    def drives(self, run_id: str) -> bool:
        """Whether this process drives the run."""
        driven = self.runs.get(run_id)
        return driven is not None and driven.task is not None

    def lease(self) -> Lease:
        """What a conversation is driven under from now on."""
        return Lease(self._owner, utc_now() + self._limits.lease)

    # --- runs come

    def begin(self, accepted: Accepted) -> None:
        """Tell that a run is accepted, and drive it if its turn has come."""
        recorder = self._recorder(accepted.run)
        recorder.tell(accepted.message)
        self.runs[accepted.run.id] = Driven(recorder)
        if accepted.run.status is RunStatus.QUEUED:
            self._log.release(accepted.run.id)
        else:
            self._drive(accepted, Begin.FRESH)

    async def take_up(self, user: User, run_id: str, *answers: Answer, cancelling: bool = False) -> bool:
        """Drive a run that waits for the user, for answers or to stop it; False where another process drives it."""
        accepted = await self._store.runs.take(run_id, user.id, self.lease())
        if accepted is not None:
            self._drive(accepted, Begin.WITH_AN_ANSWER, *answers).cancelling = cancelling
        return accepted is not None

    async def look_after(self) -> None:
        """Renew the leases, and look for runs whose process is gone.

        Raises:
            StorageUnavailable: it could not be done now.
        """
        if held := self._held():
            await self._store.runs.renew(self.lease(), held)
        await self.look_for_lost_runs()
        await self._drop_those_begun_elsewhere()

    async def look_for_lost_runs(self) -> None:
        """Take over the runs whose process is gone, and begin those whose turn has come."""
        if self._is_closing:
            return
        for accepted in await self._store.runs.claim(self.lease(), now=utc_now(), driven=self._held()):
            if self.drives(accepted.run.id):
                continue
            logger.info("run %s goes on after an interruption", accepted.run.id)
            try:
                self._drive(accepted, Begin.AFTER_A_CRASH if accepted.resumes else Begin.FRESH)
            except Exception:
                logger.exception("run %s could not be resumed", accepted.run.id)

    # --- runs are told something

    async def hand(self, run_id: str, answer: Answer) -> bool:
        """Store an answer to an open call of a run and tell of it; False where this process does not drive the run.

        Raises:
            NotFound, InvalidFrame: the call is not open, or does not want such an answer.
        """
        while (driven := self.runs.get(run_id)) is not None and driven.task is not None:
            await driven.ready.wait()
            async with driven.gate:
                if self.runs.get(run_id) is driven:
                    await self._apply(driven, answer)
                    return True
            # it has come to wait, or to its end, in between
        return False

    def interrupt(self, run_id: str) -> bool:
        """Have a run stopped; False where this process does not drive it."""
        driven = self.runs.get(run_id)
        if driven is None or driven.task is None:
            return False
        if not driven.cancelling and not driven.recorder.run.status.ended:
            driven.cancelling = True
            driven.task.cancel()
        return True

    async def drop_queued(self, user: User, run_id: str) -> Run | None:
        """Have a run not begin that waits for its turn; None where its turn has come."""
        queued = await self._store.runs.cancel_queued(run_id, user.id)
        if queued is not None:
            self.runs.pop(run_id, None)
            self._recorder(queued).tell(None, after=1)
        return queued

    # --- runs go

    def close(self) -> None:
        """Take no more runs."""
        self._is_closing = True

    async def finish(self, seconds: float) -> None:
        """Take no more runs, and wait until those that are driven have ended or wait for the user; at most `seconds`."""
        self.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while tasks := [driven.task for driven in self.runs.values() if driven.task is not None]:
                    await asyncio.wait(tasks)

    async def stop(self) -> None:
        """Stop driving: every run is left where its last stored step is, for the next process to go on."""
        self.close()
        held = self._held()
        tasks = [driven.task for driven in self.runs.values() if driven.task is not None]
        for driven in self.runs.values():
            driven.recorder.stop_waiting()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if held:
            await self._store.runs.renew(Lease(self._owner, utc_now()), held)

    # --- inside

    def _drive(self, accepted: Accepted, begin: Begin, *answers: Answer) -> Driven:
        """Start the task of a run whose lease is ours."""
        run = accepted.run
        driven = self.runs.get(run.id)
        if driven is None:
            driven = Driven(self._recorder(run))
            self.runs[run.id] = driven
            if begin is Begin.FRESH:
                driven.recorder.tell(accepted.message)
        elif driven.recorder.run is not run:
            driven.recorder.run = run
            driven.recorder.tell(accepted.message, after=1)  # it has been told here that it is accepted
        driven.answers.extend(answers)
        driven.cancelling = run.id in self._to_be_cancelled
        self._to_be_cancelled.discard(run.id)
        driven.policy = self._limits.policy(accepted.conversation.tool_approval, run.client_tools)
        driven.options = accepted.conversation.model_options.in_chat_words()
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
                    await self._store.runs.take(run.id, run.user_id, self.lease())
                if not run.status.ended:
                    await recorder.cancelled()
            except (LeaseLost, StorageLost):
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
        except StorageUnavailable as error:
            logger.error("run %s is left until the store is back: %s", run.id, error.message)
            self._suspend(driven, error.reason if isinstance(error, StorageLost) else error)
        except Exception as error:
            logger.exception("the end of run %s could not be stored", run.id)
            self._suspend(driven, describe(error))
        finally:
            driven.ready.set()
            if self.runs.get(run.id) is driven:
                del self.runs[run.id]
        if recorder.queue_behind and not self._is_closing:
            await self.promote(run.conversation_id)

    def _suspend(self, driven: Driven, error: AtelierError) -> None:
        """Leave a run whose end could not be stored to whoever claims it."""
        run_id = driven.recorder.run.id
        if driven.cancelling:
            self._to_be_cancelled.add(run_id)
        driven.recorder.suspended(error)
        self._log.release(run_id)

    async def _turn(self, driven: Driven, accepted: Accepted, begin: Begin) -> None:
        """Run the agent until the run has ended, or waits for an answer."""
        recorder, run = driven.recorder, driven.recorder.run
        conversation, newest = accepted.conversation, accepted.message
        if begin is Begin.AFTER_A_CRASH and run.takeovers > MAX_TAKEOVERS:
            await self._give_up(driven, conversation)
        if newest is not None and conversation.title is None:
            await self._store.conversations.update(run.conversation_id, run.user_id, {"title": title_from(newest.text)})
        while True:
            stored = run.last_seq
            user = User(id=run.user_id, name="")
            budget = context_budget(self._limits.context_tokens, self._catalog.facts(run.model))
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
            if begin is not Begin.FRESH and driven.cancelling:
                await recorder.cancelled()
                return
            if begin is Begin.WITH_AN_ANSWER:
                await self._apply_first(driven)
            else:
                await self._agent.run(self._turn_of(driven, history, await self._prompts.has_skills(user)), recorder)
            if run.status.ended or await self._has_to_wait(driven, since=stored):
                return
            begin, newest = Begin.FRESH, None
            conversation = existing(await self._store.conversations.get(run.conversation_id, run.user_id))

    async def _give_up(self, driven: Driven, conversation: Conversation) -> None:
        """End a run whose process was lost again and again: it may be what ends the processes.

        No more of the conversation is read than the end of the run needs.

        Raises:
            Interrupted: always.
        """
        recorder, run = driven.recorder, driven.recorder.run
        newest = await self._store.messages.page(conversation, limit=BLOCK)
        recorder.has_open(open_calls(newest))
        told = await told_so_far(self._store.messages, run)
        await recorder.resumed(told, _untold(run, newest), self._traits_of(driven))
        driven.ready.set()
        raise Interrupted(
            f"The service was interrupted {run.takeovers} times while it worked on this answer, so it was given up. "
            "Your message is kept. Try again, or ask another model."
        )

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
            options=driven.options,
            budget=context_budget(self._limits.context_tokens, self._catalog.facts(run.model)),
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
            del self.runs[run.id]
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
                await recorder.approved(call)
            else:
                reason = f" The reason: {answer.reason}" if answer.reason else ""
                refusal = f"The user refused this call.{reason}"
                message = tool_message(run, call, refusal, is_error=True)
                message.metadata["denied"] = True
                await recorder.tool_finished(message)
        except Exception:
            # It is not stored, so nobody has said it: kept here, it would fail every later step of the run as well.
            del run.approvals[answer.tool_call_id]
            raise

    async def promote(self, conversation_id: str) -> None:
        """Begin the next run in the queue of an idle conversation."""
        try:
            accepted = await self._store.runs.promote(conversation_id, self.lease())
        except StorageUnavailable as error:
            logger.warning("the queue of a conversation waits for the store: %s", error.message)
        except Exception:
            logger.exception("the next run of conversation %s could not begin", conversation_id)
        else:
            if accepted is not None:
                self._drive(accepted, Begin.FRESH)

    async def _drop_those_begun_elsewhere(self) -> None:
        """Forget runs that were queued here and whose turn another process has begun."""
        for run_id, driven in [(key, d) for key, d in self.runs.items() if d.task is None]:
            run = await self._store.runs.get(run_id, driven.recorder.run.user_id)
            if driven.task is None and (run is None or run.status is not RunStatus.QUEUED):
                self.runs.pop(run_id, None)

    def _held(self) -> list[str]:
        """The conversations whose lease this process holds."""
        return [d.recorder.run.conversation_id for d in self.runs.values() if d.task is not None]

    def _recorder(self, run: Run) -> TurnRecorder:
        return TurnRecorder(
            run,
            self._owner,
            self._store.runs,
            self._log,
            self._count,
            store_patience=self._limits.store_patience,
        )


def _untold(run: Run, history: Sequence[Message]) -> list[Message]:
    """The messages of a run that are stored and that its outline does not know of: its process died in between."""
    places = [place for place, message in enumerate(history) if message.id == run.user_message_id]
    known = {entry[2] for entry in run.outline if entry[1] == "message"}
    return [m for m in history[places[-1] + 1 :] if m.seq is not None and m.id not in known] if places else []
