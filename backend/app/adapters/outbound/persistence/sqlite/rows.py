"""Rows of the SQLite file as domain objects."""

import sqlite3
from datetime import datetime

import orjson

from app.adapters.outbound.persistence.rows import join_content, load, load_options
from app.core.domain.conversation import Conversation, ModelOptions
from app.core.domain.message import Message, MessageRole
from app.core.domain.run import Run, RunState, RunStatus
from app.core.domain.time import from_micros

SEQ_BITS = 32
SEQ_MASK = (1 << SEQ_BITS) - 1


def place_of(number: int, seq: int) -> int:
    """Where the message with `seq` of conversation `number` lies."""
    return number << SEQ_BITS | min(seq, SEQ_MASK)


def to_conversation(row: sqlite3.Row) -> Conversation:
    """A row of `conversations`."""
    return Conversation(
        id=row["id"],
        user_id=row["user_id"],
        title=row["title"],
        model=row["model"],
        system_prompt=row["system_prompt"],
        message_count=row["message_count"],
        archived=bool(row["archived"]),
        pinned=bool(row["pinned"]),
        active_run_id=row["active_run_id"],
        head_message_id=row["head_message_id"],
        last_seq=row["last_seq"],
        spans=orjson.loads(row["spans"]),
        forks=orjson.loads(row["forks"]),
        tool_approval=load(row["tool_approval"]) or {},
        model_options=ModelOptions.model_validate(load(row["model_options"]) or {}),
        summary=load(row["summary"]) or None,
        created_at=from_micros(row["created_at"]),
        updated_at=from_micros(row["updated_at"]),
    )


def to_message(row: sqlite3.Row, conversation_id: str) -> Message:
    """A row of `messages`."""
    return Message(
        id=row["id"],
        conversation_id=conversation_id,
        seq=row["place"] & SEQ_MASK,
        parent_id=row["parent_id"],
        role=MessageRole(row["role"]),
        content=join_content(row["content"], row["parts"]),
        metadata=load(row["metadata"]),
        created_at=from_micros(row["created_at"]),
    )


def to_run(row: sqlite3.Row, conversation_id: str) -> Run:
    """A row of `runs`."""
    return Run(
        id=row["id"],
        conversation_id=conversation_id,
        user_id=row["user_id"],
        status=RunStatus(row["status"]),
        model=row["model"],
        message_id=row["message_id"],
        answer_id=row["answer_id"],
        request=load(row["request"]) or {},
        takeovers=row["takeovers"],
        **load_options(row["options"]),
        last_message_id=row["last_message_id"],
        finish_reason=row["finish_reason"],
        usage=load(row["usage"]),
        error=load(row["error"]),
        last_seq=row["last_seq"],
        outline=orjson.loads(row["outline"]),
        created_at=from_micros(row["created_at"]),
        started_at=_moment(row["started_at"]),
        ended_at=_moment(row["ended_at"]),
    )


def to_run_state(row: sqlite3.Row) -> RunState:
    """What a row of `runs` says without its events."""
    return RunState(
        id=row["id"],
        message_id=row["question"],
        status=RunStatus(row["status"]),
        model=row["model"],
        last_message_id=row["last_message_id"],
        error=load(row["error"]),
        created_at=from_micros(row["created_at"]),
        ended_at=_moment(row["ended_at"]),
    )


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)
