"""What the application asks of a store beside conversations: the workflows that are being built, and skills."""

from collections.abc import Sequence
from typing import Protocol

from app.core.domain.graph import WorkflowDocument
from app.core.domain.skill import Skill


class IWorkflowDocuments(Protocol):
    """The workflow documents of conversations; they go with them."""

    async def get(self, conversation_id: str) -> WorkflowDocument | None:
        """The document of a conversation; None where it has none."""
        ...

    async def put(self, conversation_id: str, document: WorkflowDocument) -> bool:
        """Store `document`, whose revision grows by one; False where another revision was stored since it was read.

        Raises:
            NotFound: there is no such conversation.
        """
        ...


class ISkillRepository(Protocol):
    """The skills of users."""

    async def list(self, user_id: str) -> Sequence[Skill]:
        """A user's skills by slug, those that are marked as deleted among them."""
        ...

    async def add(self, skill: Skill) -> bool:
        """Store a new skill; False where the user has one of its slug."""
        ...

    async def update(self, skill: Skill) -> bool:
        """Store a changed skill; False where the user has none of its slug."""
        ...

    async def delete(self, user_id: str, slug: str) -> bool:
        """Remove a skill for good; whether there was one."""
        ...
