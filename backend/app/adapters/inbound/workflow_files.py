"""Workflows as files: JSON, or the metadata of a picture that ComfyUI made."""

import io
import re
from typing import Any

from app.core.domain.errors import InvalidFrame
from app.core.domain.text import read_json
from app.core.domain.workflow import DefinitionError

MAX_FILE_BYTES, MAX_WORKFLOW_BYTES = 64 * 1024 * 1024, 16 * 1024 * 1024
PNG = b"\x89PNG"
_NO_NAME = re.compile(r"[^a-zA-Z0-9_-]+")


def read_workflow(data: bytes) -> Any:
    """The workflow in a file's bytes: what ComfyUI ran, where both that and the canvas are there.

    Raises:
        DefinitionError: there is none in it.
    """
    if len(data) > MAX_FILE_BYTES:
        raise DefinitionError("", f"the file is larger than {MAX_FILE_BYTES:,} bytes.")
    if not data.startswith(PNG):
        return _json(data)
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as picture:
            info: dict[Any, Any] = dict(picture.info)
    except Image.DecompressionBombError as error:
        raise DefinitionError("", "the picture has more pixels than can be read.") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise DefinitionError("", "the picture cannot be read.") from error
    for chunk in ("prompt", "workflow"):
        text = info.get(chunk)
        if isinstance(text, str) and text:
            return _json(text.encode())
    raise DefinitionError("", "the picture holds no workflow. ComfyUI writes it into PNG files that it saves itself.")


def name_from(file: str) -> str:
    """A tool's name, made of a file's."""
    stem = file.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    return _NO_NAME.sub("_", stem).strip("_")[:64] or "workflow"


def _json(data: bytes) -> Any:
    if len(data) > MAX_WORKFLOW_BYTES:
        raise DefinitionError("", f"the workflow is larger than {MAX_WORKFLOW_BYTES:,} bytes.")
    try:
        return read_json(data, "it")
    except InvalidFrame as error:
        raise DefinitionError("", error.message) from error
