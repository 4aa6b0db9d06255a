import ast
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from app.adapters.outbound.llm_providers.arithmetic import Result, Step, plan
from app.adapters.outbound.llm_providers.demo_provider import DemoProvider, answer, introduction
from app.langgraph.tools import MATH_TOOLS

DO = {"multiply": operator.mul, "add": operator.add, "subtract": operator.sub, "divide": operator.truediv}
TOOLS = {tool.name: tool for tool in MATH_TOOLS}


def outcome(steps: list[Step]) -> float:
    results: list[float] = []
    for step in steps:
        a, b = (results[o.step] if isinstance(o, Result) else o for o in (step.a, step.b))
        results.append(DO[step.tool](a, b))
    return results[-1]


@pytest.mark.parametrize(
    ("question", "steps", "result"),
    [
        ("What is 12 * 34?", 1, 408),
        ("Calculate 5 * 3, then multiply that by 2", 2, 30),
        ("what's twelve times thirty-four", 1, 408),
        ("Multiply 6 by 7.", 1, 42),
        ("Divide 10 by 4", 1, 2.5),
        ("subtract 3 from 10", 1, 7),
        ("add 2 and 3 and then double it", 2, 10),
        ("The sum of 1,000 and 24", 1, 1024),
        ("2 + 3 * 4", 2, 14),
        ("(2 + 3) * 4", 2, 20),
        ("10 - 4 - 3", 2, 3),
        ("5 x 3", 1, 15),
        ("-3 * 4", 1, -12),
        ("1.5 plus 2.25", 1, 3.75),
        ("What is 7 minus 9; then add 5", 2, 3),
        ("100 divided by 8", 1, 12.5),
    ],
)
def test_questions_become_steps(question: str, steps: int, result: float):
    found = plan(question)
    assert len(found) == steps
    assert outcome(found) == result


@pytest.mark.parametrize("text", ["Hello, how are you?", "Multiply abc by xyz", "", "I am 42.", "call 555"])
def test_what_is_no_arithmetic_makes_no_steps(text: str):
    assert plan(text) == []


@given(st.text(alphabet="0123456789 +-*/()x.,;thenaddbyit", max_size=60))
def test_no_text_breaks_it(text: str):
    for step in plan(text):
        assert step.tool in DO


expressions = st.recursive(
    st.integers(0, 99).map(str),
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
    max_leaves=6,
)


@given(expressions)
def test_an_expression_has_its_usual_value(expression: str):
    steps = plan(f"What is {expression}?")
    if any(sign in expression for sign in "+-*"):
        expected = eval(compile(ast.parse(expression, mode="eval"), "", "eval"))
        assert outcome(steps) == expected


def converse(question: str) -> list[BaseMessage]:
    """The demonstration and the real tools, up to the last answer."""
    messages: list[BaseMessage] = [HumanMessage(question)]
    names = frozenset(TOOLS)
    while True:
        said = answer(messages, names)
        messages.append(said)
        if not said.tool_calls:
            return messages
        for call in said.tool_calls:
            try:
                messages.append(TOOLS[call["name"]].invoke(call))
            except Exception as error:
                messages.append(ToolMessage(str(error), tool_call_id=call["id"], status="error"))


def test_it_calls_tools_and_says_the_result():
    _, call, result, last = converse("What is 12 * 34?")
    assert isinstance(call, AIMessage)
    assert [(c["name"], c["args"]) for c in call.tool_calls] == [("multiply", {"a": 12, "b": 34})]
    assert result.text == "408"
    assert last.text == "12 × 34 = 408."


def test_steps_that_wait_for_nothing_are_called_together():
    messages = converse("(1 + 2) * (3 + 4)")
    calls = [len(m.tool_calls) for m in messages if isinstance(m, AIMessage)]
    assert calls == [2, 1, 0]
    assert messages[-1].text.endswith("The result is 21.")


def test_a_tool_that_fails_is_told_plainly():
    assert "Division by zero" in converse("divide 1 by 0")[-1].text


def test_anything_else_gets_the_introduction():
    assert converse("Hello!")[-1].text == introduction()
    assert converse("Multiply abc by xyz")[-1].text.endswith(introduction())
    for way in ("Providers and keys", "keys set PROVIDER", "Ollama"):
        assert way in introduction()


class Pieces:
    def __init__(self) -> None:
        self.said: list[str] = []

    def text(self, piece: str) -> None:
        self.said.append(piece)

    def reasoning(self, piece: str) -> None:
        raise AssertionError


async def test_it_streams_what_it_says_word_by_word():
    sink = Pieces()
    message = await DemoProvider(MATH_TOOLS).stream([HumanMessage("Hello")], sink)
    assert "".join(sink.said) == message.content
    assert len(sink.said) > 20
