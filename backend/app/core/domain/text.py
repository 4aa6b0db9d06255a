"""Text and JSON from outside: refused where a client can mend it, cleaned where nobody can.

NUL and lone surrogates break stores and wires long after they came in, numbers beyond 64 bits break JSON
writers and BSON, and deep nesting breaks whoever walks it. So every edge passes its data through here.
"""

import math
import re
from typing import Any

import orjson
from pydantic_core import from_json

from app.core.domain.errors import InvalidFrame

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
MAX_DEPTH = 64
ENVELOPE_DEPTH = 8
"""How deep what is kept lies in a request."""
MAX_PLACE = 200
_INT64 = 2**63
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def is_clean(text: str) -> bool:
    """Whether `text` can be stored and sent everywhere: no NUL, no lone surrogate."""
    if "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def clean_text(text: str) -> str:
    """`text` with every NUL and lone surrogate replaced by U+FFFD (for what models, tools and files say)."""
    if is_clean(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", REPLACEMENT)


def sentence(text: str) -> str:
    """`text` with one full stop at its end."""
    return text if text.endswith(("!", "?", "…")) else text.rstrip(". ") + "."


def check_text(text: str, where: str) -> str:
    """`text` unchanged, or `InvalidFrame` that names `where` (for what a client says and can say again)."""
    if not is_clean(text):
        where = where[:MAX_PLACE]
        raise InvalidFrame(f"{where} holds a NUL character or half a surrogate pair. Remove it and send again.")
    return text


def mend_json(data: bytes) -> bytes:
    """`data` as JSON that parsers take: bytes that are no UTF-8 and halves of surrogate pairs become U+FFFD."""
    try:
        data.decode()
    except UnicodeDecodeError:
        data = data.decode("utf-8", "replace").encode()
    if b"\\ud" in data or b"\\uD" in data:
        return _ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], data)
    return data


_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
"""An escape in JSON text: a whole surrogate pair, half of one (which is group 1), or another escape."""


def load_json(data: bytes | bytearray | str) -> Any:
    """The value of JSON from a model or a provider, which is mended where it cannot be read as it is.

    Raises:
        ValueError: it is not JSON all the same.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        mended = mend_json(data.encode("utf-8", "replace") if isinstance(data, str) else bytes(data))
        return orjson.loads(mended)


def is_deeper_than(value: Any, depth: int) -> bool:
    """Whether lists and objects in `value` are nested more than `depth` deep. It does not recurse."""
    level: list[Any] = [value]
    for _ in range(depth + 1):
        level = [
            item
            for one in level
            if isinstance(one, dict | list)
            for item in (one.values() if isinstance(one, dict) else one)  # pyright: ignore[reportUnknownVariableType]
            if isinstance(item, dict | list)
        ]
        if not level:
            return False
    return True


def check_label(text: str, where: str) -> str:
    """`text` unchanged, or `InvalidFrame`: names, titles and reasons are shown in lists and terminals as they are."""
    if _CONTROL.search(check_text(text, where)):
        raise InvalidFrame(f"{where[:MAX_PLACE]} holds a control character. Remove it and send again.")
    return text


def check_json(value: Any, where: str, depth: int = MAX_DEPTH, *, any_number: bool = False) -> Any:
    """`value` unchanged if every store and wire takes it as it is, or `InvalidFrame` that names the place in `where`.

    With `any_number` numbers of any size pass: what keeps them checks them again.
    """
    if not _is_fine(value, depth, any_number):
        _explain(value, where, depth, depth, any_number)
    return value


def read_json(data: bytes | str, where: str) -> Any:
    """The JSON in `data` from a client: the one way in for every wire.

    Raises:
        InvalidFrame: it is not JSON, or holds text or nesting that no wire and store takes.
    """
    try:
        value = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        reason = str(error)
        if "hex escape" in reason:
            raise InvalidFrame(
                f"{where} holds an incomplete escape or half a surrogate pair ({reason}). Remove it and send again."
            ) from error
        if "recursion" in reason:
            raise InvalidFrame(f"{where} is not JSON: it is nested too deep.") from error
        raise InvalidFrame(sentence(f"{where} is not JSON: {reason}")) from error
    return check_json(value, where, MAX_DEPTH + ENVELOPE_DEPTH, any_number=True)


def _is_fine(value: Any, depth: int, any_number: bool) -> bool:
    if isinstance(value, str):
        return is_clean(value)
    if isinstance(value, dict):
        return depth > 0 and all(
            is_clean(str(key)) and _is_fine(item, depth - 1, any_number)  # pyright: ignore[reportUnknownArgumentType]
            for key, item in value.items()  # pyright: ignore[reportUnknownVariableType]
        )
    if isinstance(value, list):
        return depth > 0 and all(_is_fine(item, depth - 1, any_number) for item in value)  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, float):
        return math.isfinite(value)
    return any_number or not isinstance(value, int) or -_INT64 <= value < _INT64


def _explain(value: Any, where: str, depth: int, allowed: int, any_number: bool) -> None:
    """Raise for the first fault in `value`."""
    if isinstance(value, str):
        check_text(value, where)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InvalidFrame(f"{where} is not a finite number.")
    elif isinstance(value, int) and not any_number and not -_INT64 <= value < _INT64:
        raise InvalidFrame(f"{where} is a number of more than 64 bits. Send it as text.")
    elif isinstance(value, dict | list) and depth <= 0:
        raise InvalidFrame(f"{where[:MAX_PLACE]} is nested more than {allowed} deep.")
    elif isinstance(value, dict):
        for key, item in value.items():  # pyright: ignore[reportUnknownVariableType]
            check_text(str(key), where)  # pyright: ignore[reportUnknownArgumentType]
            _explain(item, f"{where}.{key}", depth - 1, allowed, any_number)
    elif isinstance(value, list):
        for index, item in enumerate(value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            _explain(item, f"{where}[{index}]", depth - 1, allowed, any_number)


def clean_json(value: Any, depth: int = MAX_DEPTH) -> Any:
    """`value` as JSON that every store and wire takes.

    Text is cleaned, NaN and the infinities become null, whole numbers beyond 64 bits become floats (or text
    where even a float cannot hold them), keys become text, and what lies deeper than `depth` becomes text.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, int):
        return int(value) if -_INT64 <= value < _INT64 else _large_int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth <= 0:
        return "…"
    if isinstance(value, dict):
        return {clean_text(str(key)): clean_json(item, depth - 1) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list | tuple | set | frozenset):
        return [clean_json(item, depth - 1) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return clean_text(str(value))


def _large_int(value: int) -> float | str:
    try:
        return float(value)
    except OverflowError:
        return hex(value)
