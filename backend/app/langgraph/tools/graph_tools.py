"""The graph tools on the workflow document of the conversation, where no canvas is connected, and those that look into ComfyUI."""

from functools import partial
from typing import Any

from langchain_core.tools import BaseTool

from app.core.domain.declared_tools import ENVIRONMENT_TOOLS, GRAPH_TOOLS
from app.core.services.environment import Environment
from app.core.services.workshop import Workshop
from app.langgraph.context import current_call
from app.langgraph.tools.declared import Answered, declared_tool
from app.langgraph.tools.workflow_tools import KeepPreview, tell_progress, told


def graph_tools(workshop: Workshop, keep_preview: KeepPreview) -> list[BaseTool]:
    """The graph tools, as LangChain tools."""

    async def run(parameters: Any) -> Answered:
        call = current_call.get()
        assert call is not None, "a graph tool runs in a turn"
        answer = await workshop.call(
            call.user_id,
            call.conversation_id,
            parameters,
            lambda progress: tell_progress(call, progress, keep_preview),
            call_id=call.key,
        )
        return told(answer.invocation) if answer.invocation is not None else (answer.text, None)

    return [declared_tool(name, run) for name in GRAPH_TOOLS]


def environment_tools(environment: Environment) -> list[BaseTool]:
    """The environment tools, as LangChain tools."""
    return [declared_tool(name, partial(environment.call, name)) for name in ENVIRONMENT_TOOLS]
