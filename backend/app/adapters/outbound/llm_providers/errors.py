"""What providers answer when they refuse, as our errors, in words that help. Nothing of a key is ever repeated."""

from typing import Any, cast

import orjson

from app.core.domain.errors import (
    AtelierError,
    ContextTooLong,
    ProviderNotConfigured,
    ProviderRateLimited,
    ProviderRejected,
    ProviderUnavailable,
    UnknownModel,
)
from app.core.domain.text import clean_text

MAX_REASON = 300


def from_status(
    status: int,
    body: bytes,
    *,
    provider: str,
    model: str,
    key_variable: str,
    secret: str | None,
    retry_after: str | None,
) -> AtelierError:
    """The error for an HTTP answer that is not a success."""
    code, reason = _reason(body)
    if secret:
        reason = reason.replace(secret, "…")
    said = f" It said: {reason}" if reason else ""
    if status in (401, 403):
        return ProviderNotConfigured(
            f"{provider} does not accept the key (HTTP {status}). Check {key_variable} and start the service again."
        )
    if status == 404 or code == "model_not_found":
        return UnknownModel(f"{provider} has no model named {model!r}. Choose another model.{said}")
    if status == 429:
        seconds = _seconds(retry_after)
        when = f"in {seconds:g} seconds" if seconds is not None else "in a little while"
        return ProviderRateLimited(f"{provider} is rate limited. Try again {when}.{said}", retry_after=seconds)
    if code == "context_length_exceeded" or status == 413:
        return ContextTooLong(
            f"The conversation is longer than {model} takes. Lower CONTEXT_TOKENS, or begin a new conversation."
        )
    if status >= 500:
        return ProviderUnavailable(f"{provider} has a problem (HTTP {status}). Try again in a moment.{said}")
    return ProviderRejected(f"{provider} refused the request (HTTP {status}).{said}")


def in_stream(error: object, *, provider: str, secret: str | None) -> AtelierError:
    """The error for an error object inside an answer that began as a success."""
    reason = _message(error)
    if secret:
        reason = reason.replace(secret, "…")
    return ProviderUnavailable(f"{provider} broke off its answer. It said: {reason or 'nothing'}")


def _reason(body: bytes) -> tuple[str | None, str]:
    try:
        error: Any = orjson.loads(body).get("error")
    except (orjson.JSONDecodeError, AttributeError):
        return None, ""
    code = cast("dict[str, Any]", error).get("code") if isinstance(error, dict) else None
    return (code if isinstance(code, str) else None), _message(cast("object", error))


def _message(error: object) -> str:
    message = cast("dict[str, Any]", error).get("message") if isinstance(error, dict) else error
    return clean_text(message)[:MAX_REASON] if isinstance(message, str) else ""


def _seconds(retry_after: str | None) -> float | None:
    try:
        return max(0.0, float(retry_after)) if retry_after else None
    except ValueError:
        return None
