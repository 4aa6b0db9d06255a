"""Declared tools as tools of the agent: what each may be called with, and an error that the model can act on."""

from collections.abc import Awaitable, Callable
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool, ToolException

from app.core.domain.declared_tools import DECLARED_TOOLS, Parameters
from app.core.domain.errors import AtelierError
from app.langgraph.messages import ShownFiles

Answered = tuple[str, ShownFiles | None]


def declared_tool(name: str, run: Callable[[Any], Awaitable[str | Answered]]) -> BaseTool:
    """The tool `name`, which `run` carries out with its checked parameters."""
    declared = DECLARED_TOOLS[name]

    async def call(**arguments: Any) -> Answered:
        parameters: Parameters = declared.parameters.model_validate(
            {key: value.model_dump() if isinstance(value, Parameters) else value for key, value in arguments.items()}
        )
        try:
            answer = await run(parameters)
        except AtelierError as error:
            raise ToolException(error.message) from error
        return (answer, None) if isinstance(answer, str) else answer

    return StructuredTool(
        name=name,
        description=declared.description,
        args_schema=declared.parameters,
        coroutine=call,
        response_format="content_and_artifact",
    )
