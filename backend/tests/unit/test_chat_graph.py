"""The graph without the service: a provider and two repositories, faked, are enough to run whole turns."""

from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from app.core.domain.errors import ProviderRateLimited
from app.core.domain.message import Message, MessageRole
from app.langgraph.context import MAX_TOOL_ROUNDS
from app.langgraph.graphs.chat_graph import chat_graph, create_chat_graph
from app.langgraph.messages import to_langchain
from app.langgraph.nodes.call_llm import call_llm
from app.langgraph.nodes.process_input import process_user_input
from app.langgraph.nodes.save_history import save_to_history
from app.langgraph.state import ConversationState


class FakeModel:
    def __init__(self, answers: list[AIMessage | Exception]) -> None:
        self.answers = answers
        self.asked: list[list[BaseMessage]] = []

    async def ainvoke(self, messages: list[BaseMessage]) -> AIMessage:
        self.asked.append(list(messages))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeProvider:
    def __init__(self, *answers: AIMessage | Exception) -> None:
        self.model = FakeModel(list(answers))


class FakeMessages:
    def __init__(self) -> None:
        self.stored: list[Message] = []

    async def create(self, message: Message) -> Message:
        self.stored.append(message)
        return message

    async def get_by_conversation_id(self, conversation_id: str) -> list[Message]:
        return [message for message in self.stored if message.conversation_id == conversation_id]


class FakeConversations:
    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    async def increment_message_count(self, conversation_id: str, n: int) -> None:
        self.counts[conversation_id] = self.counts.get(conversation_id, 0) + n


def calls(*wanted: tuple[str, dict[str, Any]]) -> AIMessage:
    found = [
        {"id": f"call_{n}", "name": name, "args": args, "type": "tool_call"} for n, (name, args) in enumerate(wanted)
    ]
    return AIMessage("", tool_calls=found)


def turn(text: str | None, messages: list[BaseMessage] | None = None) -> ConversationState:
    return {"messages": messages or [], "conversation_id": "test-conv", "user_id": "test-user", "current_input": text}  # pyright: ignore


class Rig:
    def __init__(self, *answers: AIMessage | Exception) -> None:
        self.provider = FakeProvider(*answers)
        self.messages = FakeMessages()
        self.conversations = FakeConversations()
        self.graph = create_chat_graph(self.provider, self.messages, self.conversations)  # pyright: ignore


async def test_multiply_tool_execution():
    rig = Rig(calls(("multiply", {"a": 12, "b": 34})), AIMessage("12 times 34 is 408."))
    result = await rig.graph.ainvoke(turn("What is 12 times 34?"))
    messages = result["messages"]
    assert any(getattr(message, "tool_calls", None) for message in messages)
    assert messages[-1].content == "12 times 34 is 408."
    assert [m.role for m in rig.messages.stored] == [
        MessageRole.USER,
        MessageRole.ASSISTANT,
        MessageRole.TOOL,
        MessageRole.ASSISTANT,
    ]
    asked, called, result, answered = rig.messages.stored
    assert asked.content == "What is 12 times 34?"
    assert called.metadata["tool_calls"] == [
        {"id": "call_0", "name": "multiply", "args": {"a": 12, "b": 34}, "type": "tool_call"}
    ]
    assert (result.content, result.metadata) == (
        "408",
        {"tool_call_id": "call_0", "name": "multiply", "status": "success"},
    )
    assert answered.conversation_id == "test-conv"
    assert rig.conversations.counts == {"test-conv": 4}


async def test_what_was_loaded_is_not_stored_again():
    rig = Rig(AIMessage("Fine."))
    loaded = [
        Message(conversation_id="test-conv", role=MessageRole.USER, content="Hi", seq=1),
        Message(conversation_id="test-conv", role=MessageRole.ASSISTANT, content="Hello", seq=2),
    ]
    await rig.graph.ainvoke(turn("How are you?", [to_langchain(message) for message in loaded]))
    assert [m.content for m in rig.messages.stored] == ["How are you?", "Fine."]
    assert [m.content for m in rig.provider.model.asked[0]] == ["Hi", "Hello", "How are you?"]


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("divide", {"a": 1, "b": 0}, "Division by zero"),
        ("multiply", {"a": 1e200, "b": 1e200}, "too large"),
        ("multiply", {"a": "abc", "b": "xyz"}, "do not fit"),
        ("multiply", {"a": 1}, "b: Field required"),
        ("square", {"a": 1}, "no tool named 'square'. Tools on offer: multiply, add, subtract, divide."),
    ],
)
async def test_the_model_sees_what_a_tool_did_not_do(name: str, args: dict[str, Any], said: str):
    rig = Rig(calls((name, args)), AIMessage("I could not."))
    await rig.graph.ainvoke(turn("go"))
    seen = rig.provider.model.asked[1][-1]
    assert isinstance(seen, ToolMessage)
    assert seen.status == "error"
    assert said in seen.text
    assert rig.messages.stored[2].metadata["status"] == "error"


async def test_calls_of_one_message_all_run_in_order():
    rig = Rig(
        calls(("add", {"a": 1, "b": 2}), ("divide", {"a": 1, "b": 0}), ("multiply", {"a": 3, "b": 4})),
        AIMessage("Done."),
    )
    await rig.graph.ainvoke(turn("go"))
    results = [m for m in rig.messages.stored if m.role is MessageRole.TOOL]
    assert [m.tool_call_id for m in results] == ["call_0", "call_1", "call_2"]
    assert [m.metadata["status"] for m in results] == ["success", "error", "success"]


async def test_a_call_that_is_no_json_is_answered_and_asked_again():
    malformed = AIMessage(
        "", invalid_tool_calls=[{"id": "x", "name": "add", "args": "{", "error": None, "type": "invalid_tool_call"}]
    )
    rig = Rig(malformed, AIMessage("Sorry."))
    await rig.graph.ainvoke(turn("go"))
    seen = rig.provider.model.asked[1][-1]
    assert isinstance(seen, ToolMessage)
    assert (seen.tool_call_id, seen.status) == ("x", "error")
    assert "not valid JSON" in seen.text
    assert rig.messages.stored[-1].content == "Sorry."


async def test_tools_without_end_are_stopped_with_a_message():
    rig = Rig(*[calls(("add", {"a": 1, "b": 1})) for _ in range(MAX_TOOL_ROUNDS + 1)])
    result = await rig.graph.ainvoke(turn("go"))
    assert len(rig.provider.model.asked) == MAX_TOOL_ROUNDS
    assert "25 rounds" in result["messages"][-1].content
    assert len(rig.messages.stored) == 2 + 2 * MAX_TOOL_ROUNDS


async def test_a_model_that_fails_leaves_what_the_user_said():
    rig = Rig(ProviderRateLimited("Try again in 5 seconds."))
    result = await rig.graph.ainvoke(turn("Hello"))
    assert result["error"] == "Failed to generate response: Try again in 5 seconds."
    assert [m.content for m in rig.messages.stored] == ["Hello"]


@pytest.mark.parametrize("text", ["", "  \n\t"])
async def test_empty_input_asks_nobody(text: str):
    rig = Rig()
    result = await rig.graph.ainvoke(turn(text))
    assert result["error"] == "Input cannot be empty"
    assert rig.messages.stored == []


async def test_a_store_that_fails_is_an_error_of_the_turn():
    class Full(FakeMessages):
        async def create(self, message: Message) -> Message:
            raise OSError("/secret/path is full")

    graph = create_chat_graph(FakeProvider(AIMessage("Hi")), Full(), FakeConversations())  # pyright: ignore
    result = await graph.ainvoke(turn("Hello"))
    assert result["error"].startswith("Failed to save conversation")
    assert "secret" not in result["error"]


async def test_the_nodes_work_on_their_own():
    assert (await process_user_input(turn("  Hi "))) == {"messages": [HumanMessage("Hi")], "error": None}
    answered = await call_llm(turn(None, [HumanMessage("Hi")]), FakeProvider(AIMessage("Hello")))  # pyright: ignore
    assert answered == {"messages": [AIMessage("Hello")], "error": None}
    messages, conversations = FakeMessages(), FakeConversations()
    assert await save_to_history(turn(None, [HumanMessage("Hi")]), messages, conversations) == {}  # pyright: ignore
    assert [m.content for m in await messages.get_by_conversation_id("test-conv")] == ["Hi"]
    assert conversations.counts == {"test-conv": 1}


def test_the_graph_is_compiled_once_and_has_its_four_nodes():
    assert chat_graph() is chat_graph()
    assert {"process_input", "call_llm", "tools", "save_history"} <= set(chat_graph().get_graph().nodes)
