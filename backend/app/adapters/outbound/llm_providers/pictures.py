"""Pictures that messages name by an address, for providers that take the bytes of a picture alone."""

import asyncio
import base64
import io
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, cast

from langchain_core.messages import BaseMessage, HumanMessage

from app.adapters.outbound.llm_providers.fields import fields
from app.adapters.outbound.public_http import FetchFailed, Network, PublicHttp
from app.core.domain.errors import AtelierError, InvalidFrame

logger = logging.getLogger(__name__)

MAX_PIXELS = 64 * 1024 * 1024
MAX_REQUEST_BYTES = 10 * 1024 * 1024
"""Bytes of all pictures that one request fetches."""

MAX_PICTURES = 16
KEPT_BYTES = 64 * 1024 * 1024
KEPT_SECONDS = 600.0
KEPT_FAILURE_SECONDS = 60.0
AT_ONCE = 4
FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
PICTURES = ("image", "image_url", "input_image")

Part = dict[str, Any]


class Pictures:
    """Fetches pictures, checks that they are some, and keeps them for a while: a turn of many steps fetches each once.

    Args:
        allowed: private networks that pictures may be fetched from.
    """

    def __init__(self, allowed: Sequence[Network] = (), http: PublicHttp | None = None) -> None:
        self._http = http or PublicHttp(allowed)
        self._kept: OrderedDict[str, tuple[float, str | FetchFailed]] = OrderedDict()
        self._size = 0

    async def in_messages(self, messages: Sequence[BaseMessage]) -> list[BaseMessage]:
        """`messages` with every picture in them as data.

        Raises:
            InvalidFrame: a picture of the newest user message cannot be had; in older ones a note takes its place.
        """
        contents = [cast("Any", message.content) for message in messages]  # pyright: ignore[reportUnknownMemberType]
        newest = max((i for i, message in enumerate(messages) if isinstance(message, HumanMessage)), default=-1)
        inlined = await self._inline(contents, newest)
        return [
            message if content is old else message.model_copy(update={"content": content})
            for message, old, content in zip(messages, contents, inlined, strict=True)
        ]

    async def in_request(self, messages: Sequence[Any]) -> list[Any]:
        """The messages of a request in OpenAI's form, with every picture in them as data.

        Raises:
            InvalidFrame: as `in_messages`.
        """
        contents = [message.get("content") if isinstance(message, dict) else None for message in messages]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        roles = [message.get("role") if isinstance(message, dict) else None for message in messages]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        newest = max((i for i, role in enumerate(roles) if role == "user"), default=-1)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        inlined = await self._inline(contents, newest)  # pyright: ignore[reportUnknownArgumentType]
        return [
            message if content is old else {**message, "content": content}
            for message, old, content in zip(messages, contents, inlined, strict=True)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        ]

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def _inline(self, contents: Sequence[Any], newest: int) -> list[Any]:
        order = sorted(range(len(contents)), key=lambda index: (index == newest, index), reverse=True)
        addresses = {
            url: None for index in order for part in _parts(contents[index]) if (url := _address(part)) is not None
        }
        if not addresses:
            return list(contents)
        places = asyncio.Semaphore(AT_ONCE)

        async def fetch(url: str) -> str | FetchFailed:
            async with places:
                return await self._picture(url)

        wanted = list(addresses)[:MAX_PICTURES]
        found = dict(zip(wanted, await asyncio.gather(*map(fetch, wanted)), strict=True))
        room = MAX_REQUEST_BYTES
        inlined: list[Any] = list(contents)
        for index in order:
            parts: list[Any] = []
            for part in _parts(contents[index]):
                url = _address(part)
                made = None if url is None else found.get(url, _TOO_MANY)
                if isinstance(made, str):
                    room -= len(made) * 3 // 4
                    made = made if room >= 0 else _TOO_MANY
                if isinstance(made, FetchFailed) and index == newest:
                    raise _failure(made)
                parts.append(part if made is None else _part(part, made))
            if any(new is not old for new, old in zip(parts, _parts(contents[index]), strict=True)):
                inlined[index] = parts
        return inlined

    async def _picture(self, url: str) -> str | FetchFailed:
        """The picture at `url` as a data URL, or why there is none."""
        kept = self._kept.get(url)
        if kept is not None and time.monotonic() < kept[0]:
            self._kept.move_to_end(url)
            return kept[1]
        try:
            fetched = await self._http.get(url)
            made = await asyncio.to_thread(_data_url, fetched.data, fetched.media_type)
        except FetchFailed as error:
            logger.info("a picture was not fetched: %s", error)
            made = error
        self._keep(url, made)
        return made

    def _keep(self, url: str, made: str | FetchFailed) -> None:
        self._size += _size(url, made) - (_size(url, self._kept[url][1]) if url in self._kept else 0)
        lifetime = KEPT_SECONDS if isinstance(made, str) else KEPT_FAILURE_SECONDS
        self._kept[url] = (time.monotonic() + lifetime, made)
        self._kept.move_to_end(url)
        while self._size > KEPT_BYTES:
            oldest, (_, dropped) = self._kept.popitem(last=False)
            self._size -= _size(oldest, dropped)


_TOO_MANY = FetchFailed(
    f"the pictures are more than {MAX_PICTURES} or together larger than {MAX_REQUEST_BYTES // 1024**2} MiB"
)


def _failure(reason: FetchFailed) -> AtelierError:
    error = InvalidFrame(
        f"A picture cannot be given to this model: {reason}. Attach the picture itself, or leave it out."
    )
    error.retryable = reason.retryable
    return error


def _parts(content: Any) -> list[Any]:
    return cast("list[Any]", content) if isinstance(content, list) else []


def _address(part: Any) -> str | None:
    """The address of a picture; None for any other part, and for a picture that is here."""
    found = fields(part)
    if found.get("type") not in PICTURES:
        return None
    for value in (found.get("image_url"), found.get("url"), found.get("source")):
        url: Any = value if isinstance(value, str) else fields(value).get("url")
        if isinstance(url, str) and "://" in url and not url.startswith(("data:", "gs://")):
            return url
    return None


def _part(part: Part, made: str | FetchFailed) -> Part:
    if isinstance(made, FetchFailed):
        return {"type": "text", "text": f"(A picture that cannot be shown: {made}.)"}
    image: Part = {"url": made}
    named: Any = part.get("image_url")
    if isinstance(named, dict) and "detail" in named:
        image["detail"] = named["detail"]
    return {"type": "image_url", "image_url": image}


def _data_url(data: bytes, claimed: str) -> str:
    """A picture as a data URL, under the type that its bytes have.

    Raises:
        FetchFailed: it is not a picture that models take.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            media_type, pixels = Image.MIME[picture.format or ""], picture.width * picture.height
    except Image.DecompressionBombError:
        pixels, media_type = MAX_PIXELS + 1, ""
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, KeyError) as error:
        said = f" ({claimed[:60]})" if claimed.isprintable() else ""
        raise FetchFailed(f"what its address answers with{said} is not a PNG, JPEG, WebP or GIF picture") from error
    if pixels > MAX_PIXELS:
        raise FetchFailed(f"it has more than {MAX_PIXELS // 1024**2} million pixels")
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _size(url: str, made: str | FetchFailed) -> int:
    return len(url) + (len(made) if isinstance(made, str) else 100)
