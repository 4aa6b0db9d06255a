"""What providers answer when they refuse, in the shapes that their documentation and users show, becomes words that help."""

import orjson
import pytest

from app.adapters.outbound.llm_providers.errors import from_status, in_stream
from app.core.domain.errors import (
    AtelierError,
    ContextTooLong,
    ProviderNotConfigured,
    ProviderRateLimited,
    ProviderRejected,
    ProviderUnavailable,
    UnknownModel,
)


def refused(status: int, body: object, retry_after: str | None = None) -> AtelierError:
    return from_status(
        status,
        orjson.dumps(body),
        provider="P",
        model="m",
        key_variable="P_KEY",
        secret="sk-secret-000",
        retry_after=retry_after,
    )


def error(message: str, code: object = None, **more: object) -> dict[str, object]:
    return {"error": {"message": message, "code": code, **more}}


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (401, error("Incorrect API key provided"), ProviderNotConfigured, "Check P_KEY"),
        (403, {}, ProviderNotConfigured, "Check P_KEY"),
        (403, error("Your organization must be verified to use the model `m`."), ProviderRejected, "Verify the organ"),
        (404, error("Your organization must be verified to use the model `m`."), ProviderRejected, "Verify the organ"),
        (403, error("Country, region, or territory not supported"), ProviderRejected, "does not serve this country"),
        (403, error("m requires moderation. Your input was flagged for x", 403), ProviderRejected, "flagged"),
        (403, error("Generative Language API has not been used in project 1"), ProviderRejected, "has not been used"),
        (404, error("No endpoints found that support tool use."), ProviderRejected, "Choose a model that can"),
        (404, error("The model `m` does not exist"), UnknownModel, "no model named 'm'"),
        (
            400,
            error("Provider returned error", 400, metadata={"raw": '{"message": "Unexpected role", "code": "3230"}'}),
            ProviderRejected,
            "Unexpected role",
        ),
        (400, error("Provider returned error", 400, metadata={"raw": "plain words"}), ProviderRejected, "plain words"),
        (
            422,
            {"object": "error", "message": {"detail": [{"loc": ["body", "user"], "msg": "Extra inputs"}]}},
            ProviderRejected,
            "body.user: Extra inputs",
        ),
        (422, {"message": [{"loc": ["body"], "msg": "Field required"}]}, ProviderRejected, "Field required"),
        (
            413,
            error("Request too large for model `m` on tokens per minute (TPM): Limit 8000", "rate_limit_exceeded"),
            ProviderRateLimited,
            "fewer tokens per minute",
        ),
        (400, error("input length and `max_tokens` exceed context limit: 1 + 2 > 3"), ContextTooLong, "longer than m"),
        (400, error("Your request exceeded model token limit: 131072"), ContextTooLong, "longer than m"),
        (400, {"error": {"code": "1261", "message": "Prompt too long"}}, ContextTooLong, "longer than m"),
        (429, {"error": {"code": "1113", "message": "no balance"}}, ProviderRateLimited, "used up"),
        (400, error("Your credit balance is too low to access the Anthropic API."), ProviderRateLimited, "used up"),
    ],
)
def test_refusals_say_what_the_provider_meant(status: int, body: object, kind: type[AtelierError], words: str):
    found = refused(status, body)
    assert type(found) is kind, found.message
    assert words in found.message


def test_an_empty_account_is_not_asked_again():
    assert not refused(429, {"error": {"code": "1113", "message": "no balance"}}).retryable
    assert not refused(413, error("too many tokens per minute (TPM)")).retryable


def test_gemini_says_in_the_body_when_to_come_back():
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37s"}]
    found = refused(
        429, {"error": {"code": 429, "message": "Quota", "status": "RESOURCE_EXHAUSTED", "details": details}}
    )
    assert found.retry_after == 37
    assert refused(429, error("x"), retry_after="5").retry_after == 5


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"code": "rate_limit_exceeded", "message": "slow down"}, ProviderRateLimited),
        ({"code": "context_length_exceeded", "message": "too long"}, ContextTooLong),
        ({"code": "invalid_prompt", "message": "no"}, ProviderRejected),
        ({"type": "overloaded_error", "message": "busy"}, ProviderUnavailable),
        ({"code": 502, "message": "x", "metadata": {"raw": "upstream words"}}, ProviderUnavailable),
        ("plain", ProviderUnavailable),
    ],
)
def test_errors_in_a_stream_mean_what_a_status_would(said: object, kind: type[AtelierError]):
    found = in_stream(said, provider="P", model="m", key_variable="K", secret=None)
    assert type(found) is kind
    if isinstance(said, dict) and "metadata" in said:
        assert "upstream words" in found.message
