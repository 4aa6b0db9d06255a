"""Building workflows for programs that have no conversation: each user has one for them, which the page shows like any other."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import ValidationError

from app.core.domain.declared_tools import DECLARED_TOOLS, ENVIRONMENT_TOOLS, GRAPH_TOOLS, DeclaredTool
from app.core.domain.errors import NotFound
from app.core.domain.text import check_json
from app.core.ports import Progress
from app.core.services.environment import Environment
from app.core.services.tools import InvalidArguments
from app.core.services.workshop import GraphAnswer, Workshop

FindConversation = Callable[[str], Awaitable[str]]
"""The conversation, by its id, whose workflow a user's programs work on."""


class Builder:
    """The graph tools and those that look into ComfyUI, by name, with arguments as they come.

    Args:
        environment: None where no ComfyUI is configured: then there are no tools.
    """

    def __init__(self, graphs: Workshop, environment: Environment | None, conversation_of: FindConversation) -> None:
        self._graphs = graphs
        self._environment = environment
        self._conversation_of = conversation_of

    def tools(self) -> Mapping[str, DeclaredTool]:
        """The tools that can be used."""
        return {**GRAPH_TOOLS, **ENVIRONMENT_TOOLS} if self._environment is not None else {}

    async def call(
        self, user_id: str, name: str, arguments: Any, on_progress: Callable[[Progress], None] = lambda _: None
    ) -> GraphAnswer:
        """Use a tool.

        Raises:
            NotFound: there is none of that name.
            InvalidArguments: they do not fit it.
            AtelierError: it cannot do what it is asked, and says why.
        """
        if name not in self.tools() or self._environment is None:
            raise NotFound(f"There is no tool named {name[:100]!r}.")
        parameters = checked(name, arguments)
        if name in ENVIRONMENT_TOOLS:
            return GraphAnswer(await self._environment.call(name, parameters))
        return await self._graphs.call(user_id, await self._conversation_of(user_id), parameters, on_progress)


def checked(name: str, arguments: Any) -> Any:
    """`arguments` as the parameters of a declared tool.

    Raises:
        InvalidArguments: they do not fit it.
        InvalidFrame: they hold what no store takes.
    """
    check_json(arguments, "the arguments", any_number=True)
    try:
        return DECLARED_TOOLS[name].parameters.model_validate(arguments)
    except ValidationError as error:
        faults = [
            {"path": "".join(f"/{part}" for part in fault["loc"]), "message": fault["msg"]} for fault in error.errors()
        ]
        raise InvalidArguments(name, faults) from error
