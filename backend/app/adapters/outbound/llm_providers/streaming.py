"""Sends a request and feeds the streamed answer to a reader, whatever the provider's wire."""

import asyncio

import aiohttp

from app.adapters.outbound.llm_providers.bounds import WEB_PAGES, let_others_run, read_document
from app.adapters.outbound.llm_providers.endpoint import Endpoint
from app.adapters.outbound.llm_providers.openai_stream import StreamReader
from app.core.domain.errors import AtelierError

LAST_BYTES_SECONDS = 0.25
LAST_BYTES = 65_536


async def read_answer(endpoint: Endpoint, model: str, path: str, payload: bytes, reader: StreamReader) -> None:
    """Send `payload` and read the answer to its end.

    Raises:
        AtelierError: one of the provider errors, in words for the user.
    """
    seen = 0
    async with endpoint.asked(model, payload, path) as exchange:
        kind = exchange.response.content_type
        if kind in WEB_PAGES:
            raise endpoint.not_a_model(kind)
        if kind == "application/json":  # some servers and proxies do not stream
            body = await read_document(exchange.response, endpoint.title)
            if not body.lstrip().startswith(_EVENT_STREAM):
                reader.take(body)
                return
            reader.feed(body)
        async for data in exchange.response.content.iter_any():
            reader.feed(data)
            if reader.done:
                await _read_out(exchange.response)
                break
            if reader.events != seen:  # a comment that keeps the connection alive is no piece
                seen = reader.events
                exchange.piece_came()
            await let_others_run(data)
        reader.close()


_EVENT_STREAM = (b"data:", b"event:", b":")


async def _read_out(response: aiohttp.ClientResponse) -> None:
    """Take what follows the last event, so that the connection can be used again; not for long."""
    try:
        async with asyncio.timeout(LAST_BYTES_SECONDS):
            await read_document(response, "", LAST_BYTES)
    except (TimeoutError, AtelierError):
        response.close()
