"""Runs in MongoDB: every promise kept by the order of single writes, so that any topology will do.

The conversation's document holds the lease, and whoever writes for a run first takes places for its messages there, on
the condition that the lease is still its own: a process that lost it writes nothing. What a crash can leave behind is
a place without a message, or a message without its run's last word; `claim` mends both from what is stored.
"""

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime

from pymongo import ASCENDING, DESCENDING, ReturnDocument
from pymongo.errors import AutoReconnect, DuplicateKeyError, PyMongoError

from app.adapters.outbound.persistence.mongo.collections import Collections, Document, guarded
from app.adapters.outbound.persistence.mongo.documents import (
    LAST_PLACE,
    NOBODY,
    RUN_STATE,
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
    waits,
)
from app.adapters.outbound.persistence.mongo.messages import insert, stored
from app.core.domain.conversation import clip_spans
from app.core.domain.errors import ConversationBusy, InvalidFrame, LeaseLost, NotFound
from app.core.domain.message import Message, MessageRole
from app.core.domain.run import OnBusy, Run, RunState, RunStatus
from app.core.domain.time import to_micros
from app.core.ports import Acceptance, Accepted, Lease, Place, Step

_QUEUE_ORDER = [("place_in_queue", ASCENDING), ("created_at", ASCENDING), ("_id", ASCENDING)]
_CLAIMED_AT_ONCE = 1_000


class MongoRuns:
    """An `IRunRepository` over MongoDB."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections
        self._doubtful: set[str] = set()

    @guarded
    async def accept(self, acceptance: Acceptance) -> Accepted:
        run = acceptance.run
        earlier, waiting = await asyncio.gather(
            self._earlier(run),
            self._next_in_queue(run.conversation_id),
        )
        if earlier is not None:
            return await self._again(to_run(earlier))
        if waiting is not None:
            before = None
        elif acceptance.go_on_from is not None:
            before = await self._take_at(acceptance, acceptance.go_on_from)
        else:
            before = await self._take(acceptance)
        try:
            if before is None:
                return await self._queue(acceptance)
            return await self._begin(before, acceptance)
        except DuplicateKeyError:
            # The same message came twice at the same moment, and the other one was first.
            if before is not None:
                await self._release(run)
            first = await self._earlier(run)
            if first is None:
                raise
            return await self._again(to_run(first))

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
        except PyMongoError:
            self._doubtful.add(run_id)
            raise

    async def _correct(self, step: Step) -> bool:
        """Make head and count of a conversation agree with its messages; a place that was taken in vain stays empty.

        Returns:
            Whether the step had been written to its end, and only the answer was lost.
        """
        mine, run = _mine(step), step.run
        conversation = await self._collections.conversations.find_one(mine)
        if conversation is None:
            written = {"_id": run.id, "status": run.status.value, "last_seq": run.last_seq}
            gave_lease_back = run.status.ended or run.status is RunStatus.WAITING
            return gave_lease_back and await self._collections.runs.find_one(written, {"_id": 1}) is not None
        changes = {
            "head_message_id": await self._head(conversation),
            "message_count": await self._count(conversation),
            "last_seq": max(conversation["last_seq"], await self._newest(conversation)),
        }
        await self._collections.conversations.update_one(mine, {"$set": changes})
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
        if added and (new := await insert(self._collections, before, step.messages)) < added:
            await self._collections.conversations.update_one(mine, {"$inc": {"message_count": new - added}})
            await self._read_places(step.messages)
        await self._collections.runs.update_one({"_id": run.id}, {"$set": run_changes(run), "$unset": {"request": ""}})
        if run.status is RunStatus.WAITING:
            await self._collections.conversations.update_one(mine, {"$set": {"active_run": waits(run.id)}})
        if not run.status.ended:
            return False
        await self._collections.conversations.update_one(mine, {"$set": {"active_run": None}})
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
        await self._collections.runs.update_one(mine, {"$set": {"status": RunStatus.RUNNING.value}})
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
            if found["_id"] in driven:
                continue
            taken = await self._collections.conversations.find_one_and_update(
                _held_as(found),
                {"$set": {"active_run": from_lease(found["active_run"]["id"], lease)}},
                return_document=ReturnDocument.AFTER,
            )
            if taken is not None and (going_on := await self._mend(taken)) is not None:
                claimed.append(going_on)
        waiting = {"place_in_queue": {"$ne": None}}
        for conversation_id in await self._collections.runs.distinct("conversation_id", waiting):
            promoted = await self._promote(conversation_id, lease)
            claimed += [promoted] if promoted is not None else []
        return claimed

    # --- inside

    async def _again(self, run: Run) -> Accepted:
        conversation = await self._collections.conversations.find_one({"_id": run.conversation_id})
        if conversation is None:
            raise NotFound("There is no such conversation.")
        return Accepted(run, to_conversation(conversation), is_new=False)

    async def _earlier(self, run: Run) -> Document | None:
        """The run that the same message of the same user began before."""
        return await self._collections.runs.find_one({"user_id": run.user_id, "message_id": run.message_id})

    async def _take(self, acceptance: Acceptance) -> Document | None:
        """Take the lease of an idle conversation and a place for the user message; the conversation before that.

        None where it is busy and the run is to be queued.
        """
        run = acceptance.run
        active = from_lease(run.id, acceptance.lease)
        if acceptance.create is not None:
            document = from_conversation(acceptance.create)
            begun = {**document, "active_run": active, "head_message_id": run.message_id}
            begun |= {"last_seq": 1, "message_count": 1}
            try:
                await self._collections.conversations.insert_one(begun)
            except DuplicateKeyError as error:
                raise NotFound("There is no such conversation.") from error
            return document
        mine = {"_id": run.conversation_id, "user_id": run.user_id}
        changes = {"active_run": active, "head_message_id": run.message_id, **touched(run.conversation_id)}
        before = await self._collections.conversations.find_one_and_update(
            {**mine, "active_run": None},
            {"$set": changes, "$inc": {"last_seq": 1, "message_count": 1}},
            return_document=ReturnDocument.BEFORE,
        )
        if before is None and await self._collections.conversations.find_one(mine, {"_id": 1}) is None:
            raise NotFound("There is no such conversation.")
        return before

    async def _take_at(self, acceptance: Acceptance, head: Place) -> Document | None:
        """Take the lease for a turn that begins a branch behind `head`; the conversation with that branch, before its message."""
        run, message = acceptance.run, acceptance.message
        mine = {"_id": run.conversation_id, "user_id": run.user_id}
        added = 0 if message is None else 1
        while (found := await self._collections.conversations.find_one(mine)) is not None:
            if found["active_run"] is not None:
                return None
            branch = branch_changes(to_conversation(found), head)
            changes = {**branch, "active_run": from_lease(run.id, acceptance.lease), **touched(run.conversation_id)}
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

    async def _begin(self, before: Document, acceptance: Acceptance) -> Accepted:
        """Store the run and its user message in the conversation whose lease was taken."""
        run, message = acceptance.run, acceptance.message
        run.begin(message)
        await self._collections.runs.insert_one(from_run(run, None))
        conversation = to_conversation(before)
        conversation.active_run_id = run.id
        if message is None:
            return Accepted(run, conversation)
        if not await insert(self._collections, before, [message]):
            await self._collections.runs.delete_one({"_id": run.id})
            await self._release(run)
            raise InvalidFrame("A message with this id is in the conversation already. Use a new id.")
        conversation.head_message_id = message.id
        conversation.message_count += 1
        conversation.last_seq = message.seq or 0
        return Accepted(run, conversation, message)

    async def _queue(self, acceptance: Acceptance) -> Accepted:
        run = acceptance.run
        mine = {"_id": run.conversation_id, "user_id": run.user_id}
        conversation = await self._collections.conversations.find_one(mine)
        if conversation is None:
            raise NotFound("There is no such conversation.")
        if acceptance.on_busy is OnBusy.REJECT:
            raise ConversationBusy("The conversation is still being answered. Wait for the answer, or cancel it.")
        if await stored(self._collections, run.conversation_id, [run.message_id]):
            if (earlier := await self._earlier(run)) is not None:
                return await self._again(to_run(earlier))
            raise InvalidFrame("A message with this id is in the conversation already. Use a new id.")
        run.enqueue()
        in_queue = 0 if acceptance.on_busy is OnBusy.INTERRUPT else 1
        await self._collections.runs.insert_one(from_run(run, in_queue))
        # The conversation may have become idle meanwhile. Only this run is begun here: whoever begins one has to drive it.
        promoted = await self._promote(run.conversation_id, acceptance.lease, only=run.id)
        return promoted or Accepted(run, to_conversation(conversation))

    async def _promote(self, conversation_id: str, lease: Lease, *, only: str | None = None) -> Accepted | None:
        while (waiting := await self._next_in_queue(conversation_id)) is not None:
            run = to_run(waiting)
            if only not in (None, run.id):
                return None
            before = await self._collections.conversations.find_one_and_update(
                {"_id": conversation_id, "active_run": None},
                {
                    "$set": {"active_run": from_lease(run.id, lease), "head_message_id": run.message_id},
                    "$inc": {"last_seq": 1, "message_count": 1},
                },
                return_document=ReturnDocument.BEFORE,
            )
            if before is None:
                return None
            message = _user_message(run)
            await insert(self._collections, before, [message])
            cancelled = run.status is RunStatus.CANCELLED
            if not cancelled:
                run.begin(message)
            await self._collections.runs.update_one(
                {"_id": run.id}, {"$set": {"place_in_queue": None, **run_changes(run)}}
            )
            conversation = to_conversation(before)
            if not cancelled:
                conversation.active_run_id, conversation.head_message_id = run.id, message.id
                conversation.message_count += 1
                conversation.last_seq = message.seq or 0
                return Accepted(run, conversation, message)
            await self._collections.conversations.update_one(
                {"_id": conversation_id, "active_run.id": run.id}, {"$set": {"active_run": None}}
            )
        return None

    async def _next_in_queue(self, conversation_id: str) -> Document | None:
        waiting = {"conversation_id": conversation_id, "place_in_queue": {"$ne": None}}
        return await self._collections.runs.find_one(waiting, sort=_QUEUE_ORDER)

    async def _mend(self, taken: Document) -> Accepted | None:
        """Make a conversation whose process died agree with its messages; its run, if there is one to go on with."""
        conversation_id, run_id = taken["_id"], taken["active_run"]["id"]
        document = await self._collections.runs.find_one({"_id": run_id})
        run = to_run(document) if document is not None else None
        head, last_seq = await self._head(taken), taken["last_seq"]
        if run is not None and run.request and not await stored(self._collections, conversation_id, [run.message_id]):
            message = _user_message(run)
            await insert(self._collections, {**taken, "head_message_id": head}, [message])
            head, last_seq = message.id, message.seq
        over = run is None or run.status.ended
        changes: Document = {"last_seq": last_seq, "head_message_id": head, "message_count": await self._count(taken)}
        if over:
            changes["active_run"] = None
        mended = await self._collections.conversations.find_one_and_update(
            _held_as(taken),
            {"$set": changes},
            return_document=ReturnDocument.AFTER,
        )
        if mended is None or run is None or over:
            return None
        # Its process may have died between writing that the run waits and giving the lease back, or the other way round.
        run.status = RunStatus.RUNNING
        return Accepted(run, to_conversation(mended), resumes=True)

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

    async def _release(self, run: Run) -> None:
        """Give back the lease and the place of a run that was not to be."""
        taken = await self._collections.conversations.find_one({"_id": run.conversation_id, "active_run.id": run.id})
        if taken is not None:
            changes = {"active_run": None, "head_message_id": await self._head(taken)}
            await self._collections.conversations.update_one(
                {"_id": run.conversation_id, "active_run.id": run.id},
                {"$set": {**changes, "message_count": await self._count(taken)}},
            )

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


def _held_as(conversation: Document) -> Document:
    """The condition that a conversation's lease is still the one in this document."""
    held = conversation["active_run"]
    return {
        "_id": conversation["_id"],
        "active_run.id": held["id"],
        "active_run.owner": held["owner"],
        "active_run.expires_at": held["expires_at"],
    }


def _user_message(run: Run) -> Message:
    return Message(
        id=run.message_id,
        conversation_id=run.conversation_id,
        role=MessageRole.USER,
        content=run.request["content"],
        created_at=run.created_at,
    )
