"""Schemas and values from outside: checked within a time limit, whatever the schema asks for."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.adapters.outbound.json_schema import SchemaChecker, UnusableSchema

OBJECT: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.fixture
async def checker() -> AsyncIterator[SchemaChecker]:
    made = SchemaChecker(seconds=20.0)
    yield made
    await made.close()


def branching(levels: int) -> dict[str, Any]:
    """A schema of `levels` references that asks for 2**levels checks."""
    twice = {str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(levels)}
    return {"$defs": {**twice, str(levels): {"type": "object"}}, "$ref": "#/$defs/0"}


async def test_faults_name_the_place(checker: SchemaChecker) -> None:
    assert await checker.faults(OBJECT, {"n": 1}) == []
    (fault,) = await checker.faults(OBJECT, {"n": "x"})
    assert fault["path"] == "/n"
    assert "integer" in fault["message"]


async def test_backtracking_pattern_is_matched_in_linear_time(checker: SchemaChecker) -> None:
    schema: dict[str, Any] = {"type": "string", "pattern": "^(a+)+$"}
    assert await checker.faults(schema, "a" * 50_000) == []
    assert len(await checker.faults(schema, "a" * 50_000 + "!")) == 1


@pytest.mark.parametrize(
    "schema",
    [
        {"pattern": "(?=a)b"},
        {"pattern": r"(a)\1"},
        {"pattern": "((a{1000}){1000}){1000}"},
        {"type": "objekt"},
        {"$ref": "http://127.0.0.1:9/schema"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "#/$defs/missing"},
    ],
)
async def test_unusable_schemas_are_refused(checker: SchemaChecker, schema: dict[str, Any]) -> None:
    for _ in range(2):
        with pytest.raises(UnusableSchema):
            await checker.faults(schema, "a")
    assert await checker.faults(OBJECT, {"n": 1}) == []


async def test_deep_schema_and_value_are_refused(checker: SchemaChecker) -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    for schema, value in ((OBJECT, deep), (deep, {})):
        with pytest.raises(UnusableSchema, match="nested"):
            await checker.faults(schema, value)
    while deep:  # freed level by level
        deep = deep["a"]


async def test_exponential_schema_is_stopped_and_not_tried_again() -> None:
    checker = SchemaChecker(seconds=1.0)
    try:
        for _ in range(2):
            with pytest.raises(UnusableSchema, match="longer than"):
                await checker.faults(branching(60), {})
        assert checker._worker is None  # pyright: ignore[reportPrivateUsage]
    finally:
        await checker.close()


async def test_check_after_a_cancelled_one_gets_its_own_answer(checker: SchemaChecker) -> None:
    assert await checker.faults(OBJECT, {"n": 1}) == []
    slow = asyncio.create_task(checker.faults(branching(60), {}))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow
    assert len(await checker.faults(OBJECT, {})) == 1
