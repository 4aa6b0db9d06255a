from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage

from app.core.domain.message import Message, MessageRole
from app.langgraph.messages import is_stored, new_messages, to_domain, to_langchain

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
name = st.text("abcdefgh_", min_size=1, max_size=8)
json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(name, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(name, json, max_size=3)
call_ids = st.text("abc123_", min_size=1, max_size=6)
part = st.one_of(
    text.map(lambda t: {"type": "text", "text": t}),
    text.map(lambda t: {"type": "image_url", "image_url": {"url": "data:image/png;base64," + t}}),
    st.fixed_dictionaries({"type": st.just("thinking"), "thinking": text, "signature": text}),
    st.fixed_dictionaries({"type": st.just("file"), "file": objects}),
)
content = text | st.lists(part, max_size=4)
call = st.fixed_dictionaries({"id": call_ids, "name": name, "args": objects, "type": st.just("tool_call")})
invalid_call = st.fixed_dictionaries(
    {"id": call_ids, "name": name, "args": text, "error": st.none() | text, "type": st.just("invalid_tool_call")}
)


def calls(at_least: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(call, min_size=at_least, max_size=3)


def invalid_calls(at_least: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(invalid_call, min_size=at_least, max_size=3)


counts = st.integers(0, 10**6)
usage = st.fixed_dictionaries(
    {"input_tokens": counts, "output_tokens": counts, "total_tokens": counts},
    optional={"input_token_details": st.fixed_dictionaries({"cache_read": counts})},
)
some = st.dictionaries(name, json, min_size=1, max_size=2)
extras = st.sampled_from(
    [("additional_kwargs",), ("response_metadata",), ("additional_kwargs", "response_metadata")]
).flatmap(lambda keys: st.fixed_dictionaries(dict.fromkeys(keys, some)))
common: dict[str, Any] = {"provider": extras, "custom": json, "name": name}
metadata = {
    MessageRole.USER: st.fixed_dictionaries({}, optional=common),
    MessageRole.SYSTEM: st.fixed_dictionaries({}, optional=common),
    MessageRole.ASSISTANT: st.fixed_dictionaries(
        {},
        optional={
            **common,
            "tool_calls": calls(1),
            "invalid_tool_calls": invalid_calls(1),
            "usage": usage,
            "reasoning": text,
            "model": text,
            "finish_reason": st.sampled_from(["stop", "tool_calls", "length"]),
            "partial": st.just(True),
        },
    ),
    MessageRole.TOOL: st.fixed_dictionaries(
        {"tool_call_id": call_ids, "status": st.sampled_from(["success", "error"])},
        optional={
            **common,
            "artifact": json.filter(lambda value: value is not None),
            "artifacts": st.lists(objects, max_size=2),
        },
    ),
}


@st.composite
def domain_messages(draw: st.DrawFn) -> Message:
    role = draw(st.sampled_from(MessageRole))
    return Message(
        id=draw(call_ids),
        conversation_id=draw(call_ids),
        role=role,
        content=draw(content),
        metadata=draw(metadata[role]),
        seq=draw(st.none() | st.integers(1, 10**9)),
        parent_id=draw(st.none() | call_ids),
        created_at=draw(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1))).replace(tzinfo=UTC),
    )


@st.composite
def langchain_messages(draw: st.DrawFn) -> BaseMessage:
    fields: dict[str, Any] = {
        "content": draw(content),
        "id": draw(call_ids),
        "additional_kwargs": draw(st.dictionaries(name, json, max_size=2)),
        "response_metadata": draw(st.dictionaries(name, json, max_size=2)),
    }
    if draw(st.booleans()):
        fields["name"] = draw(name)
    kind = draw(st.sampled_from([HumanMessage, SystemMessage, AIMessage, ToolMessage]))
    if kind is AIMessage:
        fields |= {
            "tool_calls": draw(calls(0)),
            "invalid_tool_calls": draw(invalid_calls(0)),
            "usage_metadata": draw(st.none() | usage),
        }
        fields["additional_kwargs"] |= draw(st.fixed_dictionaries({}, optional={"reasoning_content": text}))
        fields["response_metadata"] |= draw(st.fixed_dictionaries({}, optional={"finish_reason": st.just("stop")}))
    if kind is ToolMessage:
        fields |= {
            "tool_call_id": draw(call_ids),
            "status": draw(st.sampled_from(["success", "error"])),
            "artifact": draw(json),
        }
    return kind(**fields)


@given(domain_messages())
def test_a_domain_message_comes_back_as_it_was(message: Message):
    assert to_domain(to_langchain(message), "elsewhere") == message


@given(langchain_messages())
def test_a_langchain_message_comes_back_as_it_was(message: BaseMessage):
    back = to_langchain(to_domain(message, "c"))
    back.response_metadata.pop("atelier")
    assert back == message


@given(langchain_messages())
def test_a_stored_langchain_message_comes_back_as_it_was(message: BaseMessage):
    stored = Message.model_validate_json(to_domain(message, "c").model_dump_json())
    back = to_langchain(stored)
    back.response_metadata.pop("atelier")
    assert back == message


@given(domain_messages())
def test_conversion_changes_nothing_in_place(message: Message):
    before = message.model_copy(deep=True)
    to_domain(to_langchain(message), "c")
    assert message == before


keys = st.sampled_from(
    ["tool_calls", "invalid_tool_calls", "usage", "reasoning", "provider", "name", "status", "tool_call_id", "artifact"]
)
like_a_call = st.fixed_dictionaries({}, optional={"id": json, "name": json, "args": json, "type": json})
wild = st.dictionaries(keys, json | st.lists(like_a_call | json, max_size=2), max_size=4)


@given(st.sampled_from(MessageRole), content, wild)
def test_metadata_of_any_shape_goes_to_a_model_and_comes_back(
    role: MessageRole, content: Any, metadata: dict[str, Any]
):
    message = Message(conversation_id="c", role=role, content=content, metadata=metadata)
    converted = to_langchain(message)
    for key, value in message.metadata.items():
        assert to_domain(converted, "c").metadata.get(key, value) == value
    assert to_domain(converted, "c").content == message.content
    if isinstance(converted, AIMessage):
        assert [call["name"] for call in converted.tool_calls] == [call["name"] for call in message.tool_calls]


def test_what_is_stored_is_not_new():
    stored = Message(conversation_id="c", role=MessageRole.USER, content="old", seq=1)
    old, new = to_langchain(stored), HumanMessage("new")
    assert (is_stored(old), is_stored(new)) == (True, False)
    assert [message.content for message in new_messages([old, new], "c")] == ["new"]


def test_bare_text_in_a_list_becomes_a_text_part():
    assert to_domain(AIMessage(["one", {"type": "text", "text": "two"}]), "c").content == [
        {"type": "text", "text": "one"},
        {"type": "text", "text": "two"},
    ]


def test_what_a_model_says_is_cleaned():
    call = {"id": "1", "name": "add", "args": {"a": float("nan"), "b": "\ud800"}, "type": "tool_call"}
    message = to_domain(AIMessage("a\0b", tool_calls=[call]), "c")
    assert message.content == "a\N{REPLACEMENT CHARACTER}b"
    assert message.tool_calls[0]["args"] == {"a": None, "b": "\N{REPLACEMENT CHARACTER}"}


def test_a_message_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="'chat'"):
        to_domain(ChatMessage("hello", role="other"), "c")
