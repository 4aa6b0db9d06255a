"""What a tool of another MCP server answered, for the model and for the user: bounded, and nothing in it is trusted."""

import base64
import binascii
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.core.domain.text import clean_text
from app.core.ports import IFileStore
from app.core.services.tools import FILES

MAX_TEXT_BYTES = 4 * 1024 * 1024
MAX_FILES = 32
HEAD_CHARACTERS = 2_000


@dataclass(slots=True)
class Result:
    """An answer.

    Attributes:
        text: for the model.
        shown: files for the user: `url`, `media_type` and `name` each.
    """

    text: str
    shown: list[dict[str, Any]]


@dataclass(slots=True)
class _Parts:
    texts: list[str] = field(default_factory=list[str])
    files: list[tuple[str, str, bytes]] = field(default_factory=list[tuple[str, str, bytes]])
    left_out: int = 0


async def take(result: Any, files: IFileStore, user_id: str) -> Result:
    """The answer in `result`: its pictures, sounds and other files, and what is too long of its text, are kept for the user."""
    parts = _Parts()
    for block in result.content:
        _take_block(block, parts)
    if not result.content and result.structured_content is not None:
        parts.texts.append(orjson.dumps(result.structured_content, option=orjson.OPT_INDENT_2).decode())
    if parts.left_out:
        parts.texts.append(f"({parts.left_out} more files were left out: a result may have {MAX_FILES}.)")
    shown = [await _keep(files, user_id, *file) for file in parts.files]
    text = clean_text("\n".join(parts.texts))
    data = text.encode()
    if len(data) > MAX_TEXT_BYTES:
        kept = await _keep(files, user_id, "result.txt", "text/plain", data)
        shown.append(kept)
        text = (
            f"{text[:HEAD_CHARACTERS]}\n… This is the beginning. The whole text has {len(data):,} bytes; "
            f"the user has it as a file: {kept['url']}"
        )
    return Result(text or ("The user sees what it made." if shown else "It answered nothing."), shown)


def _take_block(block: Any, parts: _Parts) -> None:
    match block.type:
        case "text":
            parts.texts.append(block.text)
        case "image" | "audio":
            _take_file(parts, block.type, block.mime_type, block.data)
        case "resource_link":
            parts.texts.append(f"{block.name}: {block.uri}")
        case "resource" if getattr(block.resource, "text", None) is not None:
            parts.texts.append(block.resource.text)
        case "resource" if getattr(block.resource, "blob", None) is not None:
            name = str(block.resource.uri).rstrip("/").rpartition("/")[2] or "file"
            _take_file(parts, name, block.resource.mime_type, block.resource.blob)
        case _:
            parts.texts.append(f"({block.type})")


def _take_file(parts: _Parts, name: str, media_type: str | None, encoded: str) -> None:
    if len(parts.files) >= MAX_FILES:
        parts.left_out += 1
        return
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        parts.texts.append(f"({name}: its data cannot be read)")
        return
    parts.files.append((clean_text(name)[:100], media_type or "application/octet-stream", data))


async def _keep(files: IFileStore, user_id: str, name: str, media_type: str, data: bytes) -> dict[str, Any]:
    async def chunks() -> AsyncIterator[bytes]:
        yield data

    stored = await files.save(user_id, name, media_type, chunks())
    return {"url": f"{FILES}{stored.id}", "media_type": stored.media_type, "name": stored.name}
