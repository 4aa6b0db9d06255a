"""Keys of providers: entered on the page, stored in the data folder, never told again."""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field, SecretStr
from starlette.responses import Response

from app.adapters.inbound.json_bodies import JsonRoute
from app.adapters.inbound.responses import Json
from app.adapters.inbound.rest.schemas import Problem
from app.adapters.inbound.rest.services import Atelier
from app.core.domain.errors import KeyRefused, KeyUnchecked, NotFound
from app.core.ports import ProviderInfo
from app.core.services.provider_keys import store_key

router = APIRouter(route_class=JsonRoute, prefix="/api/providers", tags=["models"], responses={404: {"model": Problem}})

ProviderId = Annotated[str, Path(max_length=64)]


class NewKey(BaseModel):
    """A provider's key.

    Attributes:
        keep: store it as well where the provider cannot be asked whether it accepts the key.
    """

    key: SecretStr = Field(max_length=1_000)
    keep: bool = False


@router.put(
    "/{provider}/key",
    response_model=ProviderInfo,
    summary="Store a provider's key",
    responses={422: {"model": Problem}, 502: {"model": Problem}},
)
async def set_key(provider: ProviderId, body: NewKey, atelier: Atelier) -> Response:
    """The provider is asked first. A key that it refuses is never stored (`key_refused`); where the provider cannot be
    asked (`key_unchecked`), the key is stored only with `keep`. A stored key is used at once."""
    key = body.key.get_secret_value().strip()
    problem = await store_key(atelier.keys, atelier.catalog, provider, key, unchecked=body.keep)
    return await _state(provider, atelier, problem)


@router.post("/{provider}/test", response_model=ProviderInfo, summary="Ask a provider whether it accepts its key")
async def test_key(provider: ProviderId, atelier: Atelier) -> Response:
    """`error` says why it does not, or why it cannot be asked."""
    atelier.keys.check(provider)
    problem = None
    try:
        await atelier.catalog.try_key(provider)
    except (KeyRefused, KeyUnchecked) as error:
        problem = error.message
    return await _state(provider, atelier, problem, refresh=True)


@router.delete("/{provider}/key", response_model=ProviderInfo, summary="Remove a provider's key")
async def remove_key(provider: ProviderId, atelier: Atelier) -> Response:
    """A key from the environment stays in use: it is not the service's to remove."""
    atelier.keys.check(provider)
    if not atelier.keys.remove(provider):
        raise NotFound("There is no key of this provider in the data folder.")
    return await _state(provider, atelier, None)


async def _state(provider: str, atelier: Atelier, problem: str | None, *, refresh: bool = False) -> Response:
    listed = await atelier.catalog.models(refresh=refresh)
    info = next(one for one in listed.providers if one.id == provider)
    return Json(info.model_copy(update={"error": problem}).model_dump(exclude_none=True))
