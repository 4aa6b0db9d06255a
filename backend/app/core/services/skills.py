"""Skills: those that come with the service, and those that users keep."""

import time
from collections.abc import Sequence
from functools import cache
from importlib import resources

from app.core.domain.errors import InvalidFrame, NotFound
from app.core.domain.skill import Skill, from_markdown, slug_of
from app.core.domain.time import utc_now
from app.core.domain.user import User
from app.core.ports import ISkillRepository

MAX_SKILLS = 200
FRESH_SECONDS = 5.0


class SkillService:
    """What users and the agent do with skills."""

    def __init__(self, skills: ISkillRepository) -> None:
        self._skills = skills
        self._read: dict[str, tuple[float, Sequence[Skill]]] = {}

    async def list(self, user: User) -> list[Skill]:
        """The user's skills, then those that come with the service."""
        own = await self._skills.list(user.id)
        return [*own, *built_in_skills()]

    async def own(self, user: User) -> Sequence[Skill]:
        """The user's own skills, for a turn: read again after a few seconds, or when they change here."""
        read, skills = self._read.get(user.id, (0.0, ()))
        if time.monotonic() - read > FRESH_SECONDS:
            skills = await self._skills.list(user.id)
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

    async def create(self, user: User, name: str, description: str, instructions: str) -> Skill:
        """Keep a new skill.

        Raises:
            InvalidFrame: there is one of that name, or the user has as many as one may have.
        """
        known = await self.list(user)
        slug = slug_of(name)
        if any(skill.slug == slug for skill in known):
            raise InvalidFrame(f"There is a skill {slug!r} already. Update it, or choose another name.")
        if len(known) >= MAX_SKILLS:
            raise InvalidFrame(f"There are {len(known)} skills, which is as many as one may have. Delete some first.")
        skill = Skill(slug=slug, name=name, description=description, instructions=instructions, user_id=user.id)
        if not await self._skills.add(skill):
            raise InvalidFrame(f"There is a skill {slug!r} already. Update it, or choose another name.")
        self._read.pop(user.id, None)
        return skill

    async def update(
        self,
        user: User,
        slug: str,
        name: str | None = None,
        description: str | None = None,
        instructions: str | None = None,
    ) -> Skill:
        """Change a skill of the user's; what is left out stays.

        Raises:
            NotFound: there is none.
            InvalidFrame: it comes with the service.
        """
        skill = await self._own(user, slug)
        changes = {"name": name, "description": description, "instructions": instructions, "updated_at": utc_now()}
        changed = skill.model_copy(update={key: value for key, value in changes.items() if value is not None})
        if not await self._skills.update(changed):
            raise NotFound(f"The skill {slug!r} is gone.")
        self._read.pop(user.id, None)
        return changed

    async def delete(self, user: User, slug: str) -> None:
        """Delete a skill of the user's.

        Raises:
            NotFound: there is none.
            InvalidFrame: it comes with the service.
        """
        await self._own(user, slug)
        await self._skills.delete(user.id, slug)
        self._read.pop(user.id, None)

    async def _own(self, user: User, slug: str) -> Skill:
        skill = await self.get(user, slug)
        if skill.user_id is None:
            raise InvalidFrame(
                f"The skill {slug!r} comes with the service and stays as it is. Make one of another name."
            )
        return skill


@cache
def built_in_skills() -> tuple[Skill, ...]:
    """The skills that come with the service."""
    files = (file for file in resources.files("app.skills").iterdir() if file.name.endswith(".md"))
    texts = {file.name.removesuffix(".md"): from_markdown(file.read_text(encoding="utf-8")) for file in files}
    return tuple(Skill.model_validate({"slug": slug, **texts[slug]}) for slug in sorted(texts))
