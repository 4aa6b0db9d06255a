"""Chat completions for programs that speak OpenAI: relayed where the provider speaks it too, converted where it does not."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, cast

import orjson

from app.adapters.outbound.llm_providers.catalog import DEMO, ModelCatalog
from app.adapters.outbound.llm_providers.endpoint import Endpoint
from app.adapters.outbound.llm_providers.openai_answers import (
    NOBODY,
    Deltas,
    finish_reason,
    openai_calls,
    openai_usage,
)
from app.adapters.outbound.llm_providers.providers import Wire
from app.core.domain.errors import ProviderUnavailable
from app.core.domain.ids import new_id
from app.core.ports import Count, ILLMProvider

MAX_ANSWER_BYTES = 64 * 1024 * 1024
DONE = b"data: [DONE]\n\n"
_OURS = ("model", "messages", "stream", "stream_options", "tools")
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"|\[DONE\]')


class ModelGateway:
    """An `IModelGateway` over the providers of the catalog."""

    def __init__(self, catalog: ModelCatalog) -> None:
        self._catalog = catalog

    async def complete(self, model: str, request: Mapping[str, Any], count: Count) -> bytes:
        endpoint, name = self._relayed(model, request)
        if endpoint is None:
            return await self._converted(model, request, count)
        payload = self._payload(model, name, endpoint, request)
        async with endpoint.asked(name, payload) as exchange:
            body = bytearray()
            async for data in exchange.response.content.iter_any():
                body += data
                if len(body) > MAX_ANSWER_BYTES:
                    raise ProviderUnavailable(f"{endpoint.title} does not come to an end with its answer.")
        try:
            document: Any = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise ProviderUnavailable(f"{endpoint.title} sent something that is not JSON. Try again.") from error
        if not isinstance(document, dict) or "choices" not in document:
            raise endpoint.refused(502, None, "an answer without choices", name)
        _count(cast("dict[str, Any]", document).get("usage"), count)
        return _without(bytes(body), endpoint.secret)

    def stream(self, model: str, request: Mapping[str, Any], count: Count) -> AsyncGenerator[bytes]:
        endpoint, name = self._relayed(model, request)
        if endpoint is None:
            return self._convert(model, request, count)
        return self._relay(endpoint, name, self._payload(model, name, endpoint, request), request, count)

    def _relayed(self, model: str, request: Mapping[str, Any]) -> tuple[Endpoint | None, str]:
        """Where a request is relayed to, and the model's name there; no place where it has to be converted.

        Raises:
            UnknownModel, ProviderNotConfigured, ProviderRejected: the model cannot be asked, or not like that.
        """
        self._catalog.check(model, tools=bool(request.get("tools")))
        if model == DEMO:
            return None, model
        endpoint, name = self._catalog.endpoint(model)
        return (endpoint if self._speaks_chat(endpoint, model, request) else None), name

    def _speaks_chat(self, endpoint: Endpoint, model: str, request: Mapping[str, Any]) -> bool:
        """Whether a request can go to the provider as it is.

        OpenAI's reasoning models take tools by the Responses API only: on chat completions they refuse them, or want
        the effort `none`, which some of them do not know (https://developers.openai.com/api/docs/guides/latest-model).
        """
        if endpoint.wire is Wire.RESPONSES:
            return not (request.get("tools") and self._catalog.facts(model).reasoning)
        return endpoint.wire is Wire.OPENAI

    def _payload(self, model: str, name: str, endpoint: Endpoint, request: Mapping[str, Any]) -> bytes:
        """The request in the provider's words."""
        payload: dict[str, Any] = {**request, "model": name}
        payload.pop("metadata", None)  # it is for this service
        if payload.get("stream"):
            asked: dict[str, Any] = payload.get("stream_options") or {}
            payload["stream_options"] = {**asked, "include_usage": True}
        dialect = endpoint.provider.dialect
        return orjson.dumps(dialect.adapt(payload, self._catalog.facts(model)))

    async def _relay(
        self, endpoint: Endpoint, name: str, payload: bytes, request: Mapping[str, Any], count: Count
    ) -> AsyncGenerator[bytes]:
        """The provider's events as they come, but for a last one with the usage that the caller did not ask for."""
        wants_usage = _wants_usage(request)
        secret = (endpoint.secret or "").encode()
        rest, finished, done = b"", False, False
        async with endpoint.asked(name, payload) as exchange:
            yield b""
            async for data in exchange.response.content.iter_any():
                exchange.piece_came()
                if rest:
                    data, rest = rest + data, b""
                if not data.endswith(b"\n\n"):
                    end = data.rfind(b"\n\n") + 2
                    data, rest = (data[:end], data[end:]) if end > 1 else (b"", data)
                if secret and secret in data:
                    data = data.replace(secret, b"")
                if _USAGE.search(data) is not None:
                    data = _take_usage(data, wants_usage, count)
                finished = finished or _FINISHED.search(data) is not None
                done = done or b"[DONE]" in data
                if data:
                    yield data
        if rest:
            finished = finished or _FINISHED.search(rest) is not None
            done = done or b"[DONE]" in rest
            yield _without(rest, endpoint.secret) + b"\n\n"
        if not finished:
            raise endpoint.cut_short()
        if not done:
            yield DONE

    # --- other wires

    def _provider(self, model: str, request: Mapping[str, Any]) -> ILLMProvider:
        options = {key: value for key, value in request.items() if key not in _OURS and value is not None}
        return self._catalog.alone(model, request.get("tools") or (), options)

    async def _converted(self, model: str, request: Mapping[str, Any], count: Count) -> bytes:
        provider = self._provider(model, request)
        answer: Any = await provider.stream(_messages(request), NOBODY)
        count(answer.usage_metadata or {})
        message: dict[str, Any] = {"role": "assistant", "content": answer.text or None, "refusal": None}
        if calls := openai_calls(answer):
            message["tool_calls"] = calls
        if reasoning := answer.additional_kwargs.get("reasoning_content"):
            message["reasoning_content"] = reasoning
        choice = {"index": 0, "message": message, "finish_reason": finish_reason(answer), "logprobs": None}
        document = {**_head(model, "chat.completion"), "choices": [choice]}
        if usage := openai_usage(answer.usage_metadata):
            document["usage"] = usage
        return orjson.dumps(document)

    async def _convert(self, model: str, request: Mapping[str, Any], count: Count) -> AsyncGenerator[bytes]:
        provider = self._provider(model, request)
        head = _head(model, "chat.completion.chunk")
        wants_usage = _wants_usage(request)

        def event(delta: dict[str, Any], reason: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
            return _event({**head, "choices": [choice]})

        pieces = Deltas()
        asking = asyncio.create_task(provider.stream(_messages(request), pieces))
        first = True
        async with aclosing(pieces.until(asking)) as batches:
            async for deltas in batches:
                if first:
                    deltas, first = [{"role": "assistant", "content": ""}, *deltas], False
                yield b"".join(map(event, deltas))
        answer: Any = await asking
        if first:
            yield event({"role": "assistant", "content": ""})
        if not pieces.has_calls:
            for index, call in enumerate(openai_calls(answer)):
                yield event({"tool_calls": [{"index": index, **call}]})
        count(answer.usage_metadata or {})
        yield event({}, finish_reason(answer))
        if wants_usage:
            yield _event({**head, "choices": [], "usage": openai_usage(answer.usage_metadata)})
        yield DONE


def _take_usage(data: bytes, wants_usage: bool, count: Count) -> bytes:
    """Count the usage in whole events; the one that holds nothing else is left out where nobody asked for it."""
    kept: list[bytes] = []
    for event in data.split(b"\n\n"):
        if _USAGE.search(event) is None:
            kept.append(event)
            continue
        try:
            chunk: Any = orjson.loads(event[event.find(b"{") :])
        except orjson.JSONDecodeError:
            kept.append(event)
            continue
        _count(chunk.get("usage"), count)
        if wants_usage or chunk.get("choices"):
            kept.append(event)
    return b"\n\n".join(kept)


def _count(usage: Any, count: Count) -> None:
    if isinstance(usage, dict):
        found = cast("dict[str, Any]", usage)
        names = {"input_tokens": "prompt_tokens", "output_tokens": "completion_tokens"}
        count({ours: int(found.get(theirs) or 0) for ours, theirs in names.items()})


def _messages(request: Mapping[str, Any]) -> list[Any]:
    from app.adapters.outbound.llm_providers.openai_messages import from_openai  # LangChain: late, like the providers

    return from_openai(request["messages"])


def _wants_usage(request: Mapping[str, Any]) -> bool:
    options: dict[str, Any] = request.get("stream_options") or {}
    return bool(options.get("include_usage"))


def _without(data: bytes, secret: str | None) -> bytes:
    return data.replace(secret.encode(), b"") if secret else data


def _head(model: str, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{new_id()}", "object": kind, "created": int(time.time()), "model": model}


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"
