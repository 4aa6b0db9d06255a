"""What tools of the server need by default."""

from collections.abc import Callable, Mapping
from typing import Any

from app.core.domain.declared_tools import DEFAULT_APPROVALS
from app.core.domain.tool import Approval
from app.core.domain.workflow import WorkflowTool

_NOTHING: Mapping[str, Any] = {}


class DefaultApprovals:
    """The defaults of the declared tools, of workflow tools that cost money, and of other MCP servers' tools.

    Args:
        node_types: what is known of ComfyUI's node types now.
    """

    def __init__(
        self,
        workflow_tools: Callable[[], Mapping[str, WorkflowTool]],
        node_types: Callable[[], Mapping[str, Any] | None],
        mcp: Callable[[], Mapping[str, Approval]],
    ) -> None:
        self._workflow_tools = workflow_tools
        self._node_types = node_types
        self._mcp = mcp
        self._read: tuple[Mapping[str, WorkflowTool], Mapping[str, Any]] | None = None
        self._paid: dict[str, Approval] = {}

    def __call__(self) -> Mapping[str, Approval]:
        """What each tool needs; those that are missing run at once."""
        return {**DEFAULT_APPROVALS, **self._that_cost_money(), **self._mcp()}

    def _that_cost_money(self) -> Mapping[str, Approval]:
        """Workflow tools with a node that ComfyUI bills: it calls those API nodes."""
        tools, info = self._workflow_tools(), self._node_types() or _NOTHING
        if self._read is None or self._read[0] is not tools or self._read[1] is not info:
            paid = {name for name, node in info.items() if isinstance(node, dict) and node.get("api_node")}  # pyright: ignore[reportUnknownMemberType]
            self._paid = {name: Approval.ASK for name, tool in tools.items() if paid & tool.node_types}
            self._read = tools, info
        return self._paid
