"""What providers answer when they refuse, as our errors, in words that help. Nothing of a key is ever repeated."""

import re
from email.utils import parsedate_to_datetime
from typing import Any, cast

from app.adapters.outbound.llm_providers.fields import Fields, fields
from app.core.domain.errors import (
    AtelierError,
    ContextTooLong,
    ProviderNotConfigured,
    ProviderRateLimited,
    ProviderRejected,
    ProviderUnavailable,
    UnknownModel,
)
from app.core.domain.text import clean_text, load_json
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
        retry_after=retry_after or _retry_delay(body),
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
    lower = reason.lower()
    if _is_about_the_key(status, lower):
        setting = f"Check {key_variable}" if key_variable else "Check its settings"
        return ProviderNotConfigured(f"{provider} does not accept the key (HTTP {status}). {setting} and try again.")
    if status == 402 or code in _OUT_OF_MONEY or any(words in lower for words in _OUT_OF_MONEY_WORDS):
        return _final(ProviderRateLimited(f"{provider}: the account is used up. Look at its plan and billing.{said}"))
    if status in (403, 404) and (advice := _permission(lower)):
        return ProviderRejected(f"{provider} does not allow this (HTTP {status}). {advice}{said}")
    if status == 403:
        advice = "Check in the account's settings what the key may do, or choose another model."
        return ProviderRejected(f"{provider} does not allow this request (HTTP 403). {advice}{said}")
    if status == 404 or code == "model_not_found":
        return UnknownModel(f"{provider} has no model named {model!r}. Choose another model.{said}")
    if "tokens per minute" in lower and status in (400, 413):  # Groq: the request alone is above the limit
        return _final(
            ProviderRateLimited(
                f"{provider} takes fewer tokens per minute than this conversation has. Lower CONTEXT_TOKENS.{said}"
            )
        )
    if status == 429:
        seconds = _seconds(retry_after)
        when = f"in {seconds:g} seconds" if seconds is not None else "in a little while"
        return ProviderRateLimited(f"{provider} is rate limited. Try again {when}.{said}", retry_after=seconds)
    if code in _TOO_LONG or status == 413 or (status == 400 and any(words in lower for words in _TOO_LONG_WORDS)):
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


def _is_about_the_key(status: int, lower: str) -> bool:
    if status == 403:
        return not lower or "api key" in lower or "api_key" in lower
    return status == 401 or (status == 400 and "api key not valid" in lower)


def _permission(lower: str) -> str:
    """What to do where the account, and not the key, is the reason; empty where that is not said."""
    return next((advice for words, advice in _PERMISSIONS if words in lower), "")


_PERMISSIONS = (
    ("must be verified", "Verify the organization in the account's settings, or choose another model."),
    ("no endpoints found", "Choose a model that can do this, or leave out tools or images."),
    ("country, region", "The provider does not serve this country."),
    ("user location is not supported", "The provider does not serve this country."),
    ("moderation", "Its moderation flagged the message: say it differently, or choose another model."),
    ("flagged", "Its moderation flagged the message: say it differently, or choose another model."),
)
_OUT_OF_MONEY = (
    *("insufficient_quota", "exceeded_current_quota_error", "billing_error", "insufficient_balance"),
    "1113",  # BigModel: https://docs.z.ai/api-reference/api-code
)
_OUT_OF_MONEY_WORDS = ("credit balance is too low", "insufficient balance", "insufficient credits")
_TOO_LONG = ("context_length_exceeded", "string_above_max_length", "1261")
_TOO_LONG_WORDS = (
    *("prompt is too long", "input token count", "maximum context length", "reduce the length"),
    "exceed context limit",  # Anthropic: "input length and `max_tokens` exceed context limit"
    "exceeded model token limit",  # Moonshot
)


def _final(error: AtelierError) -> AtelierError:
    """`error`, which the same request will meet again."""
    error.retryable = False
    return error


def in_stream(error: object, *, provider: str, model: str, key_variable: str, secret: str | None) -> AtelierError:
    """The error for an error object inside an answer that began as a success."""
    said = fields(error)
    code = str(said.get("code") or said.get("type") or "")
    reason = _upstream_reason(said) or _message(error)
    status = int(code) if code.isdigit() and 400 <= int(code) < 600 else _STREAM_STATUS.get(code)
    if status is not None and status not in (401, 403, 404):
        return for_status(
            status, code, reason, provider=provider, model=model, key_variable=key_variable, secret=secret
        )
    return ProviderUnavailable(f"{provider} broke off its answer. It said: {_said(reason, secret) or 'nothing'}")


_STREAM_STATUS = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "insufficient_quota": 402,
    "billing_error": 402,
    "context_length_exceeded": 400,
    "invalid_prompt": 400,
    "invalid_request_error": 400,
    "invalid_image": 400,
    "invalid_image_url": 400,
}
"""Codes in a stream that mean what an HTTP status would have meant."""


def _said(reason: str, secret: str | None) -> str:
    """What a provider said, without the key and in bounds. Providers repeat a part of a key that they refuse."""
    if secret:
        reason = reason.replace(secret, "…")
    return clean_text(_KEY.sub("…", reason))[:MAX_REASON]


_KEY = re.compile(r"\b(?:sk|key|gsk|AIza|xai|pk|rk)[-_A-Za-z0-9*.…]{8,}")


def _reason(body: bytes) -> tuple[str | None, str]:
    """The code and the sentence in an error's body, in any of the shapes that providers have for it."""
    try:
        document: Any = load_json(body)
    except ValueError:
        return None, ""
    if isinstance(document, list) and document:
        document = cast("list[Any]", document)[0]
    if not isinstance(document, dict):
        return None, ""
    document = cast("Fields", document)
    error: Any = document.get("error") or document
    if not isinstance(error, dict):
        return None, error if isinstance(error, str) else ""
    said = cast("Fields", error)
    code = said.get("code") if isinstance(said.get("code"), str) else said.get("type")
    reason = _upstream_reason(said) or _message(said) or _details(said.get("detail")) or _details(said.get("message"))
    return (code if isinstance(code, str) else None), reason


def _upstream_reason(error: Fields) -> str:
    """What the provider behind OpenRouter said: it is in `metadata.raw`, as JSON or as text."""
    raw = fields(error.get("metadata")).get("raw")
    if not isinstance(raw, str):
        return ""
    _, reason = _reason(raw.encode("utf-8", "replace"))
    return reason or raw


def _retry_delay(body: bytes) -> str | None:
    """The seconds in Gemini's `RetryInfo`: https://ai.google.dev/gemini-api/docs/troubleshooting"""
    match = _RETRY_DELAY.search(body)
    return match[1].decode() if match else None


_RETRY_DELAY = re.compile(rb'"retryDelay"\s*:\s*"(\d+(?:\.\d+)?)s"')


def _details(detail: object) -> str:
    """What a list of faults in a request says (FastAPI's shape, which Mistral has)."""
    if isinstance(detail, str):
        return detail
    if isinstance(detail, dict):  # Mistral puts the list of faults into `message`
        return _details(cast("Fields", detail).get("detail"))
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
