from app.core.domain.message import Message, MessageRole


def test_tool_role_exists():
    assert MessageRole.TOOL == "tool"


def test_roles_are_lower_case_words():
    assert [role.value for role in MessageRole] == ["user", "assistant", "system", "tool"]


def test_a_message_needs_only_where_who_and_what():
    message = Message(conversation_id="c", role=MessageRole.USER, content="Hello", metadata={})
    assert message.id != Message(conversation_id="c", role=MessageRole.USER, content="Hello").id
    assert (message.seq, message.parent_id, message.text) == (None, None, "Hello")


def test_metadata_may_be_none():
    assert Message(conversation_id="c", role=MessageRole.USER, content="", metadata=None).metadata == {}  # pyright: ignore


def test_the_text_of_parts_is_their_text():
    parts = [
        {"type": "text", "text": "one"},
        {"type": "image_url", "image_url": {"url": "u"}},
        {"type": "text", "text": "two"},
    ]
    assert Message(conversation_id="c", role=MessageRole.USER, content=parts).text == "one\ntwo"
