"""The recorder of a turn: whatever happens in a run becomes an event, and what is finished is stored first."""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from app.core.domain.errors import AtelierError, StorageLost, StorageUnavailable
from app.core.domain.event import SUSPENDED, WAITING_FOR_STORAGE, RunEvent
from app.core.domain.ids import new_id
from app.core.domain.message import Message, MessageRole
from app.core.domain.run import Run, RunStatus
from app.core.domain.text import ENVELOPE_DEPTH, MAX_DEPTH, clean_json
from app.core.domain.time import utc_now
from app.core.domain.tool import CallTraits, Executor
from app.core.ports import Step
from app.core.services.repair import calls_of, interrupted
from app.core.services.replay import outline, tool_result_fields

logger = logging.getLogger(__name__)

_OF_THE_STEP = ("answer_id", "last_message_id", "finish_reason", "usage", "takeovers")
_ON_THE_SERVER = CallTraits()
CANCELLED_CALL = "The user stopped the run before this tool had a result."
FAILED_CALL = "The run failed before this tool had a result."
QUIET_SECONDS = 4.0
"""How long the store may be silent before listeners are told that it is waited for."""

REFUSED_SECONDS = 3.0
"""How long a step waits for a store that takes no writes: room that is being made is used, and nobody waits long."""

LAST_SECONDS = 1.0
"""How long a step may still take when the service is ending."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
_AWAY = "The database does not answer."


class CountTokens(Protocol):
    """Counts the tokens of an answer that is stored."""

    def __call__(self, user_id: str, model: str, usage: Mapping[str, Any], conversation_id: str = "") -> None:
        """Count them for a user, a model and a conversation."""
        ...


class IStepStore(Protocol):
    """Stores the steps of a run."""

    async def commit(self, step: Step) -> bool:
        """As `IRunRepository.commit`."""
        ...


class IEventLog(Protocol):
    """Takes the events of a run."""

    def append(self, event: RunEvent) -> None:
        """As `IRunLog.append`."""
        ...

    def restore(self, run_id: str, events: Sequence[RunEvent]) -> None:
        """As `IRunLog.restore`."""
        ...

    def notify(self, notice: RunEvent) -> None:
        """As `IRunLog.notify`."""
        ...

    async def settle(self) -> None:
        """As `IRunLog.settle`."""
        ...


class TurnRecorder:
    """Numbers and emits the events of one run, and stores its messages a step at a time.

    It is the only writer of its run. What a client is told is stored is stored; what it is told is
    streaming is stored when it is finished, or kept as a partial message when the run is cut short.
    """

    def __init__(
        self,
        run: Run,
        owner: str,
        runs: IStepStore,
        log: IEventLog,
        count: CountTokens | None = None,
        *,
        store_patience: float = 30.0,
    ) -> None:
        self.run = run
        self.queue_behind = False
        self._owner = owner
        self._runs = runs
        self._log = log
        self._count = count
        self._store_patience = store_patience
        self._attempt: asyncio.Timeout | None = None
        self._seq = self._told = run.last_seq
        self._model = run.model
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._open: dict[str, dict[str, Any]] = {}
        self._held: list[tuple[RunEvent, dict[str, Any]]] | None = None
        self._storing = asyncio.Lock()

    @property
    def partial(self) -> Message | None:
        """The answer as far as it is written; None between answers."""
        if not self._text and not self._reasoning:
            return None
        partial = Message(
            id=self.run.answer_id,
            conversation_id=self.run.conversation_id,
            role=MessageRole.ASSISTANT,
            content="".join(self._text),
        )
        if self._reasoning:
            partial.metadata["reasoning"] = "".join(self._reasoning)
        return partial

    # --- events

    def emit(self, type: str, **fields: Any) -> None:  # noqa: A002 - the wire's own word
        """Append the run's next event to its log."""
        self._seq += 1
        run = self.run
        event = RunEvent.of(run.id, run.conversation_id, self._seq, type, fields)
        outline(run.outline, event)
        if self._held is None:
            self._let_out(event)
        else:
            self._held.append((event, fields))

    def tell(self, message: Message | None, *, after: int = 0) -> None:
        """Tell what the run's outline says behind event number `after`; `message` is its user message."""
        run = self.run
        self._seq = run.last_seq
        for seq, kind, what in run.outline:
            if seq > after:
                fields = {"message": message.to_wire()} if kind == "message" and message is not None else what
                self._let_out(RunEvent.of(run.id, run.conversation_id, seq, kind, fields))

    def _let_out(self, event: RunEvent) -> None:
        self._told = event.seq
        self._log.append(event)

    def _notify(self, type: str, **fields: Any) -> None:  # noqa: A002 - the wire's own word
        """Tell listeners how things are: unlike an event, this is neither numbered nor stored."""
        run = self.run
        self._log.notify(RunEvent.notice(run.id, run.conversation_id, self._told, type, fields))

    async def resumed(
        self,
        told: Sequence[RunEvent],
        untold: Sequence[Message] = (),
        traits: Callable[[str], CallTraits] = lambda _: _ON_THE_SERVER,
    ) -> None:
        """Another process had begun this turn: what it streamed and did not store is void.

        It may have died before it had told what it had stored: `told` are the events of that. The reset is stored
        before it is told, so that whoever takes over after this process counts on from beyond it.
        """

        self._log.restore(self.run.id, told)

        def tell() -> None:
            self._seq = next_epoch(self._seq)
            self.emit("reset", message_id=self.run.answer_id)
            for message in untold:
                self._tell_stored(message, traits)

        await self._commit((), tell, is_step=False)

    def _tell_stored(self, message: Message, traits: Callable[[str], CallTraits]) -> None:
        """Tell of a message that was stored by a process that died before it could write down that it was."""
        if message.role is MessageRole.TOOL:
            self._tell_tool_result(message)
            return
        if reasoning := message.metadata.get("reasoning"):
            self.emit("reasoning", message_id=message.id, content=str(reasoning))
        if message.text:
            self.emit("token", message_id=message.id, content=message.text)
        self._model = str(message.metadata.get("model") or self._model)
        self._finish_answer(message)
        self.emit("message", message=message.to_wire())
        self._tell_calls(message, {call["id"]: traits(call["name"]) for call in message.tool_calls})

    def has_open(self, calls: Sequence[dict[str, Any]]) -> None:
        """The turn goes on from an assistant message whose `calls` have no result yet."""
        self._open = {call["id"]: call for call in calls}

    @property
    def open_calls(self) -> Mapping[str, dict[str, Any]]:
        """The calls, by their ids, that have no result yet."""
        return self._open

    # --- pieces of an answer (IAnswerSink)

    def begin_answer(self) -> str:
        """A new assistant message begins; its id."""
        self._model = self.run.model
        self._text.clear()
        self._reasoning.clear()
        return self.run.answer_id

    def text(self, piece: str) -> None:
        """A piece of the answer's text."""
        self._text.append(piece)
        self.emit("token", message_id=self.run.answer_id, content=piece)

    def reasoning(self, piece: str) -> None:
        """A piece of the model's reasoning."""
        self._reasoning.append(piece)
        self.emit("reasoning", message_id=self.run.answer_id, content=piece)

    def restart(self, model: str) -> None:
        """The answer begins anew, by `model`: what was told of it is void."""
        self._model = model
        if self._text or self._reasoning:
            self._text.clear()
            self._reasoning.clear()
            self.emit("reset", message_id=self.run.answer_id)

    # --- steps (ITurnRecorder)

    async def calls_tools(self, message: Message, traits: Mapping[str, CallTraits]) -> None:
        """Store an assistant message that calls tools, then tell of the message and of its calls."""

        def tell() -> None:
            self._finish_answer(message)
            self.emit("message", message=message.to_wire())
            self._tell_calls(message, traits)

        def stored() -> None:
            self._open = {call["id"]: call for call in calls_of(message)}

        await self._commit([message], tell, stored)

    def _tell_calls(self, message: Message, traits: Mapping[str, CallTraits]) -> None:
        for call in message.tool_calls:
            of_call = traits.get(call["id"], _ON_THE_SERVER)
            self.emit(
                "tool_call",
                message_id=message.id,
                tool_call_id=call["id"],
                name=call["name"],
                arguments=call["args"],
                executor=of_call.executor.value,
                needs_approval=of_call.needs_approval,
            )

    def tool_progress(self, tool_call_id: str, **progress: Any) -> None:
        """How far a tool is."""
        self.emit("tool_progress", tool_call_id=tool_call_id, **progress)

    async def tool_finished(self, message: Message) -> None:
        """Store a tool's answer, then tell of it."""
        await self._commit([message], lambda: self._tell_tool_result(message))

    async def approved(self, call: Mapping[str, Any]) -> None:
        """Store that the user has approved `call`, then tell whoever runs it that it may run now."""
        executor = Executor.CLIENT if call["name"] in self.run.client_tools else Executor.SERVER
        fields = {"name": call["name"], "arguments": call["args"], "executor": executor.value}
        await self._commit((), lambda: self.emit("tool_approved", tool_call_id=call["id"], **fields))

    async def wait(self) -> None:
        """Store that the run waits for answers to its open calls, and give its lease back.

        Nobody writes events of a run that waits, so those that there are have to be where others read them by then.
        """
        await self._log.settle()
        self.run.status = RunStatus.WAITING
        try:
            await self._commit((), lambda: None)
        except AtelierError:
            self.run.status = RunStatus.RUNNING
            raise

    async def close(self, messages: Sequence[Message]) -> None:
        """Store what is left of the turn and the run's end, then tell of it."""
        answer = messages[-1].id if messages else self.run.last_message_id

        def tell() -> None:
            for message in messages:
                if message.role is MessageRole.ASSISTANT:
                    self._finish_answer(message)
                self.emit("message", message=message.to_wire())
            usage = {"usage": self.run.usage} if self.run.usage else {}
            self.emit("complete", message_id=answer, finish_reason=self.run.finish_reason or "stop", **usage)

        await self._end(RunStatus.COMPLETED, messages, tell)

    # --- ends that are not the agent's

    async def cancelled(self) -> None:
        """The run was stopped: keep what there is, marked, and end it."""
        messages = self._loose_ends("cancelled", CANCELLED_CALL)

        def tell() -> None:
            self._tell_loose_ends(messages)
            last = self.run.last_message_id
            self.emit("cancelled", **({"message_id": last} if last else {}))

        await self._end(RunStatus.CANCELLED, messages, tell)

    async def failed(self, error: AtelierError) -> None:
        """The run cannot go on: keep what there is, marked, and end it with the reason."""
        self.run.error = error.to_wire()
        messages = self._loose_ends(error.code, FAILED_CALL)

        def tell() -> None:
            self._tell_loose_ends(messages)
            self.emit("error", **error.to_wire())

        try:
            await self._end(RunStatus.FAILED, messages, tell)
        except AtelierError:
            raise
        except Exception:
            logger.exception("run %s holds what cannot be stored, and is cleaned", self.run.id)
            self._clean(messages)
            await self._end(RunStatus.FAILED, messages, tell)

    def suspended(self, error: AtelierError) -> None:
        """The run cannot be stored and is left to whoever claims it. Nothing final is told: it has not ended."""
        told = error.to_wire()
        if error.retryable:
            told["message"] += " The answer is resumed by itself after that."
        self._notify(SUSPENDED, **told)

    # --- inside

    def _clean(self, messages: Sequence[Message]) -> None:
        """Replace what no store takes: a run that cannot be stored would be resumed for ever."""
        run = self.run
        for name in ("request", "approvals", "error", "outline"):
            setattr(run, name, clean_json(getattr(run, name), MAX_DEPTH + ENVELOPE_DEPTH))
        for message in messages:
            message.content = clean_json(message.content)
            message.metadata = clean_json(message.metadata)

    def _finish_answer(self, message: Message) -> None:
        run = self.run
        message.metadata["model"] = self._model
        run.last_message_id = message.id
        run.finish_reason = message.metadata.get("finish_reason")
        run.usage = _add_usage(run.usage, message.metadata.get("usage"))
        run.answer_id = new_id()

    def _loose_ends(self, finish_reason: str, call_reason: str) -> list[Message]:
        """The partial answer and the TOOL messages of calls that are still open."""
        conversation_id = self.run.conversation_id
        messages = [interrupted(conversation_id, call, call_reason) for call in self._open.values()]
        if (partial := self.partial) is not None:
            partial.metadata |= {"partial": True, "finish_reason": finish_reason}
            messages.append(partial)
        return messages

    def _tell_loose_ends(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if message.role is MessageRole.TOOL:
                self._tell_tool_result(message)
            else:
                self._finish_answer(message)
                self.emit("message", message=message.to_wire())

    def _tell_tool_result(self, message: Message) -> None:
        self.emit("tool_result", **tool_result_fields(message))
        self.emit("message", message=message.to_wire())

    async def _end(self, status: RunStatus, messages: Sequence[Message], tell: Callable[[], None]) -> None:
        self.run.status = status
        self.run.ended_at = utc_now()
        await self._commit(messages, tell)

    async def _commit(
        self,
        messages: Sequence[Message],
        tell: Callable[[], None],
        stored: Callable[[], None] | None = None,
        *,
        is_step: bool = True,
    ) -> None:
        """Store a step and tell of it. A cancellation waits until both are done: a step is never half told."""
        writing = asyncio.ensure_future(self._store_and_tell(messages, tell, stored, is_step=is_step))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await writing
            raise

    async def _store_and_tell(
        self,
        messages: Sequence[Message],
        tell: Callable[[], None],
        stored: Callable[[], None] | None,
        *,
        is_step: bool,
    ) -> None:
        """Number the events of a step, store them in outline with its messages, and only then let them out.

        A step shows that the run makes progress, so its takeovers are counted from 0 again; the reset of a takeover is none.

        Events that others emit meanwhile wait behind them, so that numbers leave in order. Where the store does
        not take the step, its events were never there.
        """
        async with self._storing:
            run = self.run
            before, length = self._seq, len(run.outline)
            kept = {name: getattr(run, name) for name in _OF_THE_STEP}
            held = self._held = []
            of_step = 0
            try:
                tell()
                of_step = len(held)
                run.last_seq = self._seq
                run.takeovers = 0 if is_step else run.takeovers
                await self._store(Step(run=run, owner=self._owner, messages=messages))
            except BaseException:
                self._held = None
                self._seq, run.last_seq = before, before
                del run.outline[length:]
                for name, value in kept.items():
                    setattr(run, name, value)
                for event, fields in held[of_step:]:
                    self.emit(event.type, **fields)
                raise
            self._held = None
            self._take_in(messages)
            if stored is not None:
                stored()
            places = {message.id: {"seq": message.seq, "parent_id": message.parent_id} for message in messages}
            for event, _ in held:
                if event.type == "message":
                    event.data["message"].update(places.get(event.data["message"]["id"], {}))
                self._let_out(event)

    def _take_in(self, messages: Sequence[Message]) -> None:
        """Messages are stored: a call that has its result is open no more, and an answer that is finished is not partial."""
        for message in messages:
            if message.role is MessageRole.TOOL:
                self._open.pop(message.metadata["tool_call_id"], None)
            elif message.role is MessageRole.ASSISTANT:
                self._text.clear()
                self._reasoning.clear()
                if self._count is not None and (usage := message.metadata.get("usage")):
                    self._count(self.run.user_id, message.metadata["model"], usage, self.run.conversation_id)

    async def _store(self, step: Step) -> None:
        """Store a step, and wait for a store that is away; listeners are told that it is waited for.

        Raises:
            StorageLost: it did not come back in time.
        """
        loop = asyncio.get_running_loop()
        began, pause = loop.time(), FIRST_PAUSE
        telling = loop.call_later(QUIET_SECONDS, self._waits_for_the_store, _AWAY)
        try:
            while True:
                try:
                    async with asyncio.timeout_at(began + max(self._store_patience, QUIET_SECONDS)) as self._attempt:
                        self.queue_behind = await self._runs.commit(step)
                    return
                except (StorageUnavailable, TimeoutError) as error:
                    reason = error if isinstance(error, StorageUnavailable) else StorageUnavailable(_AWAY)
                    patience = self._store_patience if reason.may_pass else min(self._store_patience, REFUSED_SECONDS)
                    if not reason.retryable or loop.time() + pause >= began + patience:
                        raise StorageLost(reason) from error
                    if pause == FIRST_PAUSE:
                        telling.cancel()
                        self._waits_for_the_store(reason.message)
                await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - it only spreads the attempts
                pause = min(pause * 2, LONGEST_PAUSE)
        finally:
            telling.cancel()
            self._attempt = None

    def stop_waiting(self) -> None:
        """Give a store that is away up: the service is ending."""
        self._store_patience = 0.0
        if self._attempt is not None:
            self._attempt.reschedule(asyncio.get_running_loop().time() + LAST_SECONDS)

    def _waits_for_the_store(self, message: str) -> None:
        logger.warning("run %s waits for the store: %s", self.run.id, message)
        self._notify(WAITING_FOR_STORAGE, message=message)


EPOCH = 1_000_000


def next_epoch(seq: int) -> int:
    """Where a process that takes a run over goes on counting: beyond whatever the dead one may have sent."""
    return (seq // EPOCH + 1) * EPOCH


def _add_usage(total: dict[str, Any] | None, usage: dict[str, Any] | None) -> dict[str, Any] | None:
    if not usage:
        return total
    total = total or {}
    return {key: total.get(key, 0) + usage.get(key, 0) for key in ("input_tokens", "output_tokens", "total_tokens")}
