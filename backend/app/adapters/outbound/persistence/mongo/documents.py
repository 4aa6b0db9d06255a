"""Documents of MongoDB as domain objects and back.

Times are whole microseconds (BSON's own dates would lose three digits), and whatever a model, a tool or a client chose
the keys of is JSON text: no key of theirs can mean anything to the database.
"""

from datetime import datetime
from typing import Any

from app.adapters.outbound.persistence.mongo.collections import Document
from app.adapters.outbound.persistence.mongo.search import index_words
from app.adapters.outbound.persistence.rows import (
    dump,
    dump_options,
    join_content,
    load,
    load_options,
    split_content,
)
from app.core.domain.conversation import Conversation, ModelOptions, go_on_from
from app.core.domain.ids import new_id
from app.core.domain.message import Message, MessageRole
from app.core.domain.run import Run, RunState, RunStatus
from app.core.domain.time import from_micros, to_micros, utc_now
from app.core.ports import Lease, Place

LAST_PLACE = 2**31 - 1


def from_conversation(conversation: Conversation) -> Document:
    """The document of a new conversation."""
    return {
        "_id": conversation.id,
        "user_id": conversation.user_id,
        "title": conversation.title,
        "words": index_words(conversation.title),
        "model": conversation.model,
        "system_prompt": conversation.system_prompt,
        "head_message_id": conversation.head_message_id,
        "spans": [list(span) for span in conversation.spans],
        "forks": [list(fork) for fork in conversation.forks],
        "tool_approval": dump(conversation.tool_approval) if conversation.tool_approval else None,
        "model_options": dump(conversation.model_options.model_dump(exclude_none=True)),
        "summary": dump(conversation.summary.model_dump()) if conversation.summary else None,
        "message_count": conversation.message_count,
        "last_seq": conversation.last_seq,
        "archived": conversation.archived,
        "pinned": conversation.pinned,
        "active_run": None,
        "created_at": to_micros(conversation.created_at),
        **touched(conversation.id, conversation.updated_at),
    }


def touched(conversation_id: str, moment: datetime | None = None) -> Document:
    """What changes in a conversation's document with each activity: the time, and its place in the list."""
    moment = moment or utc_now()
    return {"updated_at": to_micros(moment), "activity": activity(moment, conversation_id)}


def activity(moment: datetime, conversation_id: str) -> str:
    """What the list of conversations is ordered by: unique, so that one index serves order and cursor."""
    return f"{to_micros(moment):017d}/{conversation_id}"


def to_conversation(document: Document) -> Conversation:
    """The conversation that a document holds."""
    active = document["active_run"]
    return Conversation(
        id=document["_id"],
        user_id=document["user_id"],
        title=document["title"],
        model=document["model"],
        system_prompt=document["system_prompt"],
        message_count=document["message_count"],
        archived=document["archived"],
        pinned=document["pinned"],
        active_run_id=active["id"] if active else None,
        head_message_id=document["head_message_id"],
        last_seq=document["last_seq"],
        spans=[(first, last) for first, last in document["spans"]],
        forks=[(start, parent) for start, parent in document["forks"]],
        tool_approval=load(document["tool_approval"]) or {},
        model_options=ModelOptions.model_validate(load(document.get("model_options")) or {}),
        summary=load(document.get("summary")) or None,
        created_at=from_micros(document["created_at"]),
        updated_at=from_micros(document["updated_at"]),
    )


def place(conversation_id: str, seq: int) -> str:
    """The `_id` of the message at a place: what stands where is known without a search, and order is the order of keys."""
    return f"{conversation_id}/{min(seq, LAST_PLACE):010d}"


def from_message(message: Message, user_id: str) -> Document:
    """The document of a message; `user_id` is who owns its conversation."""
    text, parts = split_content(message.content)
    document: Document = {
        "_id": place(message.conversation_id, message.seq or 0),
        "conversation_id": message.conversation_id,
        "user_id": user_id,
        "id": message.id,
        "seq": message.seq,
        "parent_id": message.parent_id,
        "role": message.role.value,
        "content": text,
        "created_at": to_micros(message.created_at),
    }
    if parts is not None:
        document["parts"] = parts
    if message.metadata:
        document["metadata"] = dump(message.metadata)
    if text:
        document["words"] = index_words(text)
    return document


def to_message(document: Document) -> Message:
    """The message that a document holds."""
    return Message(
        id=document["id"],
        conversation_id=document["conversation_id"],
        seq=document["seq"],
        parent_id=document["parent_id"],
        role=MessageRole(document["role"]),
        content=join_content(document["content"], document.get("parts")),
        metadata=load(document.get("metadata")) or {},
        created_at=from_micros(document["created_at"]),
    )


def from_run(run: Run, place_in_queue: int | None, fence: str | None = None) -> Document:
    """The document of a new run. What it was asked is kept until its first step is stored, its options longer.

    `fence` is the token of the lease that the run is driven under; only its holder may change the run.
    """
    return {
        "_id": run.id,
        "conversation_id": run.conversation_id,
        "user_id": run.user_id,
        "message_id": run.message_id,
        "input_id": run.input_id,
        "model": run.model,
        "place_in_queue": place_in_queue,
        "fence": fence,
        "request": dump(run.request),
        "created_at": to_micros(run.created_at),
        **run_changes(run),
    }


def run_changes(run: Run) -> Document:
    """What changes in a run's document as it goes on."""
    return {
        "status": run.status.value,
        "answer_id": run.answer_id,
        "last_message_id": run.last_message_id,
        "finish_reason": run.finish_reason,
        "usage": dump(run.usage) if run.usage else None,
        "error": dump(run.error) if run.error else None,
        "last_seq": run.last_seq,
        "takeovers": run.takeovers,
        "outline": dump(run.outline),
        "options": dump_options(run),
        "started_at": None if run.started_at is None else to_micros(run.started_at),
        "ended_at": None if run.ended_at is None else to_micros(run.ended_at),
    }


def begun_request(run: Run) -> Document:
    """What is kept of the request of a run once its user message is stored: a request with content says that it may not be."""
    return {"request": dump(run.turn_options)}


def to_run(document: Document) -> Run:
    """The run that a document holds."""

    def moment(key: str) -> Any:
        return None if document[key] is None else from_micros(document[key])

    return Run(
        id=document["_id"],
        conversation_id=document["conversation_id"],
        user_id=document["user_id"],
        status=RunStatus(document["status"]),
        model=document["model"],
        message_id=document["message_id"],
        answer_id=document["answer_id"],
        **load_options(document["options"]),
        request=load(document.get("request")) or {},
        takeovers=document.get("takeovers", 0),
        last_message_id=document["last_message_id"],
        finish_reason=document["finish_reason"],
        usage=load(document["usage"]),
        error=load(document["error"]),
        last_seq=document["last_seq"],
        outline=load(document["outline"]),
        created_at=from_micros(document["created_at"]),
        started_at=moment("started_at"),
        ended_at=moment("ended_at"),
    )


RUN_STATE = ("message_id", "input_id", "status", "model", "last_message_id", "error", "created_at", "ended_at")
"""The fields of a run's document that `to_run_state` reads."""


def to_run_state(document: Document) -> RunState:
    """What a document says of a run without its events."""
    return RunState(
        id=document["_id"],
        message_id=document.get("input_id") or document["message_id"],
        status=RunStatus(document["status"]),
        model=document["model"],
        last_message_id=document["last_message_id"],
        error=load(document["error"]),
        created_at=from_micros(document["created_at"]),
        ended_at=None if document["ended_at"] is None else from_micros(document["ended_at"]),
    )


NOBODY = ""
FOREVER = 2**62


def waits(run_id: str) -> Document:
    """The lease of a run that waits for an answer from outside: nobody's, and it never expires."""
    return {"id": run_id, "owner": NOBODY, "expires_at": FOREVER}


def branch_changes(conversation: Conversation, head: Place) -> Document:
    """What changes in a conversation's document when the branch that ends in `head` becomes the active one."""
    forks, spans = go_on_from(conversation, head.seq)
    return {
        "forks": [list(fork) for fork in forks],
        "spans": [list(span) for span in spans],
        "head_message_id": head.message_id,
    }


def from_lease(run_id: str, lease: Lease) -> Document:
    """Who drives a conversation, until when, and the fencing token of this holder: a new one each time the lease is taken."""
    return {"id": run_id, "owner": lease.owner, "expires_at": to_micros(lease.expires_at), "fence": new_id()}


def void_message(conversation_id: str, seq: int) -> Document:
    """Occupies a place so that an insert that is still on its way fails there. No query for messages finds it."""
    key = place(conversation_id, seq)
    return {"_id": key, "conversation_id": None, "id": key}


def void_run(run_id: str) -> Document:
    """Occupies the id of a run so that an insert that is still on its way fails. No query for runs finds it."""
    return {"_id": run_id, "conversation_id": None, "user_id": None, "message_id": run_id, "is_void": True}
