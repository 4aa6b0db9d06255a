"""What a client may send as the content of a message, on every wire."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic_core import ErrorDetails

from app.core.domain.declared_tools import MAX_NAME, SLUG
from app.core.domain.errors import AtelierError, UnsupportedMediaType
from app.core.domain.ids import CLIENT_ID
from app.core.domain.text import check_json, check_label

MAX_PARTS = 100
MAX_REASON = 1_000


def _check(content: Any) -> Any:
    if isinstance(content, list):
        for index, part in enumerate(content):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            if not isinstance(part.get("type"), str):  # pyright: ignore[reportUnknownMemberType]
                raise ValueError(f"part {index} has no type")
            if part["type"] == "text" and not isinstance(part.get("text"), str):  # pyright: ignore[reportUnknownMemberType]
                raise ValueError(f"part {index} is a text part without text")
    return checked(content)


def checked(value: Any) -> Any:
    """`value` if it can be stored and sent everywhere; for pydantic, so that the error names its place."""
    try:
        return check_json(value, "the value")
    except AtelierError as error:
        raise ValueError(error.message) from error


def checked_label(value: str) -> str:
    """`value` if it can be shown in a list or a terminal; for pydantic."""
    try:
        return check_label(value, "the value")
    except AtelierError as error:
        raise ValueError(error.message) from error


def message_of(detail: ErrorDetails) -> str:
    """What pydantic says of a fault, without its own prefix before our sentences."""
    if detail["type"] == "value_error":
        return str(detail.get("ctx", {}).get("error") or detail["msg"])
    return detail["msg"]


def check_media_type(given: str | None, *accepted: str) -> None:
    """Nothing, where a request's body has one of the media types that are accepted.

    Raises:
        UnsupportedMediaType: it has another one, or does not say.
    """
    if (given or "").partition(";")[0].strip().lower() not in accepted:
        said = f"{given[:100]!r} is not taken here" if given else "The request does not say what its body is"
        raise UnsupportedMediaType(f"{said}. Send it with Content-Type: {' or '.join(accepted)}.")


MessageContent = Annotated[
    str | Annotated[list[dict[str, Any]], Field(max_length=MAX_PARTS)],
    AfterValidator(_check),
    Field(
        description="Text, or a list of parts such as {type: text, text} and {type: image_url, image_url: {url}}.",
        examples=["What is 12 * 34?"],
    ),
]
ClientId = Annotated[str, Field(pattern=f"^{CLIENT_ID.pattern}$", examples=["0199f3a0-7c1e-7a3b-8a4e-2f6d1c9b7e55"])]
CleanText = Annotated[str, AfterValidator(checked)]
Label = Annotated[str, Field(max_length=500), AfterValidator(checked_label)]
Prompt = Annotated[str, Field(max_length=100_000), AfterValidator(checked)]
ModelName = Annotated[str, Field(max_length=200, examples=["demo@offline"]), AfterValidator(checked_label)]
CallId = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(checked_label)]
ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$", examples=["addNode"])]
ClientTools = Annotated[
    list[ToolName], Field(max_length=200, description="Names of the tools that the client can run.")
]
SkillSlug = Annotated[str, Field(pattern=SLUG, max_length=MAX_NAME, description="A skill that this turn uses.")]
Reason = Annotated[str, Field(max_length=MAX_REASON), AfterValidator(checked_label)]
Seq = Annotated[int, Field(ge=0, le=2**53)]
