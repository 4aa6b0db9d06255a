"""Text files that come with a message: models read them as text, since many take no other files than pictures and PDFs."""

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

from app.core.domain.errors import InvalidFrame

_TEXT = re.compile(
    r"text/.+|application/(json|.+\+json|xml|.+\+xml|yaml|x-yaml|toml|javascript|x-javascript|typescript|x-sh|sql"
    r"|x-ndjson|graphql)",
    re.IGNORECASE,
)
MAX_NAME = 200


def is_text(media_type: str) -> bool:
    """Whether files of this type are text."""
    return _TEXT.fullmatch(media_type.partition(";")[0].strip()) is not None


def text_in(url: str, name: str) -> str:
    """The text in a `data:` address.

    Raises:
        InvalidFrame: it is another address, or what it holds is no text.
    """
    head, comma, body = url.partition(",")
    if not comma or not head.lower().startswith("data:"):
        raise InvalidFrame(f"The text file {name!r} is not in the message. Send its content as a data: address.")
    charset = re.search(r";\s*charset=([\w-]+)", head)
    try:
        is_base64 = head.lower().endswith(";base64")
        data = base64.b64decode(body, validate=True) if is_base64 else unquote_to_bytes(body)
        return data.decode(charset[1] if charset else "utf-8-sig").removeprefix("\ufeff")
    except (binascii.Error, LookupError, UnicodeError) as error:
        raise InvalidFrame(f"The file {name!r} is not text. Send it with its own media type.") from error


def as_text(url: str, name: str) -> str:
    """A text file as it stands in a message.

    Raises:
        InvalidFrame: as `text_in`.
    """
    shown = " ".join(name.replace('"', "&quot;").split())[:MAX_NAME] or "file"
    text = text_in(url, shown).replace("</attachment>", "<\\/attachment>")
    return f'<attachment name="{shown}">\n{text}\n</attachment>'
