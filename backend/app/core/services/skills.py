"""Skills: those that come with the service, and those that users keep."""

import time
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from app.core.domain.errors import InvalidFrame, NotFound
from app.core.domain.skill import Author, Skill, from_markdown, slug_of
from app.core.domain.time import utc_now
from app.core.domain.user import User
from app.core.ports import ISkillRepository

MAX_SKILLS = 200
KEPT_DELETED = 50
FRESH_SECONDS = 5.0


class SkillService:
    """What users and the agent do with skills."""

    def __init__(self, skills: ISkillRepository) -> None:
        self._skills = skills
        self._read: dict[str, tuple[float, Sequence[Skill]]] = {}

    async def list(self, user: User, *, deleted: bool = False) -> list[Skill]:
        """The user's skills, then those that come with the service; with `deleted` the user's deleted ones behind them."""
        stored = await self._skills.list(user.id)
        gone = [skill for skill in stored if skill.deleted_at is not None] if deleted else []
        return [*(skill for skill in stored if skill.deleted_at is None), *built_in_skills(), *gone]

    async def own(self, user: User) -> Sequence[Skill]:
        """The user's own skills, for a turn: read again after a few seconds, or when they change here."""
        read, skills = self._read.get(user.id, (0.0, ()))
        if time.monotonic() - read > FRESH_SECONDS:
            skills = [skill for skill in await self._skills.list(user.id) if skill.deleted_at is None]
            self._read[user.id] = (time.monotonic(), skills)
        return skills

    async def get(self, user: User, slug: str) -> Skill:
        """A skill by its slug.

        Raises:
            NotFound: there is none; the error lists what there is.
        """
        skills = await self.list(user)
        found = next((skill for skill in skills if skill.slug == slug), None)
        if found is None:
            raise NotFound(f"There is no skill {slug[:100]!r}. The skills: {', '.join(one.slug for one in skills)}.")
        return found

    async def create(
        self, user: User, name: str, description: str, instructions: str, *, author: Author = Author.USER
    ) -> Skill:
        """Keep a new skill. It takes the place of a deleted one of its slug, which can still be restored.

        Raises:
            InvalidFrame: there is one of that name, or the user has as many as one may have.
        """
        known = await self.list(user, deleted=True)
        slug = slug_of(name)
        old = next((skill for skill in known if skill.slug == slug), None)
        if old is not None and old.deleted_at is None:
            raise _taken(slug)
        if sum(skill.deleted_at is None for skill in known) >= MAX_SKILLS:
            raise InvalidFrame(f"There are {MAX_SKILLS} skills, which is as many as one may have. Delete some first.")
        fields = {"name": name, "description": description, "instructions": instructions, "author": author}
        skill = Skill.model_validate({"slug": slug, "user_id": user.id, **fields})
        if old is not None:
            skill.previous = old.version
        if not await (self._skills.add(skill) if old is None else self._skills.update(skill)):
            raise _taken(slug)
        self._read.pop(user.id, None)
        return skill

    async def update(
        self,
        user: User,
        slug: str,
        name: str | None = None,
        description: str | None = None,
        instructions: str | None = None,
        *,
        author: Author = Author.USER,
    ) -> Skill:
        """Change a skill of the user's; what is left out stays, and what it said before can be restored.

        Raises:
            NotFound: there is none.
            InvalidFrame: it comes with the service.
        """
        skill = await self._own(user, slug)
        given = {"name": name, "description": description, "instructions": instructions}
        said = {key: value for key, value in given.items() if value is not None}
        changes: dict[str, Any] = {**said, "author": author, "updated_at": utc_now()}
        if any(getattr(skill, key) != value for key, value in said.items()):
            changes["previous"] = skill.version
        return await self._put(skill.model_copy(update=changes))

    async def delete(self, user: User, slug: str) -> None:
        """Delete a skill of the user's. The newest of the deleted ones can be restored.

        Raises:
            NotFound: there is none.
            InvalidFrame: it comes with the service.
        """
        skill = await self._own(user, slug)
        await self._put(skill.model_copy(update={"deleted_at": utc_now()}))
        gone = [one for one in await self._skills.list(user.id) if one.deleted_at is not None]
        gone.sort(key=lambda one: one.deleted_at or one.updated_at, reverse=True)
        for one in gone[KEPT_DELETED:]:
            await self._skills.delete(user.id, one.slug)

    async def restore(self, user: User, slug: str) -> Skill:
        """Undo the last change of a skill of the user's, or its deletion. Done again, it is as it was before.

        Raises:
            NotFound: there is no such skill, or nothing of it to restore.
        """
        known = {skill.slug: skill for skill in await self._skills.list(user.id)}
        skill = known.get(slug)
        if skill is None:
            raise NotFound(f"There is no skill {slug[:100]!r} to restore.")
        if skill.deleted_at is not None:
            return await self._put(skill.model_copy(update={"deleted_at": None}))
        if skill.previous is None:
            raise NotFound(f"The skill {slug!r} was never changed, so there is nothing to restore.")
        before = skill.previous.model_dump(exclude={"updated_at"})
        return await self._put(skill.model_copy(update={**before, "previous": skill.version, "updated_at": utc_now()}))

    async def _put(self, skill: Skill) -> Skill:
        if not await self._skills.update(skill):
            raise NotFound(f"The skill {skill.slug!r} is gone.")
        self._read.pop(skill.user_id or "", None)
        return skill

    async def _own(self, user: User, slug: str) -> Skill:
        skill = await self.get(user, slug)
        if skill.user_id is None:
            raise InvalidFrame(
                f"The skill {slug!r} comes with the service and stays as it is. Make one of another name."
            )
        return skill


def _taken(slug: str) -> InvalidFrame:
    return InvalidFrame(f"There is a skill {slug!r} already. Update it, or choose another name.")


@cache
def built_in_skills() -> tuple[Skill, ...]:
    """The skills that come with the service."""
    files = (file for file in resources.files("app.skills").iterdir() if file.name.endswith(".md"))
    texts = {file.name.removesuffix(".md"): from_markdown(file.read_text(encoding="utf-8")) for file in files}
    return tuple(Skill.model_validate({"slug": slug, **texts[slug]}) for slug in sorted(texts))
