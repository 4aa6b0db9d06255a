"""Any server that speaks OpenAI's wire: langchain-openai builds the request, the lean reader reads the answer."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, cast

import aiohttp
import orjson
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import BaseTool
from langchain_openai import ChatOpenAI
from pydantic import PrivateAttr, SecretStr

from app.adapters.outbound.llm_providers.errors import from_status
from app.adapters.outbound.llm_providers.openai_stream import StreamReader
from app.core.domain.errors import AtelierError, ProviderTimeout, ProviderUnavailable
from app.core.ports import IAnswerSink

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
LAST_BYTES_SECONDS = 0.25


class HttpPool:
    """The connections to providers, shared by all models of a process and opened when first used."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    def session(self) -> aiohttp.ClientSession:
        """The session of the running loop."""
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
                cookie_jar=aiohttp.DummyCookieJar(),
                json_serialize=lambda value: orjson.dumps(value).decode(),
            )
        return self._session

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()


class OpenAIChatModel(ChatOpenAI):
    """`ChatOpenAI` with its reading loop replaced: what is sent is LangChain's, what comes back is read lean."""

    _pool: HttpPool = PrivateAttr()
    _provider_name: str = PrivateAttr()
    _key_variable: str = PrivateAttr()
    _read_timeout: float = PrivateAttr()

    @classmethod
    def connect(
        cls,
        *,
        model: str,
        base_url: str,
        key: str | None,
        key_variable: str,
        provider: str,
        pool: HttpPool,
        timeout: float,
    ) -> "OpenAIChatModel":
        """A model of the server at `base_url`, sharing the connections of `pool`."""
        chat = cls(
            model=model,
            base_url=base_url,
            api_key=SecretStr(key or "none"),
            max_retries=0,
            use_responses_api=False,
            stream_usage=True,
        )
        chat._pool = pool
        chat._provider_name = provider
        chat._key_variable = key_variable
        chat._read_timeout = timeout
        return chat

    async def read(self, messages: Sequence[BaseMessage], sink: IAnswerSink, **kwargs: Any) -> AIMessage:
        """Send `messages` and read the streamed answer, its pieces to `sink`.

        Raises:
            AtelierError: one of the provider errors, in words for the user.
        """
        options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}, **kwargs}
        payload = cast("dict[str, Any]", self._get_request_payload(list(messages), **options))
        secret = self._secret()
        reader = StreamReader(sink, provider=self._provider_name, secret=secret)
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if secret:
            headers["Authorization"] = f"Bearer {secret}"
        logger.debug("asking %s for %s with %d messages", self._provider_name, self.model_name, len(messages))
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=self._read_timeout)
        try:
            async with self._pool.session().post(
                f"{self.openai_api_base}/chat/completions", data=orjson.dumps(payload), headers=headers, timeout=timeout
            ) as response:
                if response.status != 200:
                    raise await self._refusal(response, secret)
                async for data in response.content.iter_any():
                    reader.feed(data)
                    if reader.done:
                        await _read_out(response)
                        break
                reader.close()
        except AtelierError:
            raise
        except TimeoutError as error:
            raise ProviderTimeout(
                f"{self._provider_name} did not answer within {self._read_timeout:g} seconds. Try again."
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise ProviderUnavailable(
                f"{self._provider_name} cannot be reached. Check its address and the network, then try again."
            ) from error
        except aiohttp.ClientError as error:
            raise ProviderUnavailable(f"{self._provider_name} cut its answer short. Try again.") from error
        return reader.message()

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = await self.read(messages, _NOBODY, **({"stop": stop} if stop else {}), **kwargs)
        return ChatResult(generations=[ChatGeneration(message=answer)])

    def _secret(self) -> str | None:
        key = self.openai_api_key
        value = key.get_secret_value() if isinstance(key, SecretStr) else None
        return None if value == "none" else value

    async def _refusal(self, response: aiohttp.ClientResponse, secret: str | None) -> AtelierError:
        return from_status(
            response.status,
            await response.content.read(65_536),
            provider=self._provider_name,
            model=self.model_name,
            key_variable=self._key_variable,
            secret=secret,
            retry_after=response.headers.get("Retry-After"),
        )


async def _read_out(response: aiohttp.ClientResponse) -> None:
    """Take what follows the last event, so that the connection can be used again; not for long."""
    try:
        async with asyncio.timeout(LAST_BYTES_SECONDS):
            await response.content.read()
    except TimeoutError:
        response.close()


class OpenAIProvider:
    """An `ILLMProvider` over OpenAI's wire."""

    def __init__(self, chat: OpenAIChatModel, tools: Sequence[BaseTool] = ()) -> None:
        self._chat = chat
        bound = chat.bind_tools(list(tools)) if tools else None
        self._kwargs: dict[str, Any] = dict(bound.kwargs) if bound is not None else {}  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]
        self.model: Any = bound if bound is not None else chat

    async def stream(self, messages: Sequence[Any], sink: IAnswerSink) -> AIMessage:
        """Ask the model; its pieces go to `sink`."""
        return await self._chat.read(messages, sink, **self._kwargs)


class _Nobody:
    """Takes pieces that nobody waits for."""

    def text(self, piece: str) -> None:
        """Nothing to do."""

    def reasoning(self, piece: str) -> None:
        """Nothing to do."""


_NOBODY = _Nobody()
