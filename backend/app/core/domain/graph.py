"""The workflow document of a conversation: what the graph tools work on where no canvas is connected."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from app.core.domain.errors import InvalidFrame
from app.core.domain.text import sentence

Link = tuple[int, int]
"""A node's number, and the number of one of its outputs."""

MAX_NODES = 500
MAX_NUMBER = 2**31 - 1
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

    def to_export(self) -> dict[str, Any]:
        """What an export of the conversation carries of it."""
        return self.model_dump(mode="json", include={"nodes", "last_id"})

    @classmethod
    def from_export(cls, raw: Mapping[str, Any]) -> "WorkflowDocument":
        """A workflow that an export carries.

        Raises:
            InvalidFrame: it is not one; the error says why.
        """
        try:
            document = cls.model_validate({"nodes": raw.get("nodes", {}), "last_id": raw.get("last_id", 0)})
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, ("workflow", *first["loc"])))
            raise InvalidFrame(sentence(f"{place} is not as an export has it: {first['msg']}")) from error
        numbers = document.nodes.keys()
        if len(numbers) > MAX_NODES:
            raise InvalidFrame(f"workflow has {len(numbers)} nodes; it may have {MAX_NODES}.")
        document.last_id = max(document.last_id, *numbers, 0)
        if not all(0 < number <= MAX_NUMBER for number in (*numbers, document.last_id or 1)):
            raise InvalidFrame(f"workflow.nodes has a number that is not from 1 to {MAX_NUMBER}.")
        for number, node in document.nodes.items():
            if lost := [link for link, (source, slot) in node.links.items() if source not in numbers or slot < 0]:
                raise InvalidFrame(f"workflow.nodes.{number}.links.{lost[0]} comes from nowhere.")
        return document
