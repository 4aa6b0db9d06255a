"""A skill: instructions that are kept under a name, and used when they fit."""

import re
import unicodedata
from datetime import datetime
from enum import StrEnum
from typing import Any

import yaml
from pydantic import BaseModel, Field

from app.core.domain.declared_tools import MAX_NAME, Description, Instructions, Name, Slug
from app.core.domain.errors import InvalidFrame
from app.core.domain.time import utc_now

_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---\r?\n?(.*)\Z", re.DOTALL)


class Author(StrEnum):
    """Who wrote a skill as it is now."""

    USER = "user"
    AGENT = "agent"


class SkillVersion(BaseModel):
    """What a skill said before its last change."""

    name: Name
    description: Description
    instructions: Instructions
    author: Author = Author.USER
    updated_at: datetime


class Skill(BaseModel):
    """A skill of a user, or one that comes with the service.

    Attributes:
        slug: its short name, unique for its user.
        description: when it is to be used; models read it in every turn.
        instructions: what to do, in Markdown; models read it when it is used.
        user_id: whose it is; None for one that comes with the service.
        author: who wrote it as it is now. What the agent wrote may come from a page or a tool that it has read.
        previous: what it said before its last change, to undo that.
        deleted_at: when it was deleted; it can be restored for a while.
    """

    slug: Slug
    name: Name
    description: Description
    instructions: Instructions
    user_id: str | None = None
    author: Author = Author.USER
    previous: SkillVersion | None = None
    deleted_at: datetime | None = None
    created_at: datetime = Field(default_factory=utc_now)
    updated_at: datetime = Field(default_factory=utc_now)

    def to_wire(self) -> dict[str, Any]:
        """The skill as every JSON surface shows it."""
        return {
            "slug": self.slug,
            "name": self.name,
            "description": self.description,
            "instructions": self.instructions,
            "built_in": self.user_id is None,
            "author": self.author.value,
            "can_undo": self.previous is not None,
            "deleted_at": self.deleted_at,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }

    @property
    def version(self) -> SkillVersion:
        """What it says now."""
        fields = ("name", "description", "instructions", "author", "updated_at")
        return SkillVersion(**{name: getattr(self, name) for name in fields})

    def to_markdown(self) -> str:
        """The skill as a file: front matter with name and description, then the instructions."""
        head = yaml.safe_dump(
            {"name": self.name, "description": self.description}, allow_unicode=True, sort_keys=False, width=10_000
        )
        return f"---\n{head}---\n{self.instructions.rstrip()}\n"


def slug_of(name: str) -> str:
    """The short name that a name makes: `Text to Image!` is `text-to-image`."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return "-".join(re.findall(r"[a-z0-9]+", plain))[:MAX_NAME].strip("-") or "skill"


def from_markdown(text: str) -> dict[str, str]:
    """Name, description and instructions of a skill's file.

    Raises:
        InvalidFrame: it has no such front matter.
    """
    found = _FRONT_MATTER.match(text.lstrip("\ufeff"))
    try:
        head: Any = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError as error:
        raise InvalidFrame("The skill's front matter is no YAML.") from error
    if found is None or not isinstance(head, dict) or not {"name", "description"} <= head.keys():
        raise InvalidFrame(
            "A skill's file begins with front matter: a name and a description between two lines of ---."
        )
    return {"name": str(head["name"]), "description": str(head["description"]), "instructions": found[2].strip()}  # pyright: ignore[reportUnknownArgumentType]
