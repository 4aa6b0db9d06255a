from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from app.core.domain.conversation import Conversation, branch_to, clip_spans, go_on_from, newest_stretch_behind
from app.core.domain.message import Message, MessageRole
from app.core.services.history import forks_of


@st.composite
def trees(draw: st.DrawFn) -> list[Message]:
    """A conversation: each message hangs on one before it, with places left out here and there."""
    messages: list[Message] = []
    seq = 0
    for number in range(draw(st.integers(1, 25))):
        seq += draw(st.integers(1, 3))
        parent = messages[-1] if messages else None
        if messages and draw(st.booleans()):
            parent = draw(st.sampled_from([None, *messages]))
        parent_id = parent.id if parent else None
        messages.append(
            Message(id=f"m{number}", conversation_id="c", role=MessageRole.USER, seq=seq, parent_id=parent_id)
        )
    return messages


def conversation(messages: list[Message]) -> Conversation:
    return Conversation(user_id="u", forks=forks_of(messages), last_seq=messages[-1].seq or 0)


def path_to(messages: list[Message], head: Message) -> list[int]:
    by_id = {message.id: message for message in messages}
    branch: list[int] = []
    at: Message | None = head
    while at is not None:
        branch.append(at.seq or 0)
        at = by_id.get(at.parent_id or "")
    return branch[::-1]


@given(trees(), st.data())
def test_a_branch_is_told_from_the_forks(messages: list[Message], data: st.DataObject):
    head = data.draw(st.sampled_from(messages))
    spans = branch_to(forks_of(messages), head.seq or 0)
    covered = [m.seq for m in messages if any(low <= (m.seq or 0) <= high for low, high in spans)]
    assert covered == path_to(messages, head)


@given(trees(), st.data())
def test_what_is_stored_next_goes_on_from_the_head(messages: list[Message], data: st.DataObject):
    tree = conversation(messages)
    moves = data.draw(st.lists(st.tuples(st.sampled_from([None, *messages]), st.booleans()), min_size=1, max_size=4))
    for head, appends in moves:
        tree.forks, tree.spans = go_on_from(tree, (head.seq or 0) if head else 0)
        before = path_to(messages, head) if head else []
        covered = [m.seq for m in messages if any(a <= (m.seq or 0) <= b for a, b in clip_spans(tree.spans))]
        assert covered == before
        if appends:
            tree.last_seq += 1
            parent = head.id if head else None
            messages = [
                *messages,
                Message(
                    id=f"n{tree.last_seq}",
                    conversation_id="c",
                    role=MessageRole.USER,
                    seq=tree.last_seq,
                    parent_id=parent,
                ),
            ]
            covered = [m.seq for m in messages if any(a <= (m.seq or 0) <= b for a, b in clip_spans(tree.spans))]
            assert covered == [*before, tree.last_seq]
    assert [fork for fork in tree.forks if fork[0] <= tree.last_seq] == forks_of(messages) or not appends


@given(trees(), st.data())
def test_the_newest_branch_through_a_message_ends_in_its_newest_descendant(
    messages: list[Message], data: st.DataObject
):
    chosen = data.draw(st.sampled_from(messages))
    start, end = newest_stretch_behind(conversation(messages), chosen.seq or 0)
    last = [m for m in messages if start <= (m.seq or 0) <= end][-1]
    descendants = [m for m in messages if chosen.seq in path_to(messages, m)]
    assert last == descendants[-1]


def test_an_empty_conversation_is_one_open_stretch():
    assert go_on_from(Conversation(user_id="u"), 0) == ([], [(1, None)])


def test_a_branch_is_found_without_walking_through_all_forks():
    class Forks(list[tuple[int, int]]):
        def __iter__(self) -> Any:
            raise AssertionError("each step would cost as much as there are forks")

    forks = Forks([(seq, seq - 2) for seq in range(3, 10_000)])
    assert branch_to(forks, 9_999)[-1] == (9_999, 9_999)
    assert len(branch_to(forks, 9_999)) == 5_000
