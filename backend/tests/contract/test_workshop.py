"""Workflow documents and skills, in every store."""

import pytest

from app.core.domain.conversation import Conversation, Summary
from app.core.domain.errors import NotFound
from app.core.domain.graph import GraphNode, WorkflowDocument
from app.core.domain.skill import Author, Skill
from app.core.ports import Store


async def conversation(store: Store) -> Conversation:
    return await store.conversations.create(Conversation(user_id="ann"))


async def test_a_document_is_kept_and_goes_with_its_conversation(store: Store):
    made = await conversation(store)
    assert await store.workflows.get(made.id) is None
    node = GraphNode(type="KSampler", x=1.5, values={"a.b": "$x", "seed": 2**63}, links={"model": (2, 0)})
    document = WorkflowDocument(nodes={1: node}, last_id=1, answered={"call": "{}"})
    assert await store.workflows.put(made.id, document)
    assert document.revision == 1
    assert await store.workflows.get(made.id) == document
    await store.conversations.delete(made.id, "ann")
    assert await store.workflows.get(made.id) is None


async def test_of_two_changes_to_one_revision_one_is_stored(store: Store):
    made = await conversation(store)
    first, second = WorkflowDocument(last_id=1), WorkflowDocument(last_id=2)
    assert [await store.workflows.put(made.id, one) for one in (first, second)] == [True, False]
    read = await store.workflows.get(made.id)
    again = await store.workflows.get(made.id)
    assert read is not None
    assert again is not None
    assert read.last_id == 1
    assert [await store.workflows.put(made.id, one) for one in (read, again)] == [True, False]


async def test_a_document_needs_its_conversation(store: Store):
    with pytest.raises(NotFound):
        await store.workflows.put("nowhere", WorkflowDocument())


def skill(slug: str, user_id: str = "ann", **changes: str) -> Skill:
    fields = {"name": slug, "description": "For tests.", "instructions": "Do it.", **changes}
    return Skill(slug=slug, user_id=user_id, **fields)  # pyright: ignore


async def test_skills_belong_to_their_users(store: Store):
    assert [await store.skills.add(skill(slug)) for slug in ("b", "a", "b")] == [True, True, False]
    assert await store.skills.add(skill("a", "eve", name="Hers"))
    assert [one.slug for one in await store.skills.list("ann")] == ["a", "b"]
    changed = skill("a", name="New", instructions="Do it twice.")
    assert await store.skills.update(changed)
    assert not await store.skills.update(skill("c"))
    [first, _] = await store.skills.list("ann")
    assert (first.name, first.instructions, first.user_id) == ("New", "Do it twice.", "ann")
    assert [one.name for one in await store.skills.list("eve")] == ["Hers"]
    assert (first.author, first.previous, first.deleted_at) == (Author.USER, None, None)
    marked = first.model_copy(
        update={"author": Author.AGENT, "previous": first.version, "deleted_at": first.created_at}
    )
    assert await store.skills.update(marked)
    assert (await store.skills.list("ann"))[0] == marked
    assert [await store.skills.delete("ann", "a") for _ in range(2)] == [True, False]
    assert [one.slug for one in await store.skills.list("ann")] == ["b"]
    assert await store.skills.list("bob") == []


async def test_a_summary_is_kept(store: Store):
    made = await conversation(store)
    summary = Summary(text="They talked.", seq=7)
    changed = await store.conversations.update(made.id, "ann", {"summary": summary.model_dump()})
    assert changed is not None
    assert changed.summary == summary
    read = await store.conversations.get(made.id, "ann")
    assert read is not None
    assert read.summary == summary
    changed = await store.conversations.update(made.id, "ann", {"summary": None})
    assert changed is not None
    assert changed.summary is None
