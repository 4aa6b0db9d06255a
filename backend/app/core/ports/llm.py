"""What the application asks of language models."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel


class ModelFacts(BaseModel):
    """What is known of a model; None where nobody says.

    Attributes:
        chat: whether it answers messages at all (and does not draw, embed or transcribe).
        context_tokens: how much it can be sent.
        output_tokens: how long an answer can be.
        input_price, output_price: US dollars for a million tokens.
        reasoning: whether it thinks before it answers.
        pdf: whether it reads PDF files.
        sampling: whether it accepts `temperature` and `top_p`.
        forced_tools: whether it can be made to call a tool.
        adaptive_thinking: whether it decides by itself how long it thinks (Claude).
        efforts: the reasoning efforts it accepts.
        retires: the day its provider shuts it down.
        successor: the model that its provider recommends instead.
    """

    chat: bool | None = None
    tools: bool | None = None
    images: bool | None = None
    reasoning: bool | None = None
    context_tokens: int | None = None
    output_tokens: int | None = None
    input_price: float | None = None
    output_price: float | None = None
    pdf: bool | None = None
    sampling: bool | None = None
    forced_tools: bool | None = None
    adaptive_thinking: bool | None = None
    efforts: list[str] | None = None
    retires: date | None = None
    successor: str | None = None


class ModelInfo(ModelFacts):
    """A model that can be asked, as `GET /api/models` lists it.

    Attributes:
        id: `provider@model`, the name that requests use.
        default: whether it answers where none is named.
        retires_soon: whether it retires within the next 90 days.
    """

    id: str
    provider: str
    name: str
    default: bool = False
    retires_soon: bool = False


class ProviderInfo(BaseModel):
    """A provider, as `GET /api/models` lists it.

    Attributes:
        configured: whether it can be asked.
        key_variable: what its key is set with; empty where it needs none.
        key_source: where its key comes from; None where it has none.
        error: why its own list of models could not be read.
    """

    id: str
    title: str
    configured: bool
    key_variable: str
    key_source: Literal["environment", "stored"] | None = None
    error: str | None = None


class ModelList(BaseModel):
    """What can be asked here, the default first, and the providers that there are."""

    models: list[ModelInfo]
    providers: list[ProviderInfo]


class IAnswerSink(Protocol):
    """Takes the pieces of an answer while it is being written. None of its methods wait."""

    def text(self, piece: str) -> None:
        """The next piece of the answer's text."""
        ...

    def reasoning(self, piece: str) -> None:
        """The next piece of the model's reasoning."""
        ...

    def restart(self, model: str) -> None:
        """The answer begins anew, by `model`: what came so far is void."""
        ...


@runtime_checkable
class IFragmentSink(IAnswerSink, Protocol):
    """Takes tool calls too while they are being written."""

    def fragment(self, key: Any, call_id: str | None, name: str | None, arguments: str | None) -> None:
        """The next fragment of the call `key`: its id and name come with its first one."""
        ...


class IChatModel(Protocol):
    """A chat model with its tools bound; messages are those of the agent's own library (LangChain)."""

    async def ainvoke(self, messages: Any, /) -> Any:
        """The model's answer as one assistant message."""
        ...


class ILLMProvider(Protocol):
    """One model of one provider, with the tools that it may call."""

    @property
    def model(self) -> IChatModel:
        """The model itself."""
        ...

    async def stream(self, messages: Sequence[Any], sink: IAnswerSink) -> Any:
        """Ask the model; hand every piece to `sink` as it arrives, and return the whole assistant message.

        Raises:
            ProviderNotConfigured, ProviderRateLimited, ProviderUnavailable, ProviderTimeout, ProviderRejected,
            ContextTooLong, UnknownModel: what went wrong, in words for the user.
        """
        ...


class IProviderKeys(Protocol):
    """The keys of providers that are kept here."""

    def check(self, provider: str) -> None:
        """Make sure that there is such a provider.

        Raises:
            UnknownModel: there is none.
        """
        ...

    def check_form(self, key: str) -> None:
        """Make sure that a text can be a key.

        Raises:
            InvalidFrame: it cannot.
        """
        ...

    def set(self, provider: str, key: str) -> None:
        """Store a key; it is used at once.

        Raises:
            InvalidFrame: it cannot be a key.
            StorageUnavailable: it cannot be stored.
        """
        ...

    def remove(self, provider: str) -> bool:
        """Forget a key; whether there was one.

        Raises:
            StorageUnavailable: the change cannot be kept.
        """
        ...


class IModelCatalog(Protocol):
    """The models that are configured here."""

    @property
    def default(self) -> str:
        """The model that answers where none is named."""
        ...

    def check(self, model: str, *, tools: bool = False) -> str:
        """`model` if it can be asked here; with `tools`, if it can use tools.

        Raises:
            UnknownModel: no provider has that name.
            ProviderNotConfigured: the provider's key is missing.
            ProviderRejected: it is known that the model cannot use tools.
        """
        ...

    def facts(self, model: str) -> ModelFacts:
        """What is known of `model`."""
        ...

    def provider(self, model: str, tools: Sequence[Any] = (), options: Mapping[str, Any] | None = None) -> ILLMProvider:
        """The provider that answers for `model`, with `tools` bound to it.

        Args:
            options: further parameters of the request, in the words of OpenAI's chat completions.

        Raises:
            UnknownModel, ProviderNotConfigured, ProviderRejected: as `check`.
        """
        ...

    async def try_key(self, provider: str, key: str | None = None) -> None:
        """Ask a provider whether it accepts a key: the given one, else the one that is in use.

        Raises:
            KeyRefused: it does not.
            KeyUnchecked: it could not be asked.
        """
        ...

    async def models(self, *, refresh: bool = False) -> ModelList:
        """What can be asked: what the providers list, and what is known of it.

        Args:
            refresh: ask the providers again, however fresh their last answer is.
        """
        ...
