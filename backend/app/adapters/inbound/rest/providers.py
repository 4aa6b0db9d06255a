"""Keys of providers: entered on the page, kept in the data folder, never told again."""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field, SecretStr
from starlette.responses import Response

from app.adapters.inbound.responses import Json
from app.adapters.inbound.rest.schemas import Problem
from app.adapters.inbound.rest.services import Atelier
from app.core.domain.errors import NotFound
from app.core.ports import ProviderInfo

router = APIRouter(prefix="/api/providers", tags=["models"], responses={404: {"model": Problem}})

ProviderId = Annotated[str, Path(max_length=64)]


class NewKey(BaseModel):
    """A provider's key."""

    key: SecretStr = Field(max_length=1_000)


@router.put("/{provider}/key", response_model=ProviderInfo, summary="Keep a provider's key")
async def set_key(provider: ProviderId, body: NewKey, atelier: Atelier) -> Response:
    """Used at once. The answer's `error` says why the provider does not take it, where it does not."""
    atelier.keys.check(provider)
    atelier.keys.set(provider, body.key.get_secret_value().strip())
    return await _state(provider, atelier)


@router.delete("/{provider}/key", response_model=ProviderInfo, summary="Forget a provider's key")
async def remove_key(provider: ProviderId, atelier: Atelier) -> Response:
    """One that stands in the environment stays in use: it is not the service's to remove."""
    atelier.keys.check(provider)
    if not atelier.keys.remove(provider):
        raise NotFound("There is no key of this provider in the data folder.")
    return await _state(provider, atelier)


async def _state(provider: str, atelier: Atelier) -> Response:
    listed = await atelier.catalog.models(refresh=True)
    info = next(one for one in listed.providers if one.id == provider)
    return Json(info.model_dump(exclude_none=True))
