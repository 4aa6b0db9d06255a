"""Google's Gemini API, over langchain-google-genai."""

from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import httpx
from google.genai.errors import APIError
from langchain_core.messages import AIMessage, BaseMessage
from langchain_google_genai import ChatGoogleGenerativeAI
from pydantic import SecretStr

from app.adapters.outbound.llm_providers.endpoint import Endpoint
from app.adapters.outbound.llm_providers.history import SIGNATURES
from app.adapters.outbound.llm_providers.langchain_provider import (
    LangChainProvider,
    bound_to,
    chosen_tool,
    refuse_unknown,
    wanted_schema,
)
from app.core.domain.errors import AtelierError, ProviderRejected
from app.core.ports import ModelFacts

UNCHECKED = urlsafe_b64decode("skip_thought_signature_validator")
"""https://ai.google.dev/gemini-api/docs/thought-signatures"""

_SAME = {
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
}
_KNOWN = frozenset([*_SAME, "tool_choice", "stop", "response_format", "stream_options", "parallel_tool_calls"])


def make(
    model: str, endpoint: Endpoint, facts: ModelFacts, tools: Sequence[Any], options: Mapping[str, Any]
) -> LangChainProvider:
    """The provider for `model`, with `tools` and with `options` in OpenAI's words.

    Raises:
        ProviderRejected: Gemini has no such thing as the options ask for.
    """
    chat = endpoint.keep(model, lambda: _chat(model, endpoint))
    bound: dict[str, Any] = _options(options, endpoint.title)
    if tools:
        with_tools = chat.bind_tools(list(tools), tool_choice=_tool_choice(options.get("tool_choice")))
        bound |= bound_to(with_tools)
    # Only the models of the first generations do without signatures.
    prepare = None if model.startswith(("gemini-1", "gemini-2")) else _signed
    return LangChainProvider(chat, model, endpoint, facts, bound, _explain, prepare)


def _chat(model: str, endpoint: Endpoint) -> ChatGoogleGenerativeAI:
    return ChatGoogleGenerativeAI(
        model=model,
        google_api_key=SecretStr(endpoint.secret or "none"),
        base_url=endpoint.url.removesuffix(endpoint.provider.prefix),
        max_retries=1,
        timeout=endpoint.limits.first,
    )


def _signed(message: BaseMessage) -> BaseMessage:
    """A message whose first call has a signature: what says "do not check", where another model made the call.

    langchain-google-genai does so by the model's name, and does not know the names of all.
    """
    if not isinstance(message, AIMessage) or not message.tool_calls or message.additional_kwargs.get(SIGNATURES):
        return message
    signatures = {message.tool_calls[0]["id"]: UNCHECKED}
    return message.model_copy(update={"additional_kwargs": {**message.additional_kwargs, SIGNATURES: signatures}})


def _options(options: Mapping[str, Any], title: str) -> dict[str, Any]:
    refuse_unknown(options, _KNOWN, title)
    if options.get("parallel_tool_calls") is False:
        raise ProviderRejected(
            f"{title} cannot be kept from calling several tools at once: leave parallel_tool_calls out."
        )
    generation = {theirs: options[ours] for ours, theirs in _SAME.items() if options.get(ours) is not None}
    bound: dict[str, Any] = {"generation_config": generation} if generation else {}
    if stop := options.get("stop"):
        bound["stop"] = [stop] if isinstance(stop, str) else stop
    if (response_format := options.get("response_format")) and response_format.get("type") != "text":
        bound["response_mime_type"] = "application/json"
        if (schema := wanted_schema(response_format)) is not None:
            bound["response_json_schema"] = schema
    return bound


def _tool_choice(choice: Any) -> str | None:
    if (name := chosen_tool(choice)) is not None:
        return name
    return {"auto": "auto", "required": "any", "none": "none"}.get(choice) if isinstance(choice, str) else None


def _explain(error: Exception, endpoint: Endpoint, model: str) -> AtelierError:
    """The SDK's error as ours."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, APIError | httpx.HTTPError | aiohttp.ClientError):
        cause = cause.__cause__
    if isinstance(cause, APIError):
        answer: Any = cause
        headers: Any = getattr(answer.response, "headers", None) or {}
        return endpoint.refused(
            answer.code,
            answer.status,
            str(answer.message or ""),
            model,
            retry_after=headers.get("Retry-After"),
        )
    if isinstance(cause, httpx.TimeoutException):
        return endpoint.timed_out(endpoint.limits.first)
    if isinstance(cause, httpx.ConnectError | aiohttp.ClientConnectorError):
        return endpoint.out_of_reach()
    return endpoint.cut_short()
