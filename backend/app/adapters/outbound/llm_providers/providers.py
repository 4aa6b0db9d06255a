"""The providers that the service knows: a row each. What is special about one stands in its row, or in its own file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from app.adapters.outbound.llm_providers.dialect import NINE_CHARACTERS, WORDS, CallIds, Dialect


class Wire(Enum):
    """The shape of a provider's requests and answers."""

    OPENAI = auto()
    RESPONSES = auto()
    ANTHROPIC = auto()
    GEMINI = auto()


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider of models.

    Attributes:
        id: its part of `provider@model`.
        title: its name, for people.
        base_url: where it is, if the settings do not say otherwise.
        key_variable: the variable that its key is set with.
        model: what answers where the provider alone is named: small and quick, with tools, and with images where the
            provider has such a model. Its successor from the model table replaces it once it has retired.
        needs_key: whether it is of use without a key.
        dialect: how it departs from OpenAI's wire, where it speaks that.
        ids: which ids of tool calls it takes, where it does not speak OpenAI's wire.
        mark: what its messages say of where they come from (LangChain's `model_provider`).
        prefix: what its OpenAI-shaped routes begin with behind its address.
        models_path: where it lists its models.
        key_path: where it says whether a key is valid; needed where anybody may read its list of models.
        key_header, key_scheme: how a request carries the key.
        headers: what every request to it carries beside the key.
    """

    id: str
    title: str
    base_url: str
    key_variable: str
    model: str
    dialect: Dialect
    wire: Wire = Wire.OPENAI
    needs_key: bool = True
    ids: CallIds = WORDS
    mark: str = ""
    prefix: str = ""
    models_path: str = "/models"
    key_path: str = ""
    key_header: str = "Authorization"
    key_scheme: str = "Bearer "
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def takes_addresses(self) -> bool:
        """Whether it fetches a picture by its address; else it is sent the bytes."""
        return self.wire is not Wire.GEMINI and self.dialect.image_urls

    @property
    def made_by(self) -> str:
        """The mark of its messages: its own id, where LangChain has none for it."""
        return self.mark or self.id

    @property
    def url_variable(self) -> str:
        """The variable that its address is set with."""
        return f"{self.id.upper()}_BASE_URL"


def _row(
    id: str,  # noqa: A002 - the field's name
    title: str,
    base_url: str,
    model: str,
    dialect: Dialect | None = None,
    *,
    wire: Wire = Wire.OPENAI,
    needs_key: bool = True,
    mark: str = "",
    prefix: str = "",
    models_path: str = "/models",
    key_path: str = "",
    key_header: str = "Authorization",
    key_scheme: str = "Bearer ",
    headers: Mapping[str, str] | None = None,
) -> Provider:
    return Provider(
        id=id,
        title=title,
        base_url=base_url,
        key_variable=f"{id.upper()}_API_KEY",
        model=model,
        dialect=dialect or Dialect(title),
        wire=wire,
        needs_key=needs_key,
        mark=mark,
        prefix=prefix,
        models_path=models_path,
        key_path=key_path,
        key_header=key_header,
        key_scheme=key_scheme,
        headers=headers or {},
    )


MISTRAL_FIELDS = frozenset(
    [
        *("model", "messages", "stream", "temperature", "top_p", "max_tokens", "stop", "random_seed", "n"),
        *("response_format", "tools", "tool_choice", "parallel_tool_calls", "presence_penalty", "frequency_penalty"),
        *("prediction", "prompt_mode", "safe_prompt", "reasoning_effort", "metadata", "logprobs", "top_logprobs"),
        *("prompt_cache_key", "service_tier", "min_tokens", "top_k", "repetition_penalty", "guardrails"),
    ]
)
"""Mistral refuses any other field (`extra_forbidden`): ChatCompletionStreamRequest of mistralai 3.7.0."""

PROVIDERS: dict[str, Provider] = {
    provider.id: provider
    for provider in (
        _row(
            "openai",
            "OpenAI",
            "https://api.openai.com/v1",
            "gpt-6-luna",
            Dialect("OpenAI", developer=True, pdf=True),
            wire=Wire.RESPONSES,
        ),
        _row(
            "anthropic",
            "Anthropic",
            "https://api.anthropic.com",
            "claude-haiku-5-5",
            wire=Wire.ANTHROPIC,
            prefix="/v1",
            # https://platform.claude.com/docs/en/api/versioning; the official SDKs send the key as a bearer token.
            headers={"anthropic-version": "2026-10-21"},
        ),
        _row(
            "gemini",
            "Gemini",
            "https://generativelanguage.googleapis.com/v1beta",
            "gemini-flash-latest",
            wire=Wire.GEMINI,
            mark="google_genai",
            prefix="/v1beta",
            key_header="x-goog-api-key",
            key_scheme="",
        ),
        _row(
            "mistral",
            "Mistral",
            "https://api.mistral.ai/v1",
            "mistral-small-latest",
            Dialect(
                "Mistral",
                ids=NINE_CHARACTERS,
                takes_null=False,
                required="any",
                stream_options=False,
                max_tokens="max_tokens",
                renames={"seed": "random_seed"},
                fields=MISTRAL_FIELDS,
                names_speakers=False,
                bridges_tools=True,
            ),
        ),
        _row("tu", "TU Wien", "https://aqueduct.ai.datalab.tuwien.ac.at/v1", "qwen-coder-30b"),
        _row(
            "bigmodel",
            "BigModel",
            "https://open.bigmodel.cn/api/paas/v4",
            "glm-4.7-flash",
            Dialect(
                "BigModel",
                required=None,
                names_a_tool=False,
                says_none=False,
                max_tokens="max_tokens",
                takes_null=False,
                # https://docs.z.ai/guides/capabilities/thinking-mode
                reasoning="reasoning_content",
                effort="thinking",
            ),
        ),
        _row(
            "openrouter",
            "OpenRouter",
            "https://openrouter.ai/api/v1",
            "openrouter/auto",
            Dialect("OpenRouter", details="reasoning_details", developer=True, pdf=True),
            key_path="/key",
            # https://openrouter.ai/docs/app-attribution: an app without a public address is known by its title.
            headers={"HTTP-Referer": "http://localhost", "X-OpenRouter-Title": "Atelier"},
        ),
        _row(
            "moonshot",
            "Moonshot",
            "https://api.moonshot.ai/v1",
            "kimi-k3.1-pro",
            Dialect(
                "Moonshot",
                forces_thinkers=False,
                reasoning="reasoning_content",
                needs_reasoning=True,
                max_tokens="max_tokens",
                image_urls=False,
                # "invalid temperature: only 1 is allowed for this model": https://platform.kimi.ai/docs/api/models-overview
                fixed_sampling=re.compile(r"^kimi-k(?:2\.[5-9]|[3-9])"),
                plain_schemas=True,
            ),
        ),
        _row("groq", "Groq", "https://api.groq.com/openai/v1", "openai/gpt-oss-20b", Dialect("Groq", developer=True)),
        _row(
            "ollama",
            "Ollama",
            "http://127.0.0.1:11434",
            "llama3.1",
            Dialect(
                "Ollama",
                required=None,
                names_a_tool=False,
                says_none=False,
                max_tokens="max_tokens",
                # Its route reads `reasoning` of messages, and images in base64 only:
                # https://github.com/ollama/ollama/blob/main/openai/openai.go
                reasoning="reasoning",
                image_urls=False,
            ),
            needs_key=False,
            prefix="/v1",
            models_path="/api/tags",
        ),
    )
}
"""In the order in which the first one with a key becomes the default."""


def custom_provider(name: str, base_url: str, key_variable: str, model: str) -> Provider:
    """A server of the user's that speaks OpenAI's wire."""
    return Provider(
        id=name,
        title=name,
        base_url=base_url,
        key_variable=key_variable,
        model=model,
        dialect=Dialect(name, image_urls=False),
        needs_key=bool(key_variable),
    )
