"""Runs in MongoDB: every promise kept by the order of single writes, so that any topology will do.

The conversation's document holds the lease, and whoever writes for a run first takes places for its messages there, on
the condition that the lease is still its own. What a crash can leave behind is a place without a message, or a message
without its run's last word; `claim` mends both from what is stored.

A process may also be slow: alive, but without its lease, with writes still on their way. Each time the lease is taken it
gets a new fencing token, which the run's document repeats; every later write names the token it was begun under. Messages
are fenced by their places: whoever takes over voids the places that hold no message, so that a late insert fails.
"""

import asyncio
import logging
from collections.abc import Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, DESCENDING, ReturnDocument
from pymongo.errors import AutoReconnect, BulkWriteError, ConnectionFailure, DuplicateKeyError, PyMongoError

from app.adapters.outbound.persistence.conflicts import check_same, in_several_conversations, without_a_run
from app.adapters.outbound.persistence.mongo.collections import Collections, Document, guarded
from app.adapters.outbound.persistence.mongo.documents import (
    LAST_PLACE,
    NOBODY,
    RUN_STATE,
    begun_request,
    branch_changes,
    from_conversation,
    from_lease,
    from_run,
    place,
    run_changes,
    to_conversation,
    to_run,
    to_run_state,
    touched,
    void_message,
    void_run,
    waits,
)
from app.adapters.outbound.persistence.mongo.messages import insert, stored
from app.adapters.outbound.persistence.skipped import Skipped
from app.core.domain.conversation import clip_spans
from app.core.domain.errors import ConversationBusy, LeaseLost, NotFound, StorageUnavailable
from app.core.domain.message import Message
from app.core.domain.run import OnBusy, Run, RunState, RunStatus
from app.core.domain.time import to_micros
from app.core.ports import Acceptance, Accepted, Lease, Place, Step

_QUEUE_ORDER = [("place_in_queue", ASCENDING), ("created_at", ASCENDING), ("_id", ASCENDING)]
_IN_QUEUE = [RunStatus.QUEUED.value, RunStatus.CANCELLED.value]
"""The states of runs that a queue may hold: the message of one that was cancelled is still to be stored."""

_CLAIMED_AT_ONCE = 1_000
_PLACES_OF_A_STEP = 256
"""At most so many places are taken for one step."""

logger = logging.getLogger(__name__)


class MongoRuns:
    """An `IRunRepository` over MongoDB."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections
        self._doubtful: set[str] = set()
        self._skipped = Skipped()

    @guarded
    async def accept(self, acceptance: Acceptance) -> Accepted:
        run, lease = acceptance.run, from_lease(acceptance.run.id, acceptance.lease)
        earlier, waiting = await asyncio.gather(
            self._earlier(acceptance),
            self._next_in_queue(run.conversation_id),
        )
        if earlier is not None:
            return earlier
        if waiting is not None:
            before = None
        elif acceptance.go_on_from is not None:
            before = await self._take_at(acceptance, acceptance.go_on_from, lease)
        else:
            before = await self._take(acceptance, lease)
        try:
            if before is None:
                return await self._queue(acceptance)
            return await self._begin(before, acceptance, lease)
        except DuplicateKeyError as error:
            # The same message came twice at the same moment, and the other one was first.
            if before is not None:
                await self._release(run.conversation_id, lease)
            first = await self._earlier(acceptance)
            if first is None:
                raise _too_slow() from error
            return first

    @guarded
    async def promote(self, conversation_id: str, lease: Lease) -> Accepted | None:
        return await self._promote(conversation_id, lease)

    @guarded
    async def commit(self, step: Step) -> bool:
        # Where the answer of the server was lost, nobody knows what it did: before it is tried again, that is found out.
        run_id = step.run.id
        if run_id in self._doubtful:
            is_done = await self._correct(step)
            self._doubtful.discard(run_id)
            if is_done:
                return await self._next_in_queue(step.run.conversation_id) is not None
        try:
            return await self._commit(step)
        except (PyMongoError, asyncio.CancelledError):
            self._doubtful.add(run_id)
            raise

    async def _correct(self, step: Step) -> bool:
        """Make head and count of a conversation agree with its messages; a place that was taken in vain is voided.

        Returns:
            Whether the step had been written to its end, and only the answer was lost.
        """
        mine, run = _mine(step), step.run
        conversation = await self._collections.conversations.find_one(mine)
        if conversation is None:
            written = {"_id": run.id, "status": run.status.value, "last_seq": run.last_seq}
            gave_lease_back = run.status.ended or run.status is RunStatus.WAITING
            return gave_lease_back and await self._collections.runs.find_one(written, {"_id": 1}) is not None
        await self._collections.conversations.update_one(
            _held_in(conversation), {"$set": await self._tip(conversation)}
        )
        return False

    async def _commit(self, step: Step) -> bool:
        run, added = step.run, len(step.messages)
        mine = _mine(step)
        changes: Document = {"$set": touched(run.conversation_id)}
        if added:
            changes["$set"]["head_message_id"] = step.messages[-1].id
            changes["$inc"] = {"last_seq": added, "message_count": added}
        before = await self._collections.conversations.find_one_and_update(
            mine, changes, return_document=ReturnDocument.BEFORE
        )
        if before is None:
            raise LeaseLost("The run belongs to another process now.")
        held = _held_in(before)
        if added and await insert(self._collections, before, step.messages) < added:
            tip = await self._tip({**before, "last_seq": before["last_seq"] + added})
            await self._collections.conversations.update_one(held, {"$set": tip})
            await self._read_places(step.messages)
        written = await self._collections.runs.update_one(
            {"_id": run.id, "fence": _fence_of(before)}, {"$set": {**run_changes(run), **begun_request(run)}}
        )
        if not written.matched_count:
            raise LeaseLost("The run belongs to another process now.")
        if run.status is RunStatus.WAITING:
            await self._collections.conversations.update_one(held, {"$set": {"active_run": waits(run.id)}})
        if not run.status.ended:
            return False
        await self._collections.conversations.update_one(held, {"$set": {"active_run": None}})
        return await self._next_in_queue(run.conversation_id) is not None

    @guarded
    async def get(self, run_id: str, user_id: str) -> Run | None:
        found = await self._collections.runs.find_one({"_id": run_id, "user_id": user_id})
        return None if found is None else to_run(found)

    @guarded
    async def of_conversation(self, conversation_id: str) -> Sequence[Run]:
        rows = self._collections.runs.find({"conversation_id": conversation_id})
        runs = [to_run(document) for document in await rows.to_list(None)]
        return sorted(runs, key=lambda run: (run.created_at, run.id))

    @guarded
    async def places(self, conversation_id: str) -> Mapping[str, int]:
        wanted = {"conversation_id": conversation_id, "place_in_queue": {"$gte": 0}}
        rows = await self._collections.runs.find(wanted, {"place_in_queue": 1}).to_list(None)
        return {document["_id"]: document["place_in_queue"] for document in rows}

    @guarded
    async def answering(self, conversation_id: str, message_ids: Sequence[str]) -> Sequence[RunState]:
        wanted = {"$in": list(message_ids)}
        rows = self._collections.runs.find(
            {
                "$or": [
                    {"conversation_id": conversation_id, "message_id": wanted},
                    {"conversation_id": conversation_id, "input_id": wanted},
                ]
            },
            dict.fromkeys(RUN_STATE, 1),
        )
        found = [to_run_state(document) for document in await rows.to_list(None)]
        return sorted(found, key=lambda state: (state.created_at, state.id))

    @guarded
    async def take(self, run_id: str, user_id: str, lease: Lease) -> Accepted | None:
        mine = {"_id": run_id, "user_id": user_id, "status": RunStatus.WAITING.value}
        document = await self._collections.runs.find_one(mine)
        if document is None:
            return None
        conversation = await self._collections.conversations.find_one_and_update(
            {"_id": document["conversation_id"], "active_run.id": run_id, "active_run.owner": NOBODY},
            {"$set": {"active_run": from_lease(run_id, lease)}},
            return_document=ReturnDocument.AFTER,
        )
        if conversation is None:
            return None
        taken = await self._collections.runs.update_one(
            {**mine, "fence": document.get("fence")},
            {"$set": {"status": RunStatus.RUNNING.value, "fence": _fence_of(conversation)}},
        )
        if not taken.matched_count:
            return None
        run = to_run(document)
        run.status = RunStatus.RUNNING
        return Accepted(run, to_conversation(conversation))

    @guarded
    async def cancel_queued(self, run_id: str, user_id: str) -> Run | None:
        mine = {"_id": run_id, "user_id": user_id, "status": RunStatus.QUEUED.value}
        found = await self._collections.runs.find_one(mine)
        if found is None:
            return None
        run = to_run(found)
        run.cancel_in_queue()
        changed = await self._collections.runs.update_one(mine, {"$set": run_changes(run)})
        return run if changed.modified_count else None

    @guarded
    async def renew(self, lease: Lease, conversation_ids: Sequence[str]) -> None:
        await self._collections.conversations.update_many(
            {"_id": {"$in": list(conversation_ids)}, "active_run.owner": lease.owner},
            {"$set": {"active_run.expires_at": to_micros(lease.expires_at)}},
        )

    @guarded
    async def claim(self, lease: Lease, *, now: datetime, driven: Collection[str] = ()) -> list[Accepted]:
        expired = {"active_run.expires_at": {"$lt": to_micros(now)}}
        claimed: list[Accepted] = []
        for found in await self._collections.conversations.find(expired).limit(_CLAIMED_AT_ONCE).to_list(None):
            if found["_id"] not in driven:
                claimed += await self._unless_it_is_broken(found["_id"], self._take_over(found, lease))
        for conversation_id in await self._with_a_queue():
            claimed += await self._unless_it_is_broken(conversation_id, self._promote(conversation_id, lease))
        return claimed

    async def _unless_it_is_broken(
        self, conversation_id: str, work: Coroutine[Any, Any, Accepted | None]
    ) -> Sequence[Accepted]:
        """What `work` on one conversation gives; nothing where that conversation fails, so that the others go on."""
        try:
            accepted = await work
        except (ConnectionFailure, StorageUnavailable):
            raise
        except LeaseLost:
            return ()
        except Exception as error:  # noqa: BLE001 - logged, counted, and tried again with the next claim
            self._skipped.note(conversation_id, error)
            return ()
        return () if accepted is None else (accepted,)

    async def _with_a_queue(self) -> Sequence[str]:
        """The conversations in which runs wait for their turn.

        A run that has begun and still holds a place is one whose process died in between; earlier versions left it there.
        """
        rows = self._collections.runs.find({"place_in_queue": {"$gte": 0}}, {"conversation_id": 1, "status": 1})
        found = await rows.to_list(None)
        begun = [document["_id"] for document in found if document["status"] not in _IN_QUEUE]
        if begun:
            logger.warning("%d runs that have begun leave the queue", len(begun))
            await self._collections.runs.update_many(
                {"_id": {"$in": begun}, "status": {"$nin": _IN_QUEUE}}, {"$set": {"place_in_queue": None}}
            )
        return list(dict.fromkeys(document["conversation_id"] for document in found if document["status"] in _IN_QUEUE))

    # --- inside

    async def _again(self, run: Run) -> Accepted:
        conversation = await self._collections.conversations.find_one({"_id": run.conversation_id})
        if conversation is None:
            raise NotFound("There is no such conversation.")
        return Accepted(run, to_conversation(conversation), is_new=False)

    async def _earlier(self, acceptance: Acceptance) -> Accepted | None:
        """The run that the same message began before, if there is one."""
        run = acceptance.run
        wanted = {"user_id": run.user_id, "message_id": run.message_id}
        if not acceptance.anywhere:
            wanted["conversation_id"] = run.conversation_id
        found = await self._collections.runs.find(wanted).limit(2).to_list(2)
        if not found:
            return None
        if len(found) > 1:
            raise in_several_conversations()
        first = to_run(found[0])
        known = await stored(self._collections, first.conversation_id, [run.message_id])
        check_same(acceptance, known[0].content if known else first.request.get("content"))
        return await self._again(first)

    async def _take(self, acceptance: Acceptance, active: Document) -> Document | None:
        """Take the lease of an idle conversation and a place for the user message; the conversation before that.

        None where it is busy and the run is to be queued.
        """
        run = acceptance.run
        if acceptance.create is not None:
            document = from_conversation(acceptance.create)
            begun = {**document, "active_run": active, "head_message_id": run.message_id}
            begun |= {"last_seq": 1, "message_count": 1}
            with suppress(DuplicateKeyError):
                await self._collections.conversations.insert_one(begun)
                return document
        mine = {"_id": run.conversation_id, "user_id": run.user_id}
        changes = {"active_run": active, "head_message_id": run.message_id, **_kept(acceptance)}
        before = await self._collections.conversations.find_one_and_update(
            {**mine, "active_run": None},
            {"$set": changes, "$inc": {"last_seq": 1, "message_count": 1}},
            return_document=ReturnDocument.BEFORE,
        )
        if before is None and await self._collections.conversations.find_one(mine, {"_id": 1}) is None:
            raise NotFound("There is no such conversation.")
        return before

    async def _take_at(self, acceptance: Acceptance, head: Place, active: Document) -> Document | None:
        """Take the lease for a turn that begins a branch behind `head`; the conversation with that branch, before its message."""
        run, message = acceptance.run, acceptance.message
        mine = {"_id": run.conversation_id, "user_id": run.user_id}
        added = 0 if message is None else 1
        while (found := await self._collections.conversations.find_one(mine)) is not None:
            if found["active_run"] is not None:
                return None
            branch = branch_changes(to_conversation(found), head)
            changes = {**branch, "active_run": active, **_kept(acceptance)}
            if message is not None:
                changes["head_message_id"] = message.id
            taken = await self._collections.conversations.find_one_and_update(
                {**mine, "active_run": None, "last_seq": found["last_seq"]},
                {"$set": changes, "$inc": {"last_seq": added, "message_count": added}},
                return_document=ReturnDocument.BEFORE,
            )
            if taken is not None:
                return {**taken, **branch}
        raise NotFound("There is no such conversation.")

    async def _begin(self, before: Document, acceptance: Acceptance, active: Document) -> Accepted:
        """Store the run and its user message in the conversation whose lease was taken."""
        run, message = acceptance.run, acceptance.message
        run.begin(message)
        await self._collections.runs.insert_one(from_run(run, None, active["fence"]))
        conversation = to_conversation(before)
        conversation.active_run_id = run.id
        conversation.model = run.model if acceptance.keep_model else conversation.model
        if message is None:
            return Accepted(run, conversation)
        if not await insert(self._collections, before, [message]):
            return await self._begun_in_vain(run, active)
        conversation.head_message_id = message.id
        conversation.message_count += 1
        conversation.last_seq = message.seq or 0
        return Accepted(run, conversation, message)

    async def _begun_in_vain(self, run: Run, active: Document) -> Accepted:
        """The user message could not be stored: its id is taken, or another process took over in the meantime."""
        mine = await self._collections.runs.delete_one({"_id": run.id, "fence": active["fence"]})
        await self._release(run.conversation_id, active)
        if not mine.deleted_count:
            taken_over = await self._collections.runs.find_one({"_id": run.id, "user_id": run.user_id})
            if taken_over is None:
                raise _too_slow()
            return await self._again(to_run(taken_over))
        if not await stored(self._collections, run.conversation_id, [run.message_id]):
            raise _too_slow()
        raise without_a_run()

    async def _queue(self, acceptance: Acceptance) -> Accepted:
        run = acceptance.run
        mine = {"_id": run.conversation_id, "user_id": run.user_id}
        conversation = await self._collections.conversations.find_one(mine)
        if conversation is None:
            raise NotFound("There is no such conversation.")
        if acceptance.on_busy is OnBusy.REJECT:
            raise ConversationBusy("The conversation is still being answered. Wait for the answer, or cancel it.")
        if await stored(self._collections, run.conversation_id, [run.message_id]):
            if (earlier := await self._earlier(acceptance)) is not None:
                return earlier
            raise without_a_run()
        run.enqueue()
        in_queue = 0 if acceptance.on_busy is OnBusy.INTERRUPT else 1
        await self._collections.runs.insert_one(from_run(run, in_queue))
        if acceptance.keep_model:
            await self._collections.conversations.update_one(mine, {"$set": {"model": run.model}})
        # The conversation may have become idle meanwhile. Only this run is begun here: whoever begins one has to drive it.
        promoted = await self._promote(run.conversation_id, acceptance.lease, only=run.id)
        return promoted or Accepted(run, to_conversation(conversation))

    async def _promote(self, conversation_id: str, lease: Lease, *, only: str | None = None) -> Accepted | None:
        while (waiting := await self._next_in_queue(conversation_id)) is not None:
            run_id = waiting["_id"]
            if only not in (None, run_id):
                return None
            taken = await self._collections.conversations.find_one_and_update(
                {"_id": conversation_id, "active_run": None},
                {"$set": {"active_run": from_lease(run_id, lease)}},
                return_document=ReturnDocument.AFTER,
            )
            if taken is None:
                return None
            if (begun := await self._begin_queued(taken, waiting)) is not None:
                return begun
        return None

    async def _next_in_queue(self, conversation_id: str) -> Document | None:
        waiting = {
            "conversation_id": conversation_id,
            "place_in_queue": {"$gte": 0},
            "status": {"$in": _IN_QUEUE},
        }
        return await self._collections.runs.find_one(waiting, sort=_QUEUE_ORDER)

    async def _begin_queued(self, taken: Document, document: Document) -> Accepted | None:
        """Store the user message of a queued run whose lease is held in `taken`, and begin it; None where it was cancelled.

        Raises:
            LeaseLost: another process took over in the meantime.
        """
        run = to_run(document)
        conversation, message = await self._store_question(taken, run)
        if run.status is RunStatus.QUEUED:
            run.begin(message)
            begun = await self._collections.runs.update_one(
                {"_id": run.id, "status": RunStatus.QUEUED.value, "fence": document.get("fence")},
                {
                    "$set": {
                        "place_in_queue": None,
                        "fence": _fence_of(taken),
                        **run_changes(run),
                        **begun_request(run),
                    }
                },
            )
            if begun.matched_count:
                return Accepted(run, to_conversation(conversation), message)
        await self._collections.runs.update_one(
            {"_id": run.id, "status": RunStatus.CANCELLED.value},
            {"$set": {"place_in_queue": None, **begun_request(run)}},
        )
        await self._collections.conversations.update_one(_held_in(taken), {"$set": {"active_run": None}})
        return None

    async def _store_question(self, taken: Document, run: Run) -> tuple[Document, Message | None]:
        """Store the user message of `run`, whose lease is held in `taken`, where it is not stored yet; the conversation then.

        Raises:
            LeaseLost: another process took over in the meantime.
        """
        known = await stored(self._collections, run.conversation_id, [run.message_id])
        if known or "content" not in run.request:
            return taken, known[0] if known else None
        before = await self._collections.conversations.find_one_and_update(
            _held_in(taken),
            {"$set": {"head_message_id": run.message_id}, "$inc": {"last_seq": 1, "message_count": 1}},
            return_document=ReturnDocument.BEFORE,
        )
        message = run.user_message()
        if before is None or not await insert(self._collections, before, [message]):
            raise LeaseLost("The run belongs to another process now.")
        after = {"last_seq": message.seq, "head_message_id": message.id, "message_count": before["message_count"] + 1}
        return {**before, **after}, message

    async def _take_over(self, found: Document, lease: Lease) -> Accepted | None:
        """Take the expired lease of a conversation, and mend what its process left behind."""
        taken = await self._collections.conversations.find_one_and_update(
            _held_as(found),
            {"$set": {"active_run": from_lease(found["active_run"]["id"], lease)}},
            return_document=ReturnDocument.AFTER,
        )
        return None if taken is None else await self._mend(taken)

    async def _mend(self, taken: Document) -> Accepted | None:
        """Make a conversation whose process died, or is slow, agree with its messages; its run, if it goes on.

        First everything that may still be on its way is fenced off: the run, then the places. Only then is it read.

        Raises:
            LeaseLost: another process took over in the meantime.
        """
        document = await self._fence(taken["active_run"]["id"], _fence_of(taken))
        mended = await self._collections.conversations.find_one_and_update(
            _held_in(taken), {"$set": await self._tip(taken)}, return_document=ReturnDocument.AFTER
        )
        if mended is None:
            raise LeaseLost("The run belongs to another process now.")
        if document is not None and document["status"] == RunStatus.QUEUED.value:
            return await self._begin_queued(mended, document)
        run = to_run(document) if document is not None else None
        conversation = mended if run is None else (await self._store_question(mended, run))[0]
        if run is None or run.status.ended:
            await self._collections.conversations.update_one(_held_in(taken), {"$set": {"active_run": None}})
            return None
        # Its process may have died between writing that the run waits and giving the lease back, or the other way round.
        run.status = RunStatus.RUNNING
        await self._collections.runs.update_one(
            {"_id": run.id, "fence": _fence_of(taken)}, {"$set": {"status": run.status.value}}
        )
        return Accepted(run, to_conversation(conversation), resumes=True)

    async def _fence(self, run_id: str, fence: str | None) -> Document | None:
        """Let nobody but the holder of `fence` change a run from now on; the run then.

        None where its process died before it stored the run. If it was only slow, its insert will fail.
        """
        while True:
            found = await self._collections.runs.find_one_and_update(
                {"_id": run_id},
                {"$set": {"fence": fence, "place_in_queue": None}, "$inc": {"takeovers": 1}},
                return_document=ReturnDocument.AFTER,
            )
            if found is not None:
                return None if found.get("is_void") else found
            with suppress(DuplicateKeyError):
                await self._collections.runs.insert_one(void_run(run_id))

    async def _tip(self, conversation: Document) -> Document:
        """Head, count and last place of a conversation as its messages tell them, once nothing more can arrive late."""
        await self._void_free_places(conversation)
        return {
            "head_message_id": await self._head(conversation),
            "message_count": await self._count(conversation),
            "last_seq": max(conversation["last_seq"], await self._newest(conversation)),
        }

    async def _void_free_places(self, conversation: Document) -> None:
        """Occupy the places that were taken and hold no message: an insert that is still on its way fails there."""
        conversation_id, last = conversation["_id"], conversation["last_seq"]
        seqs = range(max(1, last - _PLACES_OF_A_STEP + 1), last + 1)
        keys = {"$gte": place(conversation_id, seqs.start), "$lte": place(conversation_id, last)}
        rows = await self._collections.messages.find({"_id": keys}, {"_id": 1}).to_list(None)
        occupied = {document["_id"] for document in rows}
        free = [void_message(conversation_id, seq) for seq in seqs if place(conversation_id, seq) not in occupied]
        if free:
            # A message that arrived in between keeps its place: the insert there fails, which is as good.
            with suppress(BulkWriteError):
                await self._collections.messages.insert_many(free, ordered=False)

    async def _head(self, conversation: Document) -> str | None:
        """The id of the newest message of the active branch that is really there."""
        conversation_id = conversation["_id"]
        for first, last in reversed(clip_spans([(first, last) for first, last in conversation["spans"]])):
            keys = {"$gte": place(conversation_id, first), "$lte": place(conversation_id, last)}
            found = await self._collections.messages.find_one(
                {"_id": keys, "conversation_id": conversation_id}, {"id": 1}, sort=[("_id", DESCENDING)]
            )
            if found is not None:
                return found["id"]
        return None

    async def _newest(self, conversation: Document) -> int:
        """The `seq` of the newest message of all branches."""
        keys = {"$gte": place(conversation["_id"], 0), "$lte": place(conversation["_id"], LAST_PLACE)}
        found = await self._collections.messages.find_one(
            {"_id": keys, "conversation_id": conversation["_id"]}, {"seq": 1}, sort=[("_id", DESCENDING)]
        )
        return 0 if found is None else found["seq"]

    async def _count(self, conversation: Document) -> int:
        return await self._collections.messages.count_documents({"conversation_id": conversation["_id"]})

    async def _release(self, conversation_id: str, active: Document) -> None:
        """Give back the lease and the place of a run that was not to be."""
        held = {"_id": conversation_id, "active_run.fence": active["fence"]}
        taken = await self._collections.conversations.find_one(held)
        if taken is not None:
            changes: Document = {"active_run": None, "head_message_id": await self._head(taken)}
            changes["message_count"] = await self._count(taken)
            await self._collections.conversations.update_one(held, {"$set": changes})

    async def _read_places(self, messages: Sequence[Message]) -> None:
        """Give messages that had been stored before the places that they have."""
        known = await stored(self._collections, messages[0].conversation_id, [message.id for message in messages])
        places = {message.id: message for message in known}
        if len(places) < len(messages):
            raise AutoReconnect("a place in the conversation was taken by another message")
        for message in messages:
            message.seq, message.parent_id = places[message.id].seq, places[message.id].parent_id


def _mine(step: Step) -> Document:
    """The condition that a step's run still belongs to the process that writes it."""
    run = step.run
    return {"_id": run.conversation_id, "active_run.id": run.id, "active_run.owner": step.owner}


def _fence_of(conversation: Document) -> str | None:
    """The fencing token of the lease that a conversation is held under."""
    return conversation["active_run"].get("fence")


def _held_in(conversation: Document) -> Document:
    """The condition that nobody has taken the lease since `conversation` was read."""
    held = conversation["active_run"]
    return {
        "_id": conversation["_id"],
        "active_run.id": held["id"],
        "active_run.owner": held["owner"],
        "active_run.fence": held.get("fence"),
    }


def _too_slow() -> StorageUnavailable:
    return StorageUnavailable("The database took too long, and nothing was stored. Send the message again.")


def _held_as(conversation: Document) -> Document:
    """The condition that a conversation's lease is still the one in this document."""
    held = conversation["active_run"]
    return {
        "_id": conversation["_id"],
        "active_run.id": held["id"],
        "active_run.owner": held["owner"],
        "active_run.expires_at": held["expires_at"],
    }


def _kept(acceptance: Acceptance) -> Document:
    """What else changes in a conversation's document when a turn begins: its activity, and the model that was named."""
    run = acceptance.run
    return {**touched(run.conversation_id), **({"model": run.model} if acceptance.keep_model else {})}
