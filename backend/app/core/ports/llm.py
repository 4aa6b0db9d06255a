"""What the application asks of language models."""

from collections.abc import Sequence
from typing import Any, Protocol

from pydantic import BaseModel


class ModelInfo(BaseModel):
    """A model that can be asked, as `GET /api/models` lists it.

    Attributes:
        id: `provider@model`, the name that requests use.
        default: whether it answers where none is named.
    """

    id: str
    provider: str
    name: str
    default: bool = False


class IAnswerSink(Protocol):
    """Takes the pieces of an answer while it is being written. None of its methods wait."""

    def text(self, piece: str) -> None:
        """The next piece of the answer's text."""
        ...

    def reasoning(self, piece: str) -> None:
        """The next piece of the model's reasoning."""
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


class IModelCatalog(Protocol):
    """The models that are configured here."""

    @property
    def default(self) -> str:
        """The model that answers where none is named."""
        ...

    def check(self, model: str) -> str:
        """`model` if it can be asked here.

        Raises:
            UnknownModel: no provider has that name.
            ProviderNotConfigured: the provider's key is missing.
        """
        ...

    def provider(self, model: str, tools: Sequence[Any] = ()) -> ILLMProvider:
        """The provider that answers for `model`, with `tools` bound to it.

        Raises:
            UnknownModel, ProviderNotConfigured: as `check`.
        """
        ...

    def models(self) -> list[ModelInfo]:
        """What is configured, the default first."""
        ...
