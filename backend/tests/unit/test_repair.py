from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from app.core.domain.message import Message, MessageRole
from app.core.services.repair import INTERRUPTED, calls_of, open_calls, repair

call_ids = st.sampled_from(["a", "b", "c", "", None])
calls = st.lists(call_ids.map(lambda i: {"id": i, "name": "add", "args": {}, "type": "tool_call"}), max_size=3)
malformed = st.lists(
    call_ids.map(lambda i: {"id": i, "name": "add", "args": "{", "type": "invalid_tool_call"}), max_size=1
)


def user(text: str = "hello") -> Message:
    return Message(conversation_id="c", role=MessageRole.USER, content=text)


def assistant(*ids: str | None, invalid: list[Any] | None = None) -> Message:
    found = [{"id": i, "name": "add", "args": {}, "type": "tool_call"} for i in ids]
    metadata: dict[str, Any] = {"tool_calls": found} if found else {}
    if invalid:
        metadata["invalid_tool_calls"] = invalid
    return Message(conversation_id="c", role=MessageRole.ASSISTANT, content="", metadata=metadata)


def tool(call_id: str | None, text: str = "result") -> Message:
    return Message(conversation_id="c", role=MessageRole.TOOL, content=text, metadata={"tool_call_id": call_id})


histories = st.lists(
    st.just("u").map(user)
    | st.tuples(st.lists(call_ids, max_size=3), malformed).map(lambda t: assistant(*t[0], invalid=t[1]))
    | call_ids.map(tool),
    max_size=12,
)


def assert_legal(history: list[Message], *, keep_open: bool = False) -> None:
    """Every call has one result right behind its message, and every result a call."""
    waiting: list[str] = []
    last_caller = max((i for i, m in enumerate(history) if m.role is MessageRole.ASSISTANT), default=-1)
    for message in history:
        if message.role is MessageRole.TOOL:
            assert message.tool_call_id in waiting
            waiting.remove(message.tool_call_id)
            continue
        assert not waiting
        waiting = [call["id"] for call in calls_of(message)]
        assert all(isinstance(i, str) and i for i in waiting)
        assert len(set(waiting)) == len(waiting)
    assert not waiting or (keep_open and all(m.role is MessageRole.TOOL for m in history[last_caller + 1 :]))


@given(histories)
def test_a_repaired_history_is_legal(history: list[Message]):
    assert_legal(repair(history))


@given(histories)
def test_open_calls_at_the_end_may_be_kept(history: list[Message]):
    repaired = repair(history, keep_open=True)
    assert_legal(repaired, keep_open=True)
    assert_legal(repair(repaired))


@given(histories)
def test_repairing_twice_changes_nothing_more(history: list[Message]):
    once = repair(history)
    assert repair(once) == once


@given(histories)
def test_nothing_that_was_said_is_lost(history: list[Message]):
    kept = {message.id for message in repair(history)}
    assert {m.id for m in history if m.role is not MessageRole.TOOL} <= kept


@given(histories)
def test_stored_messages_are_not_changed(history: list[Message]):
    before = [message.model_copy(deep=True) for message in history]
    repair(history)
    assert history == before


def test_a_legal_history_is_left_alone():
    history = [user(), assistant("a", "b"), tool("a"), tool("b"), assistant(), user()]
    assert repair(history) == history


def test_an_open_call_is_answered_as_interrupted():
    repaired = repair([user(), assistant("a", "b"), tool("b"), user()])
    assert [m.tool_call_id for m in repaired] == [None, None, "a", "b", None]
    assert repaired[2].content == INTERRUPTED
    assert repaired[2].metadata["status"] == "error"


def test_results_come_back_to_their_call():
    late = tool("a", "late")
    assert repair([user(), assistant("a"), user(), late])[2] is late


def test_an_id_that_is_used_again_has_its_own_result():
    first, second = tool("a", "first"), tool("a", "second")
    repaired = repair([user(), assistant("a"), first, user(), assistant("a"), second])
    assert [m.content for m in repaired if m.role is MessageRole.TOOL] == ["first", "second"]


def test_open_calls_are_those_of_the_last_assistant_message():
    assert open_calls([user(), assistant("a", "b"), tool("a")])[0]["id"] == "b"
    assert open_calls([user(), assistant("a"), tool("a")]) == []
    assert open_calls([user(), assistant("a"), user()]) == []
    assert open_calls([]) == []
