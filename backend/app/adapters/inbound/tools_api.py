"""`GET /tools` and `POST /invoke`: workflow tools over plain HTTP, in three styles of call; and the files they make."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, cast

from fastapi import APIRouter, Query, Request
from starlette.responses import FileResponse, Response

from app.adapters.inbound.content import ClientId
from app.adapters.inbound.json_bodies import JsonRoute
from app.adapters.inbound.leaving import ClientGone, unless_gone
from app.adapters.inbound.problems import problem
from app.adapters.inbound.responses import Json
from app.adapters.inbound.rest.schemas import Problem
from app.adapters.inbound.rest.services import Atelier, Me
from app.adapters.inbound.workflow_files import MAX_FILE_BYTES, read_workflow
from app.core.domain.errors import AtelierError, InvalidFrame, NotFound
from app.core.domain.text import read_json
