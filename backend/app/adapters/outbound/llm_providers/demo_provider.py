"""`demo@offline`: a built-in model that needs no key and no network. It says what it is, and does arithmetic by tools."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import BaseTool

from app.adapters.outbound.llm_providers.arithmetic import Operand, Result, Step, plan
from app.core.domain.ids import new_id
from app.core.domain.program import program
from app.core.ports import IAnswerSink

PACE = 0.012
"""Seconds between two words: slow enough to be seen streaming, fast enough not to be waited for."""

SIGNS = {"multiply": "×", "add": "+", "subtract": "−", "divide": "÷"}


def introduction() -> str:
    """What the demonstration says when it is asked for anything but arithmetic."""
    return (
        "I am Atelier's offline demonstration, not a language model: I do arithmetic, with the tools that a real model "
        'would use, and nothing else. Try "What is 12 * 34?" or "Calculate 5 * 3, then multiply that by 2".\n\n'
        "To talk to a real model, enter a provider's key on the page (open the list of models, then "
        f"**Providers and keys**) or in a terminal with `{program(for_clients=True)} keys set PROVIDER`, or start Ollama "
        "on this machine and choose one of its models."
    )


class DemoChatModel(BaseChatModel):
    """The demonstration as a LangChain chat model. Same question, same answer."""

    tool_names: frozenset[str] = frozenset()

    @property
    def _llm_type(self) -> str:
        return "demo"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        """The demonstration with `tools` on offer."""
        names = frozenset(tool.name for tool in tools if isinstance(tool, BaseTool))
        return DemoChatModel(tool_names=names)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=answer(messages, self.tool_names))])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._generate(messages)


class DemoProvider:
    """An `ILLMProvider` for the demonstration; it lets its answer out word by word."""

    def __init__(self, tools: Sequence[BaseTool] = ()) -> None:
        self.model: DemoChatModel = DemoChatModel().bind_tools(tools)

    async def stream(self, messages: Sequence[Any], sink: IAnswerSink) -> AIMessage:
        """Answer, a word at a time."""
        message = answer(messages, self.model.tool_names)
        for piece in re.findall(r"\s*\S+|\s+$", str(message.content)):  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
            sink.text(piece)
            await asyncio.sleep(PACE)
        return message


def answer(messages: Sequence[BaseMessage], tool_names: frozenset[str]) -> AIMessage:
    """What the demonstration says next: the next tool calls of its plan, or the outcome."""
    start = next(
        (index for index in range(len(messages) - 1, -1, -1) if isinstance(messages[index], HumanMessage)), None
    )
    if start is None:
        return _says(introduction())
    question = messages[start].text
    steps = [step for step in plan(question) if step.tool in tool_names]
    if not steps or len(steps) < len(plan(question)):
        return _says(_cannot(question))
    return _Calculation(steps, messages[start + 1 :]).next()


class _Calculation:
    """A plan in the middle of its work: steps, and the results of those that have been called."""

    def __init__(self, steps: list[Step], since: Sequence[BaseMessage]) -> None:
        self._steps = steps
        results = {message.tool_call_id: message for message in since if isinstance(message, ToolMessage)}
        called = [call for message in since if isinstance(message, AIMessage) for call in message.tool_calls]
        self._results = [results.get(call["id"] or "") for call in called]
        self._order = self._called_order(len(called))

    def next(self) -> AIMessage:
        """The next calls, or the last words."""
        failed = next((r for r in self._results if r is None or r.status == "error"), None)
        if failed is not None:
            return _says(f"The tool could not do that: {failed.text}")
        ready = self._ready(set(self._order))
        if ready:
            calls = [self._call(self._steps[index]) for index in ready]
            return AIMessage(content="", tool_calls=calls, response_metadata={"finish_reason": "tool_calls"})
        lines = [self._line(index) for index in range(len(self._steps))]
        if len(lines) == 1:
            return _says(f"{lines[0]}.")
        return _says(
            "Step by step:\n\n"
            + "\n".join(f"{n}. {line}" for n, line in enumerate(lines, 1))
            + f"\n\nThe result is {self._value(Result(len(lines) - 1))}."
        )

    def _ready(self, done: set[int]) -> list[int]:
        """The steps that wait for nothing that is not done."""
        return [
            index
            for index, step in enumerate(self._steps)
            if index not in done
            and all(not isinstance(operand, Result) or operand.step in done for operand in (step.a, step.b))
        ]

    def _called_order(self, called: int) -> list[int]:
        """Which step each call so far belongs to: calls are made in rounds, in the order of the steps."""
        order: list[int] = []
        while len(order) < called:
            ready = self._ready(set(order))
            if not ready:
                break
            order += ready
        return order[:called]

    def _value(self, operand: Operand) -> str:
        if not isinstance(operand, Result):
            return str(operand)
        result = self._results[self._order.index(operand.step)]
        return result.text if result is not None else "?"

    def _call(self, step: Step) -> ToolCall:
        args = {"a": _number(self._value(step.a)), "b": _number(self._value(step.b))}
        return ToolCall(id=f"call_{new_id()}", name=step.tool, args=args, type="tool_call")

    def _line(self, index: int) -> str:
        step = self._steps[index]
        return f"{self._value(step.a)} {SIGNS[step.tool]} {self._value(step.b)} = {self._value(Result(index))}"


def _says(text: str) -> AIMessage:
    return AIMessage(content=text, response_metadata={"finish_reason": "stop"})


def _number(text: str) -> int | float:
    return float(text) if any(char in text for char in ".en") else int(text)


def _cannot(question: str) -> str:
    if re.search(r"\b(multiply|divide|add|subtract|times|plus|minus|calculate)\b", question.lower()):
        return (
            "That looks like arithmetic, but I found no numbers in it that I could calculate with.\n\n" + introduction()
        )
    return introduction()
