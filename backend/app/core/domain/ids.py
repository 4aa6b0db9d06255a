"""Identifiers: UUIDv7 for what the service makes, a bounded alphabet for what a client supplies."""

import re

import uuid_utils

CLIENT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What a client may use as the id of a conversation or of a message."""


def new_id() -> str:
    """A new UUIDv7 as text: unique, and ordered by the time it was made (RFC 9562)."""
    return str(uuid_utils.uuid7())


def is_client_id(value: str) -> bool:
    """Whether `value` may be used as an id: 1 to 64 characters of `A-Za-z0-9_-`."""
    return CLIENT_ID.fullmatch(value) is not None
