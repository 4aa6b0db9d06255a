"""Leases in MongoDB: processes that die or stall before any single operation, and what their successors make of it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from mongomock_motor import AsyncMongoMockClient
from pymongo.errors import PyMongoError

from app.adapters.outbound.persistence.mongo import MongoStore
from app.adapters.outbound.persistence.mongo.runs import MongoRuns
from app.core.domain.conversation import Conversation
from app.core.domain.errors import AtelierError
from app.core.domain.ids import new_id
from app.core.domain.message import Message, MessageRole
from app.core.domain.run import OnBusy, Run, RunStatus
from app.core.domain.time import utc_now
from app.core.ports import Acceptance, Accepted, Lease, Place, Step
from app.core.services.checker import check

pytestmark = pytest.mark.timeout(120)


class Stalling:
    """The collections as one process sees them: before operation `at` it stalls until it is released, if ever."""

    def __init__(self, collections: Any, at: int) -> None:
        self._collections = collections
        self._left = at
        self.stalled = asyncio.Event()
        self.released = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return _Collection(getattr(self._collections, name), self)

    async def pass_by(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.stalled.set()
            await self.released.wait()


class _Collection:
    def __init__(self, collection: Any, stalling: Stalling) -> None:
        self._collection = collection
        self._stalling = stalling

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._collection, name)
        if not asyncio.iscoroutinefunction(method):
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._stalling.pass_by()
            return await method(*args, **kwargs)

        return call


async def open_store() -> MongoStore:
    async def nothing() -> None:
        pass

    store = MongoStore(AsyncMongoMockClient()["test"], nothing)
    await store.collections.make_indexes()
    return store


def lease(owner: str, seconds: float = 30) -> Lease:
    return Lease(owner, utc_now() + timedelta(seconds=seconds))


def expired(owner: str) -> Lease:
    return lease(owner, -1)


def user_message(conversation_id: str, text: str) -> Message:
    return Message(conversation_id=conversation_id, role=MessageRole.USER, content=text)


async def accept(
    runs: MongoRuns, conversation: Conversation | str, held: Lease, text: str = "hi", place: Place | None = None
) -> Accepted:
    create = conversation if isinstance(conversation, Conversation) else None
    message = user_message(create.id if create else str(conversation), text)
    run = Run(
        conversation_id=message.conversation_id,
        user_id="ann",
        model="demo@offline",
        message_id=message.id,
        request={"content": text},
    )
    on_busy = OnBusy.QUEUE if place is None else OnBusy.REJECT
    return await runs.accept(
        Acceptance(run=run, message=message, on_busy=on_busy, lease=held, create=create, go_on_from=place)
    )


def say(run: Run, kind: str, what: Any) -> None:
    run.last_seq += 1
    run.outline.append([run.last_seq, kind, what])


async def finish(runs: MongoRuns, run: Run, owner: str, text: str = "yes") -> None:
    """End a run with an answer, as the recorder does it."""
    answer = Message(id=run.answer_id, conversation_id=run.conversation_id, role=MessageRole.ASSISTANT, content=text)
    run.status, run.ended_at = RunStatus.COMPLETED, utc_now()
    say(run, "message", answer.id)
    say(run, "complete", {})
    await runs.commit(Step(run=run, owner=owner, messages=[answer]))


@dataclass
class World:
    """A store, and what happened in it before the process under test acts."""

    store: MongoStore
    conversation_id: str = ""
    run: Run | None = None
    queued: list[Run] = field(default_factory=list[Run])

    @property
    def active(self) -> Run:
        assert self.run is not None
        return self.run


Prepare = Callable[[World], Awaitable[None]]
Act = Callable[[World, MongoRuns], Awaitable[Any]]


async def nothing_before(world: World) -> None:
    world.conversation_id = Conversation(user_id="ann").id


async def an_idle_conversation(world: World) -> None:
    first = await accept(world.store.runs, Conversation(user_id="ann"), lease("old"))
    world.conversation_id = first.run.conversation_id
    await finish(world.store.runs, first.run, "old")
    world.run = first.run


async def a_running_turn(world: World) -> None:
    first = await accept(world.store.runs, Conversation(user_id="ann"), expired("slow"))
    world.conversation_id, world.run = first.run.conversation_id, first.run


async def a_queue(world: World) -> None:
    first = await accept(world.store.runs, Conversation(user_id="ann"), lease("old"))
    world.conversation_id = first.run.conversation_id
    for text in ("second", "third"):
        world.queued.append((await accept(world.store.runs, world.conversation_id, lease("old"), text)).run)
    await finish(world.store.runs, first.run, "old")


async def a_queue_whose_first_is_cancelled(world: World) -> None:
    await a_queue(world)
    assert await world.store.runs.cancel_queued(world.queued[0].id, "ann") is not None


async def a_waiting_run(world: World) -> None:
    await a_running_turn(world)
    call = {"id": "c1", "name": "draw", "args": {}, "type": "tool_call"}
    asks = Message(
        conversation_id=world.conversation_id,
        role=MessageRole.ASSISTANT,
        content="",
        metadata={"tool_calls": [call]},
    )
    world.active.status = RunStatus.WAITING
    say(world.active, "message", asks.id)
    await world.store.runs.commit(Step(run=world.active, owner="slow", messages=[asks]))


async def create_and_send(world: World, runs: MongoRuns) -> Any:
    return await accept(runs, Conversation(id=world.conversation_id, user_id="ann"), expired("slow"), "first")


async def send(world: World, runs: MongoRuns) -> Any:
    return await accept(runs, world.conversation_id, expired("slow"), "another")


async def edit(world: World, runs: MongoRuns) -> Any:
    return await accept(runs, world.conversation_id, expired("slow"), "instead", Place(0, None))


async def promote(world: World, runs: MongoRuns) -> Any:
    return await runs.promote(world.conversation_id, expired("slow"))


async def end_the_turn(world: World, runs: MongoRuns) -> Any:
    run = world.active
    call = {"id": "c1", "name": "add", "args": {}, "type": "tool_call"}
    asks = Message(
        id=run.answer_id,
        conversation_id=run.conversation_id,
        role=MessageRole.ASSISTANT,
        content="",
        metadata={"tool_calls": [call]},
    )
    result = Message(
        conversation_id=run.conversation_id,
        role=MessageRole.TOOL,
        content="3",
        metadata={"tool_call_id": "c1", "name": "add", "status": "success"},
    )
    run.status, run.ended_at = RunStatus.FAILED, utc_now()
    for message in (asks, result):
        say(run, "message", message.id)
    say(run, "error", {})
    return await runs.commit(Step(run=run, owner="slow", messages=[asks, result]))


async def take(world: World, runs: MongoRuns) -> Any:
    return await runs.take(world.active.id, "ann", expired("slow"))


ACTS: dict[str, tuple[Prepare, Act]] = {
    "create and send": (nothing_before, create_and_send),
    "send": (an_idle_conversation, send),
    "edit": (an_idle_conversation, edit),
    "promote": (a_queue, promote),
    "promote past a cancelled run": (a_queue_whose_first_is_cancelled, promote),
    "end the turn": (a_running_turn, end_the_turn),
    "take a waiting run": (a_waiting_run, take),
}


async def drive_all(store: MongoStore, owner: str) -> None:
    """Claim what can be claimed, and bring it to its end, until nothing is left to do."""
    while claimed := [*await store.runs.claim(lease(owner), now=utc_now()), *await take_waiting(store, owner)]:
        for accepted in claimed:
            run = accepted.run
            if accepted.resumes:
                run.last_seq = 1_000_000 * (run.last_seq // 1_000_000 + 1)
                say(run, "reset", {"message_id": run.answer_id})
                run.answer_id = new_id()
            if any(call["name"] == "draw" for call in await open_calls(store, run.conversation_id)):
                await store.runs.commit(Step(run=run, owner=owner, messages=[result_of_c1(run)]))
            await finish(store.runs, run, owner)
            while (next_one := await store.runs.promote(run.conversation_id, lease(owner))) is not None:
                await finish(store.runs, next_one.run, owner)


async def take_waiting(store: MongoStore, owner: str) -> list[Accepted]:
    """Take the runs that wait for an answer, as the one who brings it does."""
    rows = await store.collections.runs.find({"status": "waiting"}).to_list(None)
    taken = [await store.runs.take(row["_id"], "ann", lease(owner)) for row in rows]
    return [accepted for accepted in taken if accepted is not None]


async def open_calls(store: MongoStore, conversation_id: str) -> list[dict[str, Any]]:
    last = (await store.messages.get_by_conversation_id(conversation_id))[-1]
    return last.tool_calls


def result_of_c1(run: Run) -> Message:
    return Message(
        conversation_id=run.conversation_id,
        role=MessageRole.TOOL,
        content="drawn",
        metadata={"tool_call_id": "c1", "name": "draw", "status": "success"},
    )


async def assert_sound(world: World, acknowledged: Any) -> None:
    store = world.store
    assert await check(store, world.conversation_id, "ann") == []
    conversation = await store.conversations.get(world.conversation_id, "ann")
    runs = await store.runs.of_conversation(world.conversation_id)
    assert conversation is None or conversation.active_run_id is None
    assert all(run.status.ended for run in runs), [run.status for run in runs]
    stored = {message.id for message in await store.messages.all(world.conversation_id, limit=100)}
    assert all(run.user_message_id in stored for run in runs)
    if isinstance(acknowledged, Accepted):
        assert acknowledged.run.message_id in stored
    assert await store.collections.runs.count_documents({"place_in_queue": {"$ne": None}}) == 0


@pytest.mark.parametrize("act", ACTS)
async def test_a_process_dies_before_any_operation(act: str):
    prepare, do = ACTS[act]
    for at in range(1, 40):
        world = World(await open_store())
        await prepare(world)
        view = Stalling(world.store.collections, at)
        acting = asyncio.create_task(do(world, MongoRuns(view)))  # type: ignore[arg-type]
        stalled = asyncio.create_task(view.stalled.wait())
        await asyncio.wait([acting, stalled], return_when=asyncio.FIRST_COMPLETED)
        stalled.cancel()
        was_stalled = not acting.done()
        acting.cancel()
        await asyncio.gather(acting, return_exceptions=True)
        await drive_all(world.store, "next")
        await assert_sound(world, None)
        if not was_stalled:
            break
    assert at > 1


@pytest.mark.parametrize("act", ACTS)
async def test_a_process_stalls_before_any_operation_while_another_takes_over(act: str):
    prepare, do = ACTS[act]
    for at in range(1, 40):
        world = World(await open_store())
        await prepare(world)
        view = Stalling(world.store.collections, at)
        acting = asyncio.create_task(do(world, MongoRuns(view)))  # type: ignore[arg-type]
        stalled = asyncio.create_task(view.stalled.wait())
        await asyncio.wait([acting, stalled], return_when=asyncio.FIRST_COMPLETED)
        stalled.cancel()
        was_stalled = not acting.done()
        await drive_all(world.store, "next")
        view.released.set()
        [acknowledged] = await asyncio.gather(acting, return_exceptions=True)
        if isinstance(acknowledged, BaseException) and not isinstance(acknowledged, AtelierError | PyMongoError):
            raise acknowledged
        await drive_all(world.store, "last")
        await assert_sound(world, acknowledged)
        if not was_stalled:
            break
    assert at > 1


@pytest.mark.parametrize("act", ACTS)
async def test_the_process_that_takes_over_dies_too(act: str):
    prepare, do = ACTS[act]
    for at in range(1, 9):
        for then_at in range(1, 30):
            world = World(await open_store())
            await prepare(world)
            for number, work in ((at, do), (then_at, claim)):
                view = Stalling(world.store.collections, number)
                acting = asyncio.create_task(work(world, MongoRuns(view)))  # type: ignore[arg-type]
                stalled = asyncio.create_task(view.stalled.wait())
                await asyncio.wait([acting, stalled], return_when=asyncio.FIRST_COMPLETED)
                stalled.cancel()
                was_stalled = not acting.done()
                acting.cancel()
                await asyncio.gather(acting, return_exceptions=True)
            await drive_all(world.store, "last")
            await assert_sound(world, None)
            if not was_stalled:
                break


async def claim(world: World, runs: MongoRuns) -> Any:
    return await runs.claim(expired("second"), now=utc_now())


async def test_a_cancel_that_meets_a_promotion_is_not_overwritten():
    world = World(await open_store())
    await a_queue(world)
    second = world.queued[0]
    for at in range(1, 20):
        world = World(await open_store())
        await a_queue(world)
        second = world.queued[0]
        view = Stalling(world.store.collections, at)
        acting = asyncio.create_task(promote(world, MongoRuns(view)))  # type: ignore[arg-type]
        stalled = asyncio.create_task(view.stalled.wait())
        await asyncio.wait([acting, stalled], return_when=asyncio.FIRST_COMPLETED)
        stalled.cancel()
        was_stalled = not acting.done()
        cancelled = await world.store.runs.cancel_queued(second.id, "ann")
        view.released.set()
        begun = await acting
        kept = await world.store.runs.get(second.id, "ann")
        assert kept is not None
        if cancelled is not None:
            assert kept.status is RunStatus.CANCELLED
            assert begun is None or begun.run.id != second.id
        else:
            assert begun is not None
            assert begun.run.id == second.id
        await drive_all(world.store, "next")
        await assert_sound(world, None)
        if not was_stalled:
            break


async def test_a_database_with_ended_runs_in_the_queue_is_healed():
    world = World(await open_store())
    await a_queue(world)
    second, third = world.queued
    collections = world.store.collections
    await drive_all(world.store, "old")
    # As earlier versions left it: the run was mended and ended, and kept its place.
    await collections.runs.update_one({"_id": second.id}, {"$set": {"place_in_queue": 1}, "$unset": {"request": ""}})
    later = (await accept(world.store.runs, world.conversation_id, expired("new"), "later")).run
    await drive_all(world.store, "new")
    await assert_sound(world, None)
    kept = await world.store.runs.get(later.id, "ann")
    assert kept is not None
    assert kept.status is RunStatus.COMPLETED
    assert third.id != later.id


async def test_a_turn_that_answers_again_with_a_skill_survives_a_crash():
    world = World(await open_store())
    await an_idle_conversation(world)
    first = world.active
    again = Run(
        conversation_id=first.conversation_id,
        user_id="ann",
        model="demo@offline",
        message_id="again",
        input_id=first.message_id,
        request={"skill": "photos"},
    )
    await world.store.runs.accept(
        Acceptance(
            run=again,
            message=None,
            on_busy=OnBusy.REJECT,
            lease=expired("dead"),
            go_on_from=Place(1, first.message_id),
        )
    )
    await drive_all(world.store, "next")
    await assert_sound(world, None)
