"""Arithmetic: exact for whole numbers, refused in words where a result cannot be given."""

import math
import sys
from typing import Annotated

from langchain_core.tools import BaseTool, ToolException, tool
from pydantic import AfterValidator, Field, WithJsonSchema


def _finite(value: int | float) -> int | float:
    if abs(value) > sys.float_info.max:
        raise ValueError("the number is too large")
    return value


Number = Annotated[
    int | Annotated[float, Field(allow_inf_nan=False)], AfterValidator(_finite), WithJsonSchema({"type": "number"})
]


@tool
def multiply(a: Number, b: Number) -> int | float:
    """Multiply two numbers: a times b."""
    return _result(a * b)


@tool
def add(a: Number, b: Number) -> int | float:
    """Add two numbers: a plus b."""
    return _result(a + b)


@tool
def subtract(a: Number, b: Number) -> int | float:
    """Subtract the second number from the first: a minus b."""
    return _result(a - b)


@tool
def divide(a: Number, b: Number) -> int | float:
    """Divide the first number by the second: a divided by b. b must not be zero."""
    if b == 0:
        raise ToolException("Division by zero has no result. Choose a divisor other than 0.")
    if isinstance(a, int) and isinstance(b, int) and a % b == 0:
        return _result(a // b)
    try:
        return _result(a / b)
    except OverflowError:
        return _too_large()


def _result(value: int | float) -> int | float:
    """`value` as it is shown: whole numbers without a fraction.

    Raises:
        ToolException: no number here is that large.
    """
    if not isinstance(value, int) and not math.isfinite(value):
        return _too_large()
    if abs(value) > sys.float_info.max:
        return _too_large()
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def _too_large() -> int | float:
    raise ToolException("The result is too large: numbers go up to about 1.8e308.")


MATH_TOOLS: list[BaseTool] = [multiply, add, subtract, divide]
