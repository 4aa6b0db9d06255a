"""What the routes work with: the services of the application, and the user of the request."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from app.core.domain.user import User
from app.core.ports import IFileStore, IModelCatalog, IModelGateway, IProviderKeys, IWorkflowRepository, Store
from app.core.services.compaction import Compaction
from app.core.services.context_view import ContextView
from app.core.services.history import HistoryService
from app.core.services.passing import PassingTurns
from app.core.services.previews import Previews
from app.core.services.rate_limits import RateLimits
from app.core.services.runs import RunService
from app.core.services.sessions import SessionService
from app.core.services.skills import SkillService
from app.core.services.tools import ToolService
from app.core.services.usage import UsageService
from app.core.services.workshop import Workshop


@dataclass(frozen=True, slots=True)
class Services:
    """The application behind the REST surface."""

    runs: RunService
    history: HistoryService
    catalog: IModelCatalog
    keys: IProviderKeys
    sessions: SessionService
    rates: RateLimits
    store: Store
    gateway: IModelGateway
    passing: PassingTurns
    usage: UsageService
    skills: SkillService
    graphs: Workshop
    contexts: ContextView
    compaction: Compaction
    tools: ToolService
    files: IFileStore
    previews: Previews
    definitions: IWorkflowRepository
    object_info: Callable[[], Awaitable[Mapping[str, Any] | None]]
    mcp_status: Callable[[], list[dict[str, Any]]]


async def _services(request: Request) -> Services:
    return request.app.state.services


async def _user(request: Request) -> User:
    return request.state.user


Atelier = Annotated[Services, Depends(_services)]
Me = Annotated[User, Depends(_user)]
