from hypothesis import given
from hypothesis import strategies as st

from app.core.domain.conversation import clip_spans
from app.core.domain.message import Message, MessageRole
from app.core.services.history import spans_to


@st.composite
def trees(draw: st.DrawFn) -> list[Message]:
    """A conversation: each message hangs on one before it, with places left out here and there."""
    messages: list[Message] = []
    seq = 0
    for number in range(draw(st.integers(1, 25))):
        seq += draw(st.integers(1, 3))
        parent = (
            draw(st.sampled_from([None, *messages]))
            if messages and draw(st.booleans())
            else messages[-1]
            if messages
            else None
        )
        messages.append(
            Message(
                id=f"m{number}",
                conversation_id="c",
                role=MessageRole.USER,
                seq=seq,
                parent_id=parent.id if parent else None,
            )
        )
    return messages


@given(trees(), st.data())
def test_spans_are_the_branch_and_nothing_else(messages: list[Message], data: st.DataObject):
    by_id = {message.id: message for message in messages}
    head = data.draw(st.sampled_from(messages))
    branch: list[int] = []
    at: Message | None = head
    while at is not None:
        branch.append(at.seq or 0)
        at = by_id.get(at.parent_id or "")
    spans = clip_spans(spans_to(head, by_id))
    covered = [m.seq for m in messages if any(low <= (m.seq or 0) <= high for low, high in spans)]
    assert covered == branch[::-1]
    following = messages[-1].seq or 0
    assert any(low <= following + 1 <= high for low, high in spans)


def test_an_empty_conversation_is_one_open_stretch():
    assert spans_to(None, {}) == [(1, None)]


def test_a_conversation_without_branches_is_one_open_stretch():
    messages = [
        Message(id=str(n), conversation_id="c", role=MessageRole.USER, seq=n, parent_id=str(n - 1) if n > 1 else None)
        for n in (1, 2, 3)
    ]
    assert spans_to(messages[-1], {m.id: m for m in messages}) == [(1, None)]
