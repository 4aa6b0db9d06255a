"""Skills: list, write, change, delete, take away and bring back."""

from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from app.adapters.inbound.json_bodies import JsonRoute
from app.adapters.inbound.rates import limited
from app.adapters.inbound.responses import Json, page
from app.adapters.inbound.rest.schemas import Problem
from app.adapters.inbound.rest.services import Atelier, Me
from app.core.domain.declared_tools import MAX_NAME, SLUG, Description, Instructions, Name
from app.core.domain.errors import InvalidFrame
from app.core.domain.skill import from_markdown
from app.core.domain.text import check_json
from app.core.services.rate_limits import Limited

router = APIRouter(route_class=JsonRoute, prefix="/api/skills", tags=["skills"], responses={404: {"model": Problem}})

Slug = Annotated[str, Path(pattern=SLUG, max_length=MAX_NAME)]


class NewSkill(BaseModel):
    """A skill to keep."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    description: Description
    instructions: Instructions


class SkillChanges(BaseModel):
    """What is to change of a skill."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    description: Description | None = None
    instructions: Instructions | None = None


@router.get("", summary="List skills")
async def list_skills(
    user: Me, atelier: Atelier, deleted: Annotated[bool, Query(description="Also those that can be restored.")] = False
) -> Response:
    """The user's own, then those that come with the service."""
    return page([skill.to_wire() for skill in await atelier.skills.list(user, deleted=deleted)], None)


@router.post("", status_code=201, summary="Keep a skill")
async def create(body: NewSkill, user: Me, atelier: Atelier) -> Response:
    """Its short name is made of its name."""
    skill = await atelier.skills.create(user, body.name, body.description, body.instructions)
    return Json(skill.to_wire(), status_code=201)


@router.post(
    "/import", dependencies=[limited(Limited.UPLOADS)], status_code=201, summary="Keep a skill from its Markdown file"
)
async def import_skill(
    request: Request, user: Me, atelier: Atelier, _: Annotated[str | None, Body(media_type="text/markdown")] = None
) -> Response:
    """Front matter with name and description, then the instructions: what the export gives."""
    try:
        written = from_markdown((await request.body()).decode("utf-8"))
        fields = NewSkill.model_validate(check_json(written, "The skill"))
    except ValueError as error:
        raise InvalidFrame(
            "That is no skill: a name, a description or the instructions are missing or too long."
        ) from error
    skill = await atelier.skills.create(user, fields.name, fields.description, fields.instructions)
    return Json(skill.to_wire(), status_code=201)


@router.get("/{slug}", summary="One skill")
async def get(slug: Slug, user: Me, atelier: Atelier) -> Response:
    """With its instructions."""
    return Json((await atelier.skills.get(user, slug)).to_wire())


@router.patch("/{slug}", summary="Change a skill")
async def update(slug: Slug, body: SkillChanges, user: Me, atelier: Atelier) -> Response:
    """What is left out stays, and so does the short name."""
    skill = await atelier.skills.update(user, slug, body.name, body.description, body.instructions)
    return Json(skill.to_wire())


@router.delete("/{slug}", status_code=204, summary="Delete a skill")
async def delete(slug: Slug, user: Me, atelier: Atelier) -> Response:
    """It can be restored for a while. One that comes with the service stays."""
    await atelier.skills.delete(user, slug)
    return Response(status_code=204)


@router.post("/{slug}/restore", summary="Undo the last change of a skill, or its deletion")
async def restore(slug: Slug, user: Me, atelier: Atelier) -> Response:
    """Done again, the skill is as it was before."""
    return Json((await atelier.skills.restore(user, slug)).to_wire())


@router.get("/{slug}/export", summary="Export a skill", response_class=Response)
async def export(slug: Slug, user: Me, atelier: Atelier) -> Response:
    """A Markdown file with front matter."""
    skill = await atelier.skills.get(user, slug)
    headers = {"Content-Disposition": f'attachment; filename="{skill.slug}.md"', "X-Content-Type-Options": "nosniff"}
    return Response(skill.to_markdown(), headers=headers, media_type="text/markdown; charset=utf-8")
