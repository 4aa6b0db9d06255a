"""JSON of others: what is not of the expected kind counts as not there."""

from typing import Any, cast

Fields = dict[str, Any]


def fields(value: object) -> Fields:
    """`value` if it is an object, else an empty one."""
    return cast("Fields", value) if isinstance(value, dict) else {}


def objects(value: object) -> list[Fields]:
    """The objects in `value`, if it is a list."""
    return (
        [cast("Fields", item) for item in cast("list[Any]", value) if isinstance(item, dict)]
        if isinstance(value, list)
        else []
    )
