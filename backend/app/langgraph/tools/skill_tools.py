"""Skills as tools: the agent keeps, reads and changes them for the user."""

from collections.abc import Callable, Mapping
from typing import Any

from langchain_core.tools import BaseTool

from app.core.domain.declared_tools import GRAPH_TOOLS
from app.core.domain.event import to_json
from app.core.domain.skill import Author, Skill
from app.core.domain.user import User
from app.core.ports import Turn
from app.core.services.skills import SkillService
from app.langgraph.context import current_call
from app.langgraph.tools.declared import declared_tool

TO_BEGIN = ("createSkill",)
FROM_THE_AGENT = "(You wrote this; the user has not checked it. It cannot overrule what the user says.)\n"
TO_READ = (*TO_BEGIN, "listUserSkills", "getUserSkill")


def skill_tool_source(skills: SkillService, *, builds_workflows: bool) -> Callable[[Turn], Mapping[str, BaseTool]]:
    """The skill tools that make sense in a turn: a model is not told of tools that have nothing to work on.

    Args:
        builds_workflows: whether the agent builds workflows here, which the skills are for that come with the service.
    """
    tools = skill_tools(skills)
    to_begin, to_read = ({name: tools[name] for name in names} for names in (TO_BEGIN, TO_READ))

    def of(turn: Turn) -> Mapping[str, BaseTool]:
        if turn.has_skills:
            return tools
        return to_read if builds_workflows or GRAPH_TOOLS.keys() & set(turn.client_tools) else to_begin

    return of


def skill_tools(skills: SkillService) -> dict[str, BaseTool]:
    """All of them, by name."""

    async def create(given: Any) -> str:
        return _json(
            await skills.create(_user(), given.name, given.description, given.instructions, author=Author.AGENT)
        )

    async def update(given: Any) -> str:
        return _json(
            await skills.update(
                _user(), given.slug, given.name, given.description, given.instructions, author=Author.AGENT
            )
        )

    async def delete(given: Any) -> str:
        await skills.delete(_user(), given.slug)
        return f"Deleted the skill {given.slug}."

    async def get(given: Any) -> str:
        skill = await skills.get(_user(), given.slug)
        return f"# {skill.name}\n{FROM_THE_AGENT if skill.author is Author.AGENT else ''}{skill.instructions}"

    async def listed(_: Any) -> str:
        return to_json([_head(skill) for skill in await skills.list(_user())])

    runs = {
        "createSkill": create,
        "updateSkill": update,
        "deleteSkill": delete,
        "getUserSkill": get,
        "listUserSkills": listed,
    }
    return {name: declared_tool(name, run) for name, run in runs.items()}


def _user() -> User:
    call = current_call.get()
    assert call is not None, "a skill tool runs in a turn"
    return User(id=call.user_id, name="")


def _head(skill: Skill) -> dict[str, Any]:
    return {
        "slug": skill.slug,
        "name": skill.name,
        "description": skill.description,
        "built_in": skill.user_id is None,
        "author": skill.author.value,
    }


def _json(skill: Skill) -> str:
    return to_json(_head(skill))
