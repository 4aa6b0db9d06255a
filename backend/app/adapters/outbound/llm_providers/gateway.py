"""Chat completions for programs that speak OpenAI: relayed where the provider speaks it too, converted where it does not."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, cast

import orjson
from aiohttp import ClientResponse

from app.adapters.outbound.llm_providers.bounds import EVENTS, WEB_PAGES, EventBuffer, let_others_run, read_document
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
from app.core.domain.ids import new_id
from app.core.domain.text import load_json, mend_json
from app.core.ports import Count, ILLMProvider

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
        payload = self._payload(model, name, endpoint, await _with_pictures(endpoint, request))
        async with endpoint.asked(name, payload) as exchange:
            _check_kind(endpoint, exchange.response)
            body = await read_document(exchange.response, endpoint.title)
        document = _document(endpoint, body)
        _count(document.get("usage"), count)
        return _without(mend_json(body), endpoint.secret)

    def stream(self, model: str, request: Mapping[str, Any], count: Count) -> AsyncGenerator[bytes]:
        endpoint, name = self._relayed(model, request)
        if endpoint is None:
            return self._convert(model, request, count)
        return self._relay(endpoint, model, name, request, count)

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
        self, endpoint: Endpoint, model: str, name: str, request: Mapping[str, Any], count: Count
    ) -> AsyncGenerator[bytes]:
        """The provider's events as they come, but for a last one with the usage that the caller did not ask for."""
        payload = self._payload(model, name, endpoint, await _with_pictures(endpoint, request))
        wants_usage = _wants_usage(request)
        events = EventBuffer(endpoint.title, ends=EVENTS)
        finished, done = False, False
        async with endpoint.asked(name, payload) as exchange:
            _check_kind(endpoint, exchange.response)
            if exchange.response.content_type == "application/json":  # some servers and proxies do not stream
                document = _document(endpoint, await read_document(exchange.response, endpoint.title))
                _count(document.get("usage"), count)
                yield _without(_as_events(document, wants_usage), endpoint.secret)
                return
            yield b""
            async for received in exchange.response.content.iter_any():
                exchange.piece_came()
                data = _without(mend_json(events.feed(received)), endpoint.secret)
                if _USAGE.search(data) is not None:
                    data = _take_usage(data, wants_usage, count)
                finished = finished or _FINISHED.search(data) is not None
                done = done or b"[DONE]" in data
                if data:
                    yield data
                await let_others_run(received)
        if rest := events.rest():
            finished = finished or _FINISHED.search(rest) is not None
            done = done or b"[DONE]" in rest
            yield _without(mend_json(rest), endpoint.secret) + b"\n\n"
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


def _check_kind(endpoint: Endpoint, response: ClientResponse) -> None:
    """Refuse a web page.

    Raises:
        ProviderUnavailable: the answer is one.
    """
    if response.content_type in WEB_PAGES:
        raise endpoint.not_a_model(response.content_type)


def _document(endpoint: Endpoint, body: bytes) -> dict[str, Any]:
    """A whole answer.

    Raises:
        ProviderUnavailable: it is not one.
    """
    try:
        document: Any = load_json(body)
    except ValueError as error:
        raise endpoint.not_json() from error
    found = cast("dict[str, Any]", document) if isinstance(document, dict) else {}
    if not isinstance(found.get("choices"), list):
        raise endpoint.not_a_model("application/json without choices")
    return found


def _as_events(document: dict[str, Any], wants_usage: bool) -> bytes:
    """A whole answer, as the events of a stream."""
    head = {**document, "object": "chat.completion.chunk"}
    usage = head.pop("usage", None)
    choices: list[dict[str, Any]] = []
    for choice in cast("list[Any]", document["choices"]):
        made = cast("dict[str, Any]", choice) if isinstance(choice, dict) else {}
        message: Any = made.get("message")
        delta: dict[str, Any] = {**message} if isinstance(message, dict) else {}
        if isinstance(calls := delta.get("tool_calls"), list):
            numbered = enumerate(cast("list[Any]", calls))
            delta["tool_calls"] = [{"index": index, **call} for index, call in numbered if isinstance(call, dict)]
        choices.append({**{key: value for key, value in made.items() if key != "message"}, "delta": delta})
    events = _event({**head, "choices": choices})
    if wants_usage and usage:
        events += _event({**head, "choices": [], "usage": usage})
    return events + DONE


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


async def _with_pictures(endpoint: Endpoint, request: Mapping[str, Any]) -> Mapping[str, Any]:
    if endpoint.provider.takes_addresses:
        return request
    return {**request, "messages": await endpoint.pool.pictures.in_request(request["messages"])}


def _wants_usage(request: Mapping[str, Any]) -> bool:
    options: dict[str, Any] = request.get("stream_options") or {}
    return bool(options.get("include_usage"))


def _without(data: bytes, secret: str | None) -> bytes:
    return data.replace(secret.encode(), b"") if secret else data


def _head(model: str, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{new_id()}", "object": kind, "created": int(time.time()), "model": model}


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"
