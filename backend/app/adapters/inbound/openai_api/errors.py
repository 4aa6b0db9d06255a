"""Errors in OpenAI's shape, with the status codes that its clients turn into their own exceptions."""

from app.core.domain.errors import AtelierError
from app.core.domain.event import to_json

PREFIX = "/v1/"
"""Where this surface is."""

_KINDS: dict[str, tuple[int, str, str | None]] = {
    "invalid_frame": (400, "invalid_request_error", None),
    "empty_input": (400, "invalid_request_error", None),
    "provider_rejected": (400, "invalid_request_error", None),
    "context_too_long": (400, "invalid_request_error", "context_length_exceeded"),
    "request_timeout": (408, "invalid_request_error", None),
    "too_large": (413, "invalid_request_error", None),
    "unsupported_media_type": (415, "invalid_request_error", None),
    "unauthenticated": (401, "invalid_request_error", "invalid_api_key"),
    "provider_not_configured": (401, "authentication_error", "provider_not_configured"),
    "forbidden": (403, "permission_error", None),
    "not_found": (404, "invalid_request_error", None),
    "unknown_model": (404, "invalid_request_error", "model_not_found"),
    "conversation_busy": (409, "invalid_request_error", None),
    "message_conflict": (409, "invalid_request_error", None),
    "provider_rate_limited": (429, "rate_limit_error", "rate_limit_exceeded"),
    "rate_limited": (429, "rate_limit_error", "rate_limit_exceeded"),
    "provider_unavailable": (502, "api_error", None),
    "tool_loop_limit": (502, "api_error", None),
    "storage_unavailable": (503, "api_error", None),
    "shutting_down": (503, "api_error", None),
    "storage_damaged": (503, "api_error", None),
    "provider_timeout": (504, "api_error", None),
}


def status_of(error: AtelierError) -> int:
    """The HTTP status for `error`."""
    return _KINDS.get(error.code, (500, "", None))[0]


def body_of(error: AtelierError) -> bytes:
    """`error` as `{"error": {message, type, param, code}}`."""
    _, kind, code = _KINDS.get(error.code, (500, "api_error", None))
    param: str | None = getattr(error, "param", None)
    details = {"message": error.message, "type": kind, "param": param, "code": code or error.code}
    return to_json({"error": details}).encode()


def headers_of(error: AtelierError) -> list[tuple[bytes, bytes]]:
    """The headers of an answer with `error`."""
    headers = [(b"content-type", b"application/json")]
    if error.retry_after is not None:
        headers.append((b"retry-after", str(int(error.retry_after) + 1).encode()))
    if status_of(error) == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers
