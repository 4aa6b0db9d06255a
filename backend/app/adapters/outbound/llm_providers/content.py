"""The parts of a message's content, whatever shape they were stored in, and what a model is sent of them."""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote_to_bytes

from app.adapters.outbound.llm_providers.fields import fields
from app.core.domain.text import clean_text

UNSEEN_IMAGE = "(An image, which this model cannot see.)"
PDF = "application/pdf"
_TEXT_TYPES = frozenset(
    ["json", "xml", "yaml", "x-yaml", "toml", "javascript", "typescript", "x-sh", "sql", "x-python", "csv"]
)


@dataclass(frozen=True, slots=True)
class Text:
    """Text."""

    text: str


@dataclass(frozen=True, slots=True)
class Media:
    """An image or a file.

    Attributes:
        media_type: empty where nobody says.
        data: its bytes in base64; empty where only its address is known.
        url: its address; empty where its bytes are here.
    """

    media_type: str
    data: str = ""
    url: str = ""
    name: str = ""

    @property
    def is_image(self) -> bool:
        """Whether it is a picture."""
        return self.media_type.startswith("image/")

    @property
    def data_url(self) -> str:
        """It as a URL: its address, or a `data:` URL."""
        return self.url or f"data:{self.media_type};base64,{self.data}"


Part = Text | Media


@dataclass(frozen=True, slots=True)
class Takes:
    """What a model reads beside text.

    Attributes:
        images: pictures.
        image_urls: pictures by their address; else only their bytes.
        pdf: PDF files.
        others: media types that are sent as they are, by their beginnings.
    """

    images: bool = True
    image_urls: bool = True
    pdf: bool = False
    others: tuple[str, ...] = ()


def parts_of(content: Any) -> list[Part]:
    """The parts of a message's content."""
    if isinstance(content, str):
        return [Text(content)] if content else []
    return [part for entry in content or () for part in _part(entry)]


def readable(parts: list[Part], takes: Takes) -> list[Part]:
    """`parts` as a model reads them: text files as text, and a sentence in place of what it cannot read."""
    return [_readable(part, takes) for part in parts]


def text_of(parts: list[Part]) -> str:
    """The text of parts, without anything else."""
    return "\n".join(part.text for part in parts if isinstance(part, Text))


def _readable(part: Part, takes: Takes) -> Part:
    if isinstance(part, Text):
        return part
    if part.is_image:
        if takes.images and (part.data or takes.image_urls):
            return part
        return Text(UNSEEN_IMAGE if part.data else f"(An image at {part.url}, which this model cannot see.)")
    if (text := _inline_text(part)) is not None:
        return text
    if (part.media_type == PDF and takes.pdf) or part.media_type.startswith(takes.others or ("\0",)):
        return part
    kind = "A PDF file" if part.media_type == PDF else "A file"
    named = f" named {part.name}" if part.name else ""
    return Text(f"({kind}{named}, which this model cannot read.)")


def _inline_text(part: Media) -> Text | None:
    """A text file as text; None for any other file."""
    kind, _, subtype = part.media_type.partition("/")
    if not part.data or not (kind == "text" or subtype.removesuffix("+json").removesuffix("+xml") in _TEXT_TYPES):
        return None
    try:
        text = base64.b64decode(part.data).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    return Text(f"The file {part.name or 'without a name'}:\n\n{clean_text(text)}")


def _part(entry: Any) -> Iterator[Part]:
    if isinstance(entry, str):
        yield Text(entry)
    if not isinstance(entry, dict):
        return
    part = cast("dict[str, Any]", entry)
    match part.get("type"):
        case "text" | "input_text" | "output_text" if isinstance(part.get("text"), str):
            yield Text(part["text"])
        case "refusal" if isinstance(part.get("refusal"), str):
            yield Text(part["refusal"])
        case "image_url" | "input_image":
            image = part.get("image_url")
            url: Any = cast("dict[str, Any]", image).get("url") if isinstance(image, dict) else image
            if isinstance(url, str):
                yield _from_url(url, "image/*", "")
        case "file" | "input_file":
            file: Any = part.get("file") if isinstance(part.get("file"), dict) else part
            url, name = file.get("file_data") or file.get("file_url"), file.get("filename")
            if isinstance(url, str):
                yield _from_url(url, "", name if isinstance(name, str) else "")
        case "image":
            yield from _langchain_image(part)
        case _:
            pass


def _langchain_image(part: dict[str, Any]) -> Iterator[Part]:
    """An image block as LangChain and Anthropic write it."""
    source = fields(part.get("source")) or part
    data = source.get("data") or source.get("base64")
    media_type = source.get("media_type") or source.get("mime_type") or "image/png"
    if isinstance(data, str):
        yield Media(media_type, data=data)
    elif isinstance(url := source.get("url"), str):
        yield _from_url(url, "image/*", "")


def _from_url(url: str, media_type: str, name: str) -> Media:
    if not url.startswith("data:"):
        if url.startswith(("http://", "https://")):
            guessed = PDF if not media_type and url.partition("?")[0].lower().endswith(".pdf") else media_type
            return Media(guessed, url=url, name=name)
        return Media(media_type or PDF, data=url, name=name)  # OpenAI's older form: base64 alone
    head, _, data = url[5:].partition(",")
    declared, *parameters = head.split(";")
    if "base64" not in parameters:
        data = base64.b64encode(unquote_to_bytes(data)).decode()
    return Media(declared or media_type or "text/plain", data=data, name=name)
