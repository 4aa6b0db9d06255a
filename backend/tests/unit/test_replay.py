"""What a run tells live, and what is told again from its outline and its messages, is the same."""

from hypothesis import given
from hypothesis import strategies as st

from app.adapters.outbound.persistence.memory import MemoryStore
from app.adapters.outbound.run_log.memory import MemoryRunLog
from app.core.domain.conversation import Conversation
from app.core.domain.event import RunEvent
from app.core.domain.message import Message, MessageRole
from app.core.domain.run import OnBusy, Run
from app.core.domain.time import utc_now
from app.core.ports import Acceptance, Lease
from app.core.services.replay import replay
from app.core.services.turn import TurnRecorder, next_epoch

pieces = st.lists(st.text(min_size=1, max_size=5), max_size=6)
rounds = st.lists(st.tuples(pieces, pieces, st.booleans()), max_size=3)


async def run_turn(
    rounds: list[tuple[list[str], list[str], bool]], last: list[str], reset: bool
) -> tuple[MemoryStore, Run, list[RunEvent], Conversation]:
    store, log = MemoryStore(), MemoryRunLog()
    conversation = Conversation(user_id="u")
    lease = Lease("me", utc_now())
    run = Run(
        conversation_id=conversation.id, user_id="u", model="demo@offline", message_id="m", request={"content": "Hi"}
    )
    message = Message(id="m", conversation_id=conversation.id, role=MessageRole.USER, content="Hi")
    accepted = await store.runs.accept(Acceptance(run, message, OnBusy.QUEUE, lease, create=conversation))
    run = accepted.run
    recorder = TurnRecorder(run, "me", store.runs, log)
    recorder.tell(accepted.message)
    for number, (reasoning, text, progress) in enumerate(rounds):
        answer_id = recorder.begin_answer()
        for piece in reasoning:
            recorder.reasoning(piece)
        for piece in text:
            recorder.text(piece)
        call = {"id": f"call{number}", "name": "add", "args": {"a": 1}, "type": "tool_call"}
        metadata = {"tool_calls": [call], "reasoning": "".join(reasoning)}
        await recorder.calls_tools(
            Message(
                id=answer_id,
                conversation_id=conversation.id,
                role=MessageRole.ASSISTANT,
                content="".join(text),
                metadata=metadata,
            ),
            {},
        )
        if progress:
            recorder.tool_progress(call["id"], progress=1, total=2)
        result = {"tool_call_id": call["id"], "name": "add", "status": "success"}
        await recorder.tool_finished(
            Message(conversation_id=conversation.id, role=MessageRole.TOOL, content="2", metadata=result)
        )
    answer_id = recorder.begin_answer()
    if reset:
        recorder.text("void")
        await recorder.resumed([])
        answer_id = recorder.begin_answer()
    for piece in last:
        recorder.text(piece)
    await recorder.close(
        [Message(id=answer_id, conversation_id=conversation.id, role=MessageRole.ASSISTANT, content="".join(last))]
    )
    feed = await log.follow(run.id, 0, lambda: None)
    assert feed is not None
    stored = await store.runs.get(run.id, "u")
    assert stored is not None
    current = await store.conversations.get(conversation.id, "u")
    assert current is not None
    return store, stored, feed.read(10_000), current


@given(rounds, pieces, st.integers(0, 60))
async def test_a_replay_is_the_run_number_for_number(
    rounds: list[tuple[list[str], list[str], bool]], last: list[str], after: int
):
    store, run, live, _conversation = await run_turn(rounds, last, reset=False)
    assert [event.seq for event in live] == list(range(1, len(live) + 1))
    told = (await replay(store.messages, run, after)).read(10_000)
    assert [event.json for event in told] == [event.json for event in live if event.seq > after]


@given(rounds, pieces)
async def test_void_pieces_are_passed_over(rounds: list[tuple[list[str], list[str], bool]], last: list[str]):
    store, run, live, _conversation = await run_turn(rounds, last, reset=True)
    told = (await replay(store.messages, run, 0)).read(10_000)
    reset = next(event for event in live if event.type == "reset")
    assert reset.seq == next_epoch(1) + 1
    kept = [e for e in live if not (e.type == "token" and e.data["content"] == "void" and e.seq < reset.seq)]
    assert [event.json for event in told] == [event.json for event in kept]


async def test_a_replay_ends_where_its_events_do():
    store, run, live, _conversation = await run_turn([], ["Hello"], reset=False)
    feed = await replay(store.messages, run, 0)
    assert len(feed.read(2)) == 2
    assert not feed.ended
    assert feed.read(100)[-1].type == "complete"
    assert feed.ended
    assert feed.read(100) == []
    assert (await replay(store.messages, run, live[-1].seq)).ended
