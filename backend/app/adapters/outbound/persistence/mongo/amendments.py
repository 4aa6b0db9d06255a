"""Repairs of conversations in MongoDB: under the conversation's lease, so that nobody answers it meanwhile."""

from datetime import timedelta

from pymongo import ReturnDocument

from app.adapters.outbound.persistence.mongo.collections import Collections, Document
from app.adapters.outbound.persistence.mongo.documents import (
    NOBODY,
    from_lease,
    from_message,
    run_changes,
    to_conversation,
)
from app.core.domain.ids import new_id
from app.core.domain.time import to_micros, utc_now
from app.core.ports import Amendment, Lease

_LEASE = timedelta(minutes=1)


async def amend(collections: Collections, amendment: Amendment) -> bool:
    """Repair a conversation; False where it has changed since it was read, or is being answered.

    Where this is interrupted, the lease expires and the conversation is mended like that of any dead process.
    """
    read = amendment.read
    found = await collections.conversations.find_one({"_id": read.id})
    if found is None or to_conversation(found) != read or _is_answered(found):
        return False
    lease = from_lease(read.active_run_id or new_id(), Lease(new_id(), utc_now() + _LEASE))
    taken = await collections.conversations.find_one_and_update(
        {"_id": read.id, "active_run": found["active_run"], "last_seq": found["last_seq"]},
        {"$set": {"active_run": lease}},
        return_document=ReturnDocument.AFTER,
    )
    if taken is None:
        return False
    for message in amendment.added:
        document = from_message(message, read.user_id)
        await collections.messages.replace_one({"_id": document["_id"]}, document, upsert=True)
    for message_id, parent_id in amendment.parents.items():
        wanted = {"conversation_id": read.id, "id": message_id}
        await collections.messages.update_one(wanted, {"$set": {"parent_id": parent_id}})
    for run in amendment.runs:
        await collections.runs.update_one({"_id": run.id}, {"$set": run_changes(run)})
    for run_id, place in amendment.places.items():
        await collections.runs.update_one({"_id": run_id}, {"$set": {"place_in_queue": place}})
    changes: Document = {
        "head_message_id": amendment.head_message_id,
        "message_count": amendment.message_count,
        "last_seq": amendment.last_seq,
        "active_run": found["active_run"] if amendment.active_run_id is not None else None,
    }
    written = await collections.conversations.update_one(
        {"_id": read.id, "active_run.fence": lease["fence"]}, {"$set": changes}
    )
    return bool(written.matched_count)


def _is_answered(conversation: Document) -> bool:
    active = conversation["active_run"]
    return active is not None and active["owner"] != NOBODY and active["expires_at"] > to_micros(utc_now())
