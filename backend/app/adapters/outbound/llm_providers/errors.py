"""What providers answer when they refuse, as our errors, in words that help. Nothing of a key is ever repeated."""

import re
from email.utils import parsedate_to_datetime
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
from app.core.domain.time import utc_now

MAX_REASON = 300


class ReasoningRefused(ProviderRejected):
    """The provider refuses reasoning that it gave out: of another account or model, or out of its place."""


class SummaryRefused(ProviderRejected):
    """The provider gives no summaries of reasoning to this account."""


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
    return for_status(
        status,
        code,
        reason,
        provider=provider,
        model=model,
        key_variable=key_variable,
        secret=secret,
        retry_after=retry_after,
    )


def for_status(
    status: int,
    code: str | None,
    reason: str,
    *,
    provider: str,
    model: str,
    key_variable: str,
    secret: str | None,
    retry_after: str | None = None,
) -> AtelierError:
    """The error for a status, and what the provider said with it: a code of its own, and a sentence."""
    reason = _said(reason, secret)
    said = f" It said: {reason}" if reason else ""
    if status in (401, 403) or (status == 400 and "api key not valid" in reason.lower()):
        setting = f"Check {key_variable}" if key_variable else "Check its settings"
        return ProviderNotConfigured(f"{provider} does not accept the key (HTTP {status}). {setting} and try again.")
    if status == 404 or code == "model_not_found":
        return UnknownModel(f"{provider} has no model named {model!r}. Choose another model.{said}")
    if status == 402 or code in _OUT_OF_MONEY:
        return _final(
            ProviderRateLimited(f"The account at {provider} is used up. Look at its plan and billing there.{said}")
        )
    if status == 429:
        seconds = _seconds(retry_after)
        when = f"in {seconds:g} seconds" if seconds is not None else "in a little while"
        return ProviderRateLimited(f"{provider} is rate limited. Try again {when}.{said}", retry_after=seconds)
    if code in _TOO_LONG or status == 413 or (status == 400 and any(words in reason for words in _TOO_LONG_WORDS)):
        return ContextTooLong(
            f"The conversation is longer than {model} takes. Lower CONTEXT_TOKENS, or begin a new conversation."
        )
    if status >= 500:
        return ProviderUnavailable(
            f"{provider} has a problem (HTTP {status}). Try again in a moment.{said}", retry_after=_seconds(retry_after)
        )
    return _rejection(code, reason)(f"{provider} refused the request (HTTP {status}).{said}")


def _rejection(code: str | None, reason: str) -> type[ProviderRejected]:
    """The kind of a refusal, where another request can do without what is refused."""
    said = reason.lower()
    if code == "invalid_encrypted_content" or any(words in said for words in _STALE_REASONING):
        return ReasoningRefused
    if any(words in said for words in _NO_SUMMARY):
        return SummaryRefused
    return ProviderRejected


_STALE_REASONING = (
    "encrypted content",  # OpenAI: "The encrypted content ... could not be verified"
    "of type 'reasoning' was provided without",  # OpenAI: an item that must follow it is missing
    "`signature` in `thinking`",  # https://platform.claude.com/docs/en/build-with-claude/preserved-thinking
    "thinking block",
    "`thinking` block",
    "thought signature",  # https://ai.google.dev/gemini-api/docs/thought-signatures
    "thought_signature",
)
_NO_SUMMARY = ("reasoning summar", "reasoning.summary")
"""OpenAI: "Your organization must be verified to generate reasoning summaries"."""


_OUT_OF_MONEY = ("insufficient_quota", "exceeded_current_quota_error")
_TOO_LONG = ("context_length_exceeded", "string_above_max_length")
_TOO_LONG_WORDS = ("prompt is too long", "input token count", "maximum context length")


def _final(error: AtelierError) -> AtelierError:
    """`error`, which the same request will meet again."""
    error.retryable = False
    return error


def in_stream(error: object, *, provider: str, model: str, key_variable: str, secret: str | None) -> AtelierError:
    """The error for an error object inside an answer that began as a success."""
    code: Any = cast("dict[str, Any]", error).get("code") if isinstance(error, dict) else None
    if str(code).isdigit() and 400 <= int(str(code)) < 600 and int(str(code)) not in (401, 403, 404):
        status = int(str(code))
        return for_status(
            status,
            None,
            _message(cast("object", error)),
            provider=provider,
            model=model,
            key_variable=key_variable,
            secret=secret,
        )
    reason = _said(_message(cast("object", error)), secret)
    return ProviderUnavailable(f"{provider} broke off its answer. It said: {reason or 'nothing'}")


def _said(reason: str, secret: str | None) -> str:
    """What a provider said, without the key and in bounds. Providers repeat a part of a key that they refuse."""
    if secret:
        reason = reason.replace(secret, "…")
    return clean_text(_KEY.sub("…", reason))[:MAX_REASON]


_KEY = re.compile(r"\b(?:sk|key|gsk|AIza|xai|pk|rk)[-_A-Za-z0-9*.…]{8,}")


def _reason(body: bytes) -> tuple[str | None, str]:
    """The code and the sentence in an error's body, in any of the shapes that providers have for it."""
    try:
        document: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None, ""
    if isinstance(document, list) and document:
        document = cast("list[Any]", document)[0]
    if not isinstance(document, dict):
        return None, ""
    fields = cast("dict[str, Any]", document)
    error: Any = fields.get("error") or fields
    if isinstance(error, str):
        return None, error
    said = cast("dict[str, Any]", error)
    code = said.get("code") if isinstance(said.get("code"), str) else said.get("type")
    reason = _message(said) or _details(said.get("detail"))
    return (code if isinstance(code, str) else None), reason


def _details(detail: object) -> str:
    """What a list of faults in a request says (FastAPI's shape, which Mistral has)."""
    if isinstance(detail, str):
        return detail
    if not isinstance(detail, list):
        return ""
    faults: list[Any] = [fault for fault in cast("list[Any]", detail) if isinstance(fault, dict)]
    return "; ".join(f"{'.'.join(map(str, fault.get('loc') or ()))}: {fault.get('msg')}" for fault in faults)


def _message(error: object) -> str:
    message = cast("dict[str, Any]", error).get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else ""


def _seconds(retry_after: str | None) -> float | None:
    """The seconds that a `Retry-After` header asks for: a number, or a date."""
    if not retry_after:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - utc_now()).total_seconds())
    except (ValueError, TypeError):
        return None
