"""Text and JSON from outside: refused where a client can mend it, cleaned where nobody can.

NUL and lone surrogates break stores and wires long after they came in, numbers beyond 64 bits break JSON
writers and BSON, and deep nesting breaks whoever walks it. So every edge passes its data through here.
"""

import math
from typing import Any

from app.core.domain.errors import InvalidFrame

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
MAX_DEPTH = 64
_INT64 = 2**63


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


def check_text(text: str, where: str) -> str:
    """`text` unchanged, or `InvalidFrame` that names `where` (for what a client says and can say again)."""
    if not is_clean(text):
        raise InvalidFrame(f"{where} holds a NUL character or half a surrogate pair. Remove it and send again.")
    return text


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


def check_json(value: Any, where: str, depth: int = MAX_DEPTH) -> Any:
    """`value` unchanged if every store and wire takes it as it is, or `InvalidFrame` that names the place in `where`."""
    if isinstance(value, str):
        return check_text(value, where)
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidFrame(f"{where} is not a finite number.")
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        raise InvalidFrame(f"{where} is a number of more than 64 bits. Send it as text.")
    if depth <= 0:
        raise InvalidFrame(f"{where} is nested more than {MAX_DEPTH} deep.")
    if isinstance(value, dict):
        for key, item in value.items():  # pyright: ignore[reportUnknownVariableType]
            check_text(str(key), where)  # pyright: ignore[reportUnknownArgumentType]
            check_json(item, f"{where}.{key}", depth - 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            check_json(item, f"{where}[{index}]", depth - 1)
    return value  # pyright: ignore[reportUnknownVariableType]


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
