"""Every setting, once: an environment variable or a line of `.env`, with its default and its meaning."""

import hashlib
from enum import StrEnum
from functools import cached_property
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    SecretStr,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.core.domain.tool import ALL_TOOLS, Approval

DEFAULT_SYSTEM_PROMPT = (
    "You are the assistant of Atelier. Answer clearly and to the point. "
    "Use the tools you are offered where they help, and never make up a result that a tool can give."
)


class AuthMode(StrEnum):
    """How people and programs prove who they are."""

    LOCAL = "local"
    NONE = "none"


class MongoDriver(StrEnum):
    """Which client library talks to MongoDB."""

    MOTOR = "motor"
    PYMONGO = "pymongo"


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _blank_is_unset(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _secret(value: object) -> object:
    value = _blank_is_unset(value)
    if not isinstance(value, str):
        return value
    if not value.strip().isprintable():
        raise ValueError("must not hold line breaks or control characters")
    return value.strip()


def _rules(value: object) -> object:
    """`ask`, or `name=ask,other=deny`, as a mapping; a word alone stands for all tools.

    `auto` alone is the default written down and changes nothing; `*=auto` lets every tool run without approval.
    """
    if not isinstance(value, str):
        return value
    if value.strip().lower() == Approval.AUTO:
        return {}
    pairs = (part.rpartition("=") for part in value.split(",") if part.strip())
    return {name.strip() or ALL_TOOLS: policy.strip().lower() for name, _, policy in pairs}


def _address(value: str | None) -> str | None:
    if value is not None and (urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).netloc):
        raise ValueError("must begin with http:// or https://")
    return value.rstrip("/") if value else None


CommaList = Annotated[list[str], NoDecode, BeforeValidator(_split)]
OptionalText = Annotated[str | None, BeforeValidator(_blank_is_unset)]
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_secret)]
Address = Annotated[str | None, AfterValidator(_address), BeforeValidator(_blank_is_unset)]


class CustomProvider(BaseModel):
    """A server of the operator's that speaks OpenAI's wire.

    Attributes:
        name: its part of `provider@model`.
        base_url: where `/chat/completions` is appended.
        key_variable: the variable that its key is in; without one it is asked without a key.
        model: what answers where the provider alone is named.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")
    base_url: Annotated[str, AfterValidator(_address)]
    key_variable: str = Field(default="", pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$")
    model: str = "default"


class Settings(BaseSettings):
    """The settings of the service. `README.md` has the same table for people."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True, populate_by_name=True
    )

    host: str = Field(default="127.0.0.1", description="The address to listen on.")
    port: int = Field(default=8000, ge=0, le=65_535, description="The port to listen on; 0 takes a free one.")
    data_dir: Path = Field(default=Path("data"), description="The folder for the database, the token and files.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="How much is logged.")
    log_format: Literal["text", "json"] = Field(default="text", description="`text` for people, `json` for machines.")

    auth_mode: AuthMode = Field(
        default=AuthMode.LOCAL, description="`local`: one user with a token; `none`: no credential, loopback only."
    )
    atelier_token: OptionalSecret = Field(
        default=None, description="The token of `local` mode; made and kept in the data folder when not set."
    )
    allowed_origins: CommaList = Field(
        default_factory=list, description="Other sites whose pages may talk to the service."
    )
    allowed_hosts: CommaList = Field(
        default_factory=list, description="Names by which the service is reached, beside localhost and addresses."
    )

    trusted_proxies: CommaList = Field(
        default_factory=list,
        description="Addresses or networks of proxies, beside this machine, whose X-Forwarded headers are believed.",
    )
    max_connections_per_address: int = Field(
        default=500, ge=0, description="Connections from one address at once, this machine and proxies aside; 0: any."
    )

    mongodb_url: OptionalSecret = Field(
        default=None, description="MongoDB's address; SQLite in the data folder when not set."
    )
    mongodb_database: str = Field(default="atelier", description="The database in MongoDB.")
    mongodb_driver: MongoDriver = Field(
        default=MongoDriver.MOTOR, description="`motor`, or `pymongo` for PyMongo's own async client."
    )

    redis_url: OptionalSecret = Field(
        default=None, description="Redis, for several servers on one MongoDB; run events stay in memory when not set."
    )

    default_model: OptionalText = Field(
        default=None,
        description="The model that answers when none is named; the first provider with a key, else `demo@offline`.",
    )
    model_fallbacks: CommaList = Field(
        default_factory=list, description="Models that answer, in this order, when the one that was asked for cannot."
    )
    openai_api_key: OptionalSecret = Field(
        default=None, description="The key for OpenAI, or for the server at OPENAI_BASE_URL."
    )
    openai_base_url: Address = Field(
        default=None, description="Another server that speaks OpenAI's wire; it may do without a key."
    )
    openai_api: Literal["auto", "responses", "chat"] = Field(
        default="auto",
        description="How OpenAI is asked: `responses`, `chat` (completions), or `auto`: responses at OpenAI, chat at any other OPENAI_BASE_URL.",
    )
    anthropic_api_key: OptionalSecret = Field(default=None, description="The key for Anthropic.")
    anthropic_base_url: Address = Field(default=None, description="Another address for Anthropic's API.")
    gemini_api_key: OptionalSecret = Field(
        default=None,
        validation_alias=AliasChoices("gemini_api_key", "google_api_key"),
        description="The key for Gemini; GOOGLE_API_KEY works too.",
    )
    gemini_base_url: Address = Field(default=None, description="Another address for Gemini's API.")
    mistral_api_key: OptionalSecret = Field(default=None, description="The key for Mistral.")
    mistral_base_url: Address = Field(default=None, description="Another address for Mistral's API.")
    tu_api_key: OptionalSecret = Field(default=None, description="The key for TU Wien's Aqueduct.")
    tu_base_url: Address = Field(default=None, description="Another address for Aqueduct.")
    bigmodel_api_key: OptionalSecret = Field(
        default=None,
        validation_alias=AliasChoices("bigmodel_api_key", "zhipuai_api_key"),
        description="The key for BigModel (Zhipu); ZHIPUAI_API_KEY works too.",
    )
    bigmodel_base_url: Address = Field(default=None, description="Another address for BigModel's API.")
    openrouter_api_key: OptionalSecret = Field(default=None, description="The key for OpenRouter.")
    openrouter_base_url: Address = Field(default=None, description="Another address for OpenRouter's API.")
    moonshot_api_key: OptionalSecret = Field(default=None, description="The key for Moonshot (Kimi).")
    moonshot_base_url: Address = Field(default=None, description="Another address for Moonshot's API.")
    groq_api_key: OptionalSecret = Field(default=None, description="The key for Groq.")
    groq_base_url: Address = Field(default=None, description="Another address for Groq's API.")
    ollama_api_key: OptionalSecret = Field(default=None, description="A key, where an Ollama behind a proxy wants one.")
    ollama_base_url: Address = Field(default=None, description="Where Ollama is; http://127.0.0.1:11434 when not set.")
    custom_providers: list[CustomProvider] = Field(
        default_factory=list[CustomProvider],
        description='Other servers that speak OpenAI\'s wire: `[{"name": "lab", "base_url": "http://…/v1", '
        '"key_variable": "LAB_KEY"}]`.',
    )
    system_prompt: str = Field(default=DEFAULT_SYSTEM_PROMPT, description="What every model is told first.")
    context_tokens: int = Field(
        default=32_000, ge=500, le=10_000_000, description="How much of a conversation a model is sent, in tokens."
    )
    tool_approval: Annotated[dict[str, Approval], NoDecode, BeforeValidator(_rules)] = Field(
        default_factory=dict[str, Approval],
        description="Which tools need the user's approval. `auto`: each has its default. `ask` or `deny`: all of them. "
        "`name=ask,other=auto`: single ones. `*=auto`: none.",
    )
    max_tool_rounds: int = Field(
        default=25, ge=1, le=1_000, description="How often a model may ask for tools in one turn."
    )
    provider_connect_timeout: float = Field(
        default=10.0, gt=0, le=3_600, description="Seconds to wait for a provider to accept a connection."
    )
    provider_first_timeout: float = Field(
        default=300.0, gt=0, le=3_600, description="Seconds to wait for the first piece of a model's answer."
    )
    provider_timeout: float = Field(
        default=120.0, gt=0, le=3_600, description="Seconds to wait for the next piece of a model's answer."
    )
    provider_retries: int = Field(
        default=2, ge=0, le=10, description="How often a model is asked again after an error that may pass."
    )

    image_networks: Annotated[list[IPvAnyNetwork], NoDecode, BeforeValidator(_split)] = Field(
        default_factory=list[IPvAnyNetwork],
        description="Private networks that pictures may be fetched from by their address, such as `192.168.1.0/24`; "
        "only public addresses when not set.",
    )

    comfyui_url: Address = Field(
        default=None, description="Where ComfyUI is; without it a tool answers with its workflow."
    )
    comfyui_timeout: float = Field(
        default=900.0, gt=0, le=86_400, description="Seconds that a workflow may take in ComfyUI, its queue included."
    )
    tools_config_dir: Path = Field(default=Path("config"), description="The folder of the tools' definitions.")
    workflows_dir: Path = Field(default=Path("workflows"), description="The folder of their workflows.")
    mcp_servers: Path = Field(
        default=Path("mcp.json"), description="A file that lists MCP servers whose tools the agent may use."
    )
    files_dir: Path | None = Field(
        default=None, description="Where files are kept; `files` in the data folder when not set."
    )

    loop_block_seconds: float = Field(
        default=0.25,
        ge=0,
        le=3_600,
        description="A block of the event loop that is longer than this is logged with where it happened; 0 watches nothing.",
    )
    ws_max_frame_bytes: int = Field(
        default=1_048_576, ge=1_024, le=67_108_864, description="The largest WebSocket frame that is accepted."
    )
    lease_seconds: float = Field(
        default=15.0,
        ge=1,
        le=3_600,
        description="How long a server may be silent before another one takes its runs over.",
    )
    store_patience_seconds: float = Field(
        default=30.0,
        ge=0,
        le=3_600,
        description="How long an answer waits for a database that is away, before it is left for later.",
    )
    shutdown_seconds: float = Field(
        default=30.0,
        ge=0,
        le=3_600,
        description="How long answers may still take when the service is stopped; what is left is resumed at its next start.",
    )
    messages_per_minute: int = Field(
        default=3_000, ge=0, description="Messages and other work that a session or token may begin; 0: any number."
    )
    uploads_per_minute: int = Field(default=300, ge=0, description="Imports of a session or token; 0: any number.")
    searches_per_minute: int = Field(default=600, ge=0, description="Searches of a session or token; 0: any number.")
    sign_ins_per_minute: int = Field(
        default=30, ge=0, description="Attempts to sign in from one address; 0: any number."
    )
    max_sockets: int = Field(default=20_000, ge=1, description="WebSockets that are open at once.")
    max_runs: int = Field(default=1_000, ge=1, description="Answers that are given at once.")
    max_queued: int = Field(default=1_000, ge=1, description="Messages that wait behind others at once.")

    @field_validator("log_level", "log_format", "auth_mode", "mongodb_driver", mode="before")
    @classmethod
    def _words_in_lower_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for address in value:
            try:
                ip_network(address)
            except ValueError as error:
                raise ValueError(f"{address[:100]!r} is no address or network such as 10.0.0.0/8") from error
        return value

    @field_validator("custom_providers")
    @classmethod
    def _names_of_their_own(cls, value: list[CustomProvider]) -> list[CustomProvider]:
        names = [provider.name for provider in value]
        taken = sorted({name for name in names if names.count(name) > 1 or f"{name}_api_key" in cls.model_fields})
        if taken or "demo" in names:
            raise ValueError(f"the names {', '.join(taken) or 'demo'} are taken")
        return value

    def provider_key(self, provider: str) -> str | None:
        """The key that was set for one of the providers that have settings of their own."""
        secret: SecretStr | None = getattr(self, f"{provider}_api_key", None)
        return secret.get_secret_value() if secret is not None else None

    def provider_url(self, provider: str) -> str | None:
        """The address that was set for one of the providers that have settings of their own."""
        return getattr(self, f"{provider}_base_url", None)

    @property
    def key_file(self) -> Path:
        """Where keys are kept that were entered with `atelier keys`."""
        return self.data_dir / "keys.json"

    @property
    def model_file(self) -> Path:
        """Where the operator writes what is known of models, and what they cost."""
        return self.data_dir / "models.json"

    @cached_property
    def installation_id(self) -> str:
        """A short name for what is stored: another one for another data folder or database."""
        where = str(self.data_dir.resolve())
        if self.mongodb_url is not None:
            where = (
                f"{self.mongodb_url.get_secret_value().rpartition('@')[2].partition('?')[0]} {self.mongodb_database}"
            )
        return hashlib.sha256(where.encode()).hexdigest()[:8]

    @property
    def token_file(self) -> Path:
        """Where the token of `local` mode is kept."""
        return self.data_dir / "token"

    @property
    def address_file(self) -> Path:
        """Where a running service says how it is reached."""
        return self.data_dir / "atelier.address"

    @cached_property
    def listens_on_loopback(self) -> bool:
        """Whether only programs on this machine can reach the service."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")


def settings_for(data_dir: Path | None = None) -> Settings:
    """The settings of the environment, with another data folder where one is named."""
    return Settings() if data_dir is None else Settings(data_dir=data_dir)
