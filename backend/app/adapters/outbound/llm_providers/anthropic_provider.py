"""Anthropic's Messages API, over langchain-anthropic."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import anthropic
from langchain_anthropic import ChatAnthropic
from pydantic import SecretStr

from app.adapters.outbound.llm_providers.endpoint import Endpoint
from app.adapters.outbound.llm_providers.langchain_provider import (
    LangChainProvider,
    bound_to,
    chosen_tool,
    refuse_unknown,
    wanted_schema,
)
from app.core.domain.errors import AtelierError, ProviderRejected
from app.core.ports import ModelFacts

MAX_TOKENS = 8_192
"""The length of an answer where nobody says otherwise: Anthropic wants to be told."""

_KNOWN = frozenset(
    [
        *("tool_choice", "parallel_tool_calls", "temperature", "top_p", "stop", "max_tokens", "max_completion_tokens"),
        *("response_format", "reasoning_effort", "stream_options"),
    ]
)


def make(
    model: str, endpoint: Endpoint, facts: ModelFacts, tools: Sequence[Any], options: Mapping[str, Any]
) -> LangChainProvider:
    """The provider for `model`, with `tools` and with `options` in OpenAI's words.

    Raises:
        ProviderRejected: Anthropic has no such thing as the options ask for.
    """
    chat = endpoint.keep(model, lambda: _chat(model, endpoint, facts))
    bound: dict[str, Any] = _options(options, endpoint.title)
    if tools:
        choice = _tool_choice(options.get("tool_choice"))
        with_tools = chat.bind_tools(
            list(tools), tool_choice=choice, parallel_tool_calls=options.get("parallel_tool_calls")
        )
        bound |= bound_to(with_tools)
    return LangChainProvider(chat, model, endpoint, facts, bound, _explain)


def _chat(model: str, endpoint: Endpoint, facts: ModelFacts) -> ChatAnthropic:
    return ChatAnthropic(
        model_name=model,
        api_key=SecretStr(endpoint.secret or "none"),
        base_url=endpoint.url.removesuffix(endpoint.provider.prefix),
        max_tokens_to_sample=min(MAX_TOKENS, facts.output_tokens or MAX_TOKENS),
        max_retries=0,
        timeout=endpoint.limits.first,
        stop=None,
    )


def _options(options: Mapping[str, Any], title: str) -> dict[str, Any]:
    refuse_unknown(options, _KNOWN, title)
    bound = {
        name: options[name] for name in ("temperature", "top_p", "reasoning_effort") if options.get(name) is not None
    }
    if (limit := options.get("max_completion_tokens") or options.get("max_tokens")) is not None:
        bound["max_tokens"] = limit
    if stop := options.get("stop"):
        bound["stop"] = [stop] if isinstance(stop, str) else stop
    if response_format := options.get("response_format"):
        schema = wanted_schema(response_format)
        if schema is not None:
            bound["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        elif response_format.get("type") == "json_object":
            raise ProviderRejected(
                f"{title} writes JSON by a schema only. Use a response_format of type 'json_schema'."
            )
    return bound


def _tool_choice(choice: Any) -> dict[str, str] | None:
    if (name := chosen_tool(choice)) is not None:
        return {"type": "tool", "name": name}
    kinds = {"auto": "auto", "required": "any", "none": "none"}
    return {"type": kinds[choice]} if choice in kinds else None


def _explain(error: Exception, endpoint: Endpoint, model: str) -> AtelierError:
    """The SDK's error as ours."""
    cause = error.__cause__ if isinstance(error.__cause__, anthropic.APIError) else error
    if isinstance(cause, anthropic.APIStatusError):
        details: Any = cast("dict[str, Any]", cause.body).get("error") if isinstance(cause.body, dict) else None
        details = details or {}
        status = 529 if details.get("type") == "overloaded_error" else cause.status_code
        reason = str(details.get("message") or "")
        return endpoint.refused(
            status, details.get("type"), reason, model, retry_after=cause.response.headers.get("retry-after")
        )
    if isinstance(cause, anthropic.APITimeoutError):
        return endpoint.timed_out(endpoint.limits.first)
    if isinstance(cause, anthropic.APIConnectionError):
        return endpoint.out_of_reach()
    return endpoint.cut_short()
