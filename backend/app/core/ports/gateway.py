"""What the OpenAI-shaped surface asks of models: to answer a request of OpenAI's as OpenAI would, whoever the provider is."""

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Protocol

Count = Callable[[Mapping[str, int]], None]
"""Takes the tokens of an answer: `input_tokens`, `output_tokens`."""


class IModelGateway(Protocol):
    """Passes requests for chat completions on to the provider of the model that they name."""

    async def complete(self, model: str, request: Mapping[str, Any], count: Count) -> bytes:
        """The whole answer as the body of an OpenAI answer.

        Args:
            model: `provider@model`.
            request: the body of a request to `/chat/completions`, which names any model.

        Raises:
            AtelierError: one of the provider errors, in words for the user.
        """
        ...

    def stream(self, model: str, request: Mapping[str, Any], count: Count) -> AsyncGenerator[bytes]:
        """The answer as server-sent events; the first item comes once the provider has accepted the request.

        Raises:
            AtelierError: as `complete`, or in the middle of the answer.
        """
        ...
