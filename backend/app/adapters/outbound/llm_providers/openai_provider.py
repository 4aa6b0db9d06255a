"""Any server that speaks OpenAI's wire: langchain-openai builds the request, the lean reader reads the answer."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_openai import ChatOpenAI
from pydantic import PrivateAttr, SecretStr

from app.adapters.outbound.llm_providers.endpoint import Endpoint
from app.adapters.outbound.llm_providers.history import own_or_plain
from app.adapters.outbound.llm_providers.openai_answers import NOBODY
from app.adapters.outbound.llm_providers.openai_stream import StreamReader
from app.adapters.outbound.llm_providers.streaming import read_answer
from app.core.ports import IAnswerSink, ModelFacts

logger = logging.getLogger(__name__)


class OpenAIChatModel(ChatOpenAI):
    """`ChatOpenAI` with its reading loop replaced: what is sent is LangChain's, what comes back is read lean."""

    _endpoint: Endpoint = PrivateAttr()
    _facts: ModelFacts = PrivateAttr()

    @classmethod
    def connect(cls, model: str, endpoint: Endpoint, facts: ModelFacts) -> "OpenAIChatModel":
        """The model of that name at `endpoint`."""
        chat = cls(
            model=model,
            base_url=endpoint.url,
            api_key=SecretStr(endpoint.secret or "none"),
            max_retries=0,
            use_responses_api=False,
            stream_usage=True,
        )
        chat._endpoint = endpoint
        chat._facts = facts
        return chat

    async def read(self, messages: Sequence[BaseMessage], sink: IAnswerSink, **kwargs: Any) -> AIMessage:
        """Send `messages` and read the streamed answer, its pieces to `sink`.

        Raises:
            AtelierError: one of the provider errors, in words for the user.
        """
        endpoint = self._endpoint
        if not endpoint.provider.takes_addresses and self._facts.images is not False:
            messages = await endpoint.pool.pictures.in_messages(messages)
        payload = self.payload(messages, {"stream": True, "stream_options": {"include_usage": True}, **kwargs})
        reader = StreamReader(sink, endpoint, self.model_name)
        logger.debug("asking %s for %s with %d messages", endpoint.title, self.model_name, len(messages))
        await read_answer(endpoint, self.model_name, "/chat/completions", orjson.dumps(payload), reader)
        return reader.message()

    def payload(self, messages: Sequence[BaseMessage], options: Mapping[str, Any]) -> dict[str, Any]:
        """The request's body, in the provider's words.

        Raises:
            ProviderRejected: the provider has no such thing as `options` ask for.
        """
        provider = self._endpoint.provider
        ours = own_or_plain(messages, provider.made_by)
        made = cast("dict[str, Any]", self._get_request_payload(ours, **options))
        for message, sent in zip(ours, made["messages"], strict=True):
            if isinstance(message, AIMessage):
                sent |= {key: message.additional_kwargs[key] for key in _RETURNED if message.additional_kwargs.get(key)}
        return provider.dialect.adapt(made, self._facts)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = await self.read(messages, NOBODY, **({"stop": stop} if stop else {}), **kwargs)
        return ChatResult(generations=[ChatGeneration(message=answer)])


_RETURNED = ("reasoning_content", "reasoning_details")
"""What a provider may want to see again of its own messages; its dialect says whether it does."""


class OpenAIProvider:
    """An `ILLMProvider` over OpenAI's wire."""

    def __init__(
        self, chat: OpenAIChatModel, tools: Sequence[Any] = (), options: Mapping[str, Any] | None = None
    ) -> None:
        self._chat = chat
        bound = chat.bind_tools(list(tools)) if tools else None
        made: dict[str, Any] = cast("Any", bound).kwargs if bound is not None else {}
        self._kwargs: dict[str, Any] = {**made, **(options or {})}
        self.model: Any = chat.bind(**self._kwargs) if self._kwargs else chat

    async def stream(self, messages: Sequence[Any], sink: IAnswerSink) -> AIMessage:
        """Ask the model; its pieces go to `sink`."""
        return await self._chat.read(messages, sink, **self._kwargs)
