"""Arithmetic in words or symbols as a plan of tool calls: what the offline demonstration understands.

"Calculate 5 * 3, then multiply that by 2" becomes `multiply(5, 3)`, and `multiply` of its result and 2. An operand is
a number or the place of an earlier step, so that steps which do not wait for each other can run side by side.
"""

import re
from dataclasses import dataclass

Number = int | float


@dataclass(frozen=True, slots=True)
class Result:
    """The result of an earlier step of the plan."""

    step: int


Operand = Number | Result


@dataclass(frozen=True, slots=True)
class Step:
    """One tool call: `multiply`, `add`, `subtract` or `divide` of two operands."""

    tool: str
    a: Operand
    b: Operand


_SYMBOLS = {
    "*": "multiply",
    "×": "multiply",
    "x": "multiply",
    "/": "divide",
    "÷": "divide",
    "+": "add",
    "-": "subtract",
}
_PRECEDENCE = {"add": 1, "subtract": 1, "multiply": 2, "divide": 2}

_PHRASES = [
    (r"multiplied by", "*"),
    (r"divided by", "/"),
    (r"\btimes\b", "*"),
    (r"\bplus\b", "+"),
    (r"\bminus\b", "-"),
    (r"\bover\b", "/"),
]
_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_WORDS = {word: value for value, word in enumerate(_ONES.split())} | {
    word: 10 * (value + 2) for value, word in enumerate(_TENS.split())
}
_COMPOUND = re.compile(rf"\b({_TENS.replace(' ', '|')})[- ]({'|'.join(_ONES.split()[1:10])})\b")
_BACK = r"(?:that|it|this|the result|the answer)"
_VALUE = rf"(?:-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?|{_BACK})"
_VERBS: list[tuple[re.Pattern[str], str, bool]] = [
    (re.compile(rf"\b(?:multiply|multiplying)\s+({_VALUE})\s+(?:by|with|and|times)\s+({_VALUE})"), "multiply", False),
    (re.compile(rf"\b(?:divide|dividing)\s+({_VALUE})\s+(?:by|with)\s+({_VALUE})"), "divide", False),
    (re.compile(rf"\b(?:subtract|subtracting|take)\s+({_VALUE})\s+(?:away\s+)?from\s+({_VALUE})"), "subtract", True),
    (re.compile(rf"\b(?:add|adding)\s+({_VALUE})\s+(?:to|and|with)\s+({_VALUE})"), "add", False),
    (re.compile(rf"\bsum of\s+({_VALUE})\s+and\s+({_VALUE})"), "add", False),
    (re.compile(rf"\bproduct of\s+({_VALUE})\s+and\s+({_VALUE})"), "multiply", False),
    (re.compile(rf"\bdifference (?:of|between)\s+({_VALUE})\s+and\s+({_VALUE})"), "subtract", False),
    (re.compile(rf"\bquotient of\s+({_VALUE})\s+and\s+({_VALUE})"), "divide", False),
]
_SHORT = [
    (re.compile(rf"\b(?:multiply|times)\s+by\s+({_VALUE})"), "multiply"),
    (re.compile(rf"\bdivide\s+by\s+({_VALUE})"), "divide"),
    (re.compile(rf"\badd\s+({_VALUE})"), "add"),
    (re.compile(rf"\bsubtract\s+({_VALUE})"), "subtract"),
    (re.compile(r"\b(double)\b"), "multiply"),
    (re.compile(r"\b(halve)\b"), "divide"),
]
_CLAUSES = re.compile(r"\s*(?:[;,]?\s*\b(?:and\s+)?(?:then|afterwards|after that)\b|;|,(?!\d)|[.?!](?:\s|$))\s*")
_TOKEN = re.compile(
    rf"\s*(?:(?P<number>\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)|(?P<back>\b{_BACK}\b)|(?P<symbol>[-+*×/÷x()]))"
)
_EXPRESSION = re.compile(rf"(?:\d|\(|-\s*\d|{_BACK}\s*[-+*×/÷x])")
MAX_STEPS = 24


def plan(text: str) -> list[Step]:
    """The steps that `text` asks for, in an order in which each can be done; none where it asks for no arithmetic."""
    steps: list[Step] = []
    last: Operand | None = None
    for clause in _CLAUSES.split(_normalise(text)):
        found = _clause(clause, steps, last)
        if found is not None:
            last = found
        if len(steps) > MAX_STEPS:
            return []
    return steps


def _normalise(text: str) -> str:
    """`text` in lower case, with number words as digits and operator words as symbols."""
    text = text.lower().replace("−", "-").replace("·", "*")
    text = _COMPOUND.sub(lambda match: str(_WORDS[match[1]] + _WORDS[match[2]]), text)
    text = re.sub(r"\b[a-z]+\b", lambda match: str(_WORDS.get(match[0], match[0])), text)
    for phrase, symbol in _PHRASES:
        text = re.sub(phrase, symbol, text)
    return text


def _clause(clause: str, steps: list[Step], last: Operand | None) -> Operand | None:
    """Add the steps of one clause; its result, or None where it holds no arithmetic."""
    for pattern, tool, swapped in _VERBS:
        if match := pattern.search(clause):
            a, b = _operand(match[1], last), _operand(match[2], last)
            if a is None or b is None:
                return None
            return _step(steps, tool, b, a) if swapped else _step(steps, tool, a, b)
    found = _Expression(clause, steps, last).value()
    if found is not None:
        return found
    if last is not None:
        for pattern, tool in _SHORT:
            if match := pattern.search(clause):
                operand = 2 if match[1] in ("double", "halve") else _operand(match[1], last)
                return None if operand is None else _step(steps, tool, last, operand)
    return None


def _step(steps: list[Step], tool: str, a: Operand, b: Operand) -> Result:
    steps.append(Step(tool, a, b))
    return Result(len(steps) - 1)


def _operand(text: str, last: Operand | None) -> Operand | None:
    return _number(text) if text[0].isdigit() or text[0] == "-" else last


def _number(text: str) -> Number:
    text = text.replace(",", "")
    return float(text) if any(char in text for char in ".e") else int(text)


class _Expression:
    """The longest expression in a clause, read with the usual precedence."""

    def __init__(self, clause: str, steps: list[Step], last: Operand | None) -> None:
        self._clause = clause
        self._steps = steps
        self._last = last
        self._tokens: list[tuple[str, str]] = []

    def value(self) -> Operand | None:
        """Its result, with its steps added; None where there is none with an operator in it."""
        before = len(self._steps)
        for start in _EXPRESSION.finditer(self._clause):
            self._tokens = self._read(start.start())
            try:
                result = self._sum(1)
            except (ValueError, IndexError, RecursionError):
                result = None
            if result is not None and len(self._steps) > before:
                return result
            del self._steps[before:]
        return None

    def _read(self, position: int) -> list[tuple[str, str]]:
        tokens: list[tuple[str, str]] = []
        while match := _TOKEN.match(self._clause, position):
            kind = match.lastgroup or ""
            tokens.append((kind, match[kind]))
            position = match.end()
        return tokens

    def _sum(self, lowest: int) -> Operand:
        left = self._atom()
        while self._tokens and (tool := _SYMBOLS.get(self._tokens[0][1])) and _PRECEDENCE[tool] >= lowest:
            if len(self._tokens) == 1:
                break
            self._tokens.pop(0)
            left = _step(self._steps, tool, left, self._sum(_PRECEDENCE[tool] + 1))
        return left

    def _atom(self) -> Operand:
        kind, text = self._tokens.pop(0)
        if kind == "number":
            return _number(text)
        if kind == "back" and self._last is not None:
            return self._last
        if text == "(":
            inside = self._sum(1)
            if self._tokens.pop(0)[1] != ")":
                raise ValueError("a parenthesis is not closed")
            return inside
        if text == "-" and self._tokens[0][0] == "number":
            return -_number(self._tokens.pop(0)[1])
        raise ValueError(f"{text!r} does not begin a value")
