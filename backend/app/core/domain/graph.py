"""The workflow document of a conversation: what the graph tools work on where no canvas is connected."""

from typing import Any

from pydantic import BaseModel, Field

Link = tuple[int, int]
"""A node's number, and the number of one of its outputs."""

MAX_NODES = 500
REMEMBERED = 64


class GraphNode(BaseModel):
    """A node of a workflow.

    Attributes:
        x, y: where its upper left corner is on a canvas, in pixels.
        is_placed: whether somebody said where; else it is moved as the workflow grows.
        values: what is set on it, by input.
        links: what is linked to its inputs, by input; a link goes before a value.
    """

    type: str
    title: str | None = None
    x: float = 0
    y: float = 0
    is_placed: bool = False
    values: dict[str, Any] = Field(default_factory=dict[str, Any])
    links: dict[str, Link] = Field(default_factory=dict[str, Link])


class WorkflowDocument(BaseModel):
    """A workflow that is being built.

    Attributes:
        last_id: the number of the node that was added last; numbers are not used again.
        revision: grows with every change, from 0 for one that was never stored.
        answered: what was answered to the newest calls, by their ids: a call that is repeated after a crash changes nothing.
    """

    nodes: dict[int, GraphNode] = Field(default_factory=dict[int, GraphNode])
    last_id: int = 0
    revision: int = 0
    answered: dict[str, str] = Field(default_factory=dict[str, str])

    def remember(self, call_id: str, answer: str) -> None:
        """Note what a call was answered, and forget the oldest."""
        self.answered[call_id] = answer
        for old in list(self.answered)[:-REMEMBERED]:
            del self.answered[old]
