"""The official SDKs as judges: a request body is checked against their types, with unknown fields forbidden.

Ollama and the other OpenAI-shaped servers publish OpenAI's format as theirs, so OpenAI's types judge them; Ollama's
own SDK has types for its other route only.
"""

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import is_typeddict

Judge = Callable[[dict[str, Any]], None]


def faults_by_sdk(provider: str, body: dict[str, Any]) -> list[str]:
    """What the SDK of `provider` finds wrong with `body`."""
    if extension := _EXTENSIONS.get(provider):
        plain = [{key: value for key, value in m.items() if key != extension} for m in body["messages"]]
        body = {**body, "messages": plain}
    try:
        _judge(_JUDGES.get(provider, "chat") if "input" not in body else "responses")(body)
    except ValidationError as error:
        return [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
    return []


_EXTENSIONS = {
    "openrouter": "reasoning_details",  # https://openrouter.ai/docs/use-cases/reasoning-tokens
    "bigmodel": "reasoning_content",  # https://docs.z.ai/guides/capabilities/thinking-mode
    "ollama": "reasoning",  # https://github.com/ollama/ollama/blob/main/openai/openai.go
    "moonshot": "reasoning_content",  # https://platform.moonshot.ai/docs/guide/use-kimi-k2-thinking-model
}
"""Fields of messages that a provider documents beside OpenAI's."""

_JUDGES = {"anthropic": "anthropic", "gemini": "gemini", "mistral": "mistral", "groq": "groq"}


@cache
def _judge(name: str) -> Judge:
    match name:
        case "responses":
            from openai.types.responses.response_create_params import ResponseCreateParams

            return _typed(ResponseCreateParams, "openai.types")
        case "anthropic":
            from anthropic.types.message_create_params import MessageCreateParams

            return _typed(MessageCreateParams, "anthropic.types")
        case "groq":
            from groq.types.chat.completion_create_params import CompletionCreateParams

            # Groq streams usage on request, as its API reference says; its SDK has no field for that.
            check = _typed(CompletionCreateParams, "groq.types")
            return lambda body: check({key: value for key, value in body.items() if key != "stream_options"})
        case "gemini":
            return _gemini
        case "mistral":
            return _mistral().validate_python
        case _:
            from openai.types.chat.completion_create_params import CompletionCreateParams as OpenAIParams

            return _typed(OpenAIParams, "openai.types")


def _typed(kind: Any, package: str) -> Judge:
    """A judge for a TypedDict, and for those in it."""
    for name, module in list(sys.modules.items()):
        if name.startswith(package):
            for value in vars(module).values():
                if is_typeddict(value):
                    value.__pydantic_config__ = ConfigDict(extra="forbid", arbitrary_types_allowed=True)  # pyright: ignore
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    return lambda body: _read(adapter.validate_python(body))


def _read(value: Any) -> None:
    """Read all of it: pydantic checks an `Iterable` while it is read."""
    if isinstance(value, dict):
        for item in value.values():
            _read(item)
    elif not isinstance(value, str | bytes) and hasattr(value, "__iter__"):
        for item in value:
            _read(item)


def _gemini(body: dict[str, Any]) -> None:
    from google.genai import _common, types

    class Body(_common.BaseModel):  # pyright: ignore
        contents: list[types.Content]
        system_instruction: types.Content | None = None
        tools: list[types.Tool] | None = None
        tool_config: types.ToolConfig | None = None
        generation_config: types.GenerationConfig | None = None

    Body.model_validate(body)


@cache
def _mistral() -> TypeAdapter[Any]:
    """Mistral's request, with unknown fields forbidden in it and in every model of the package."""
    from mistralai.client.models import ChatCompletionStreamRequest

    for name, module in list(sys.modules.items()):
        if name.startswith("mistralai"):
            for value in list(vars(module).values()):
                if (
                    isinstance(value, type)
                    and hasattr(value, "model_config")
                    and value.__module__.startswith("mistral")
                ):
                    value.model_config["extra"] = "forbid"  # pyright: ignore
                    value.model_rebuild(force=True)  # pyright: ignore
    return TypeAdapter(ChatCompletionStreamRequest)
