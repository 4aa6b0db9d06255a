import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import ToolCall
from langchain_core.tools import ToolException
from pydantic import ValidationError

from app.langgraph.tools import MATH_TOOLS, math_tools
from app.langgraph.tools.math_tools import add, divide, multiply, subtract

whole = st.integers(-(10**30), 10**30)


def test_multiply_positive():
    assert multiply.invoke({"a": 5, "b": 3}) == 15


def test_multiply_zero():
    assert multiply.invoke({"a": 0, "b": 100}) == 0


def test_multiply_negative():
    assert multiply.invoke({"a": -2, "b": 5}) == -10


@given(whole, whole)
def test_whole_numbers_are_exact(a: int, b: int):
    assert multiply.invoke({"a": a, "b": b}) == a * b
    assert add.invoke({"a": a, "b": b}) == a + b
    assert subtract.invoke({"a": a, "b": b}) == a - b
    if b:
        assert divide.invoke({"a": a * b, "b": b}) == a


@pytest.mark.parametrize(("a", "b", "text"), [(7, 2, "3.5"), (6, 3, "2"), (0.5, 0.25, "2"), (-1, 4, "-0.25")])
def test_a_quotient_has_a_fraction_only_where_it_needs_one(a: float, b: float, text: str):
    assert str(divide.invoke({"a": a, "b": b})) == text


@pytest.mark.parametrize("zero", [0, 0.0, -0.0])
def test_division_by_zero_is_an_error_in_words(zero: float):
    with pytest.raises(ToolException, match="Division by zero"):
        divide.invoke({"a": 1, "b": zero})


@pytest.mark.parametrize(
    ("tool", "a", "b"),
    [(multiply, 1e200, 1e200), (add, 1.7e308, 1.7e308), (multiply, 10**200, 10**200), (divide, 1e300, 1e-300)],
)
def test_overflow_is_an_error_in_words(tool: object, a: float, b: float):
    with pytest.raises(ToolException, match="too large"):
        tool.invoke({"a": a, "b": b})  # pyright: ignore


@pytest.mark.parametrize("value", ["abc", None, [], {}, math.nan, math.inf, 10**400])
def test_what_is_no_number_is_refused(value: object):
    with pytest.raises(ValidationError):
        multiply.invoke({"a": value, "b": 2})


def test_a_call_answers_with_its_tool_message():
    message = multiply.invoke(ToolCall(name="multiply", args={"a": 12, "b": 34}, id="call_1", type="tool_call"))
    assert (message.content, message.tool_call_id, message.status) == ("408", "call_1", "success")


def test_the_four_tools_tell_models_what_they_take():
    assert [tool.name for tool in MATH_TOOLS] == ["multiply", "add", "subtract", "divide"]
    assert math_tools.MATH_TOOLS is MATH_TOOLS
    for tool in MATH_TOOLS:
        schema = tool.tool_call_schema.model_json_schema()  # pyright: ignore
        assert {name: field["type"] for name, field in schema["properties"].items()} == {"a": "number", "b": "number"}
        assert schema["required"] == ["a", "b"]
        assert tool.description
