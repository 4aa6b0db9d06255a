"""Tools that the user's client runs: the model is offered them, the call goes to the client, its result comes back."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool

from app.core.domain.declared_tools import DECLARED_TOOLS

_ANY_OBJECT: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": True}


def with_client_tools(tools: Mapping[str, BaseTool], names: Iterable[str]) -> dict[str, BaseTool]:
    """`tools` and those that the client runs. One that the service knows too keeps its description and schema."""
    return {**tools, **{name: tools.get(name) or client_tool(name) for name in names}}


@lru_cache(maxsize=512)
def client_tool(name: str) -> BaseTool:
    """The tool as models are told of it: as the service declares it, or, unknown here, by its name alone."""
    declared = DECLARED_TOOLS.get(name)
    if declared is not None:
        return StructuredTool(
            name=name, description=declared.description, args_schema=declared.parameters, coroutine=_run_elsewhere
        )
    return StructuredTool(
        name=name,
        description=f"{name}: a tool of the user's client.",
        args_schema=_ANY_OBJECT,
        coroutine=_run_elsewhere,
    )


async def _run_elsewhere(**arguments: Any) -> str:
    raise RuntimeError("a tool of the client was run on the server")
