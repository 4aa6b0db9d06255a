"""A workflow against what a ComfyUI has installed: faults in words, before anything is sent."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from app.core.domain.node_types import Input, inputs_of
from app.core.domain.workflow import Workflow
from app.core.domain.workflow_errors import WorkflowRefused

_NUMBERS = {"INT": int, "FLOAT": float}
MAX_SHOWN = 8


def check(workflow: Workflow, object_info: Mapping[str, Any]) -> None:
    """Nothing, where every node is known and has what it needs.

    Raises:
        WorkflowRefused: otherwise, with the faults of each node.
    """
    errors = {node_id: faults for node_id in workflow if (faults := list(_faults(node_id, workflow, object_info)))}
    if errors:
        raise refused(workflow, errors)


def refused(workflow: Workflow, errors: Mapping[str, list[dict[str, Any]]]) -> WorkflowRefused:
    """The error for faults by node."""
    said = [f"{title(workflow, node)}: {fault['message']}" for node, faults in errors.items() for fault in faults]
    return WorkflowRefused("ComfyUI cannot run this workflow. " + "; ".join(said[:MAX_SHOWN]) + ".", dict(errors))


def title(workflow: Workflow, node_id: str) -> str:
    """A node as people know it: `KSampler (node 3)`."""
    node: dict[str, Any] = workflow.get(node_id) or {}
    return f"{node.get('class_type', 'a node')} (node {node_id})"


def _faults(node_id: str, workflow: Workflow, object_info: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    node = workflow[node_id]
    info: Any = object_info.get(node["class_type"])
    if info is None:
        yield {"message": f"this ComfyUI has no node type {node['class_type']}", "input": None}
        return
    known = {entry.name: entry for entry in inputs_of(info)}
    for name, entry in known.items():
        if entry.is_required and name not in node["inputs"] and "." not in name:
            yield {"message": f"{name} is missing", "input": name}
    for name, value in node["inputs"].items():
        if name in known and (fault := _fault(value, known[name], workflow)) is not None:
            yield {"message": f"{name} {fault}", "input": name}


def _fault(value: Any, declared: Input, workflow: Workflow) -> str | None:
    if is_link(value):
        return None if str(value[0]) in workflow else f"is linked to node {value[0]}, which the workflow does not have"
    if declared.kind == "COMBO" and declared.choices is not None:
        if declared.is_free or value in declared.choices:
            return None
        shown = ", ".join(map(str, declared.choices[:5]))
        return f"must be one of {shown}{' …' if len(declared.choices) > 5 else ''}, and not {value!r}"
    if declared.kind in _NUMBERS:
        return _number_fault(value, declared.kind, declared.options)
    return None


def _number_fault(value: Any, kind: str, options: Mapping[str, Any]) -> str | None:
    try:
        number = _NUMBERS[kind](value)
    except (TypeError, ValueError):
        return f"must be a number, and not {value!r}"
    low, high = options.get("min"), options.get("max")
    if low is not None and number < low:
        return f"must be ≥ {low}"
    if high is not None and number > high:
        return f"must be ≤ {high}"
    return None


def is_link(value: Any) -> bool:
    """Whether an input's value is a link to a node's output."""
    if not isinstance(value, list):
        return False
    parts = cast("list[Any]", value)
    return (
        len(parts) == 2
        and isinstance(parts[0], str | int)
        and isinstance(parts[1], int)
        and not isinstance(parts[1], bool)
    )
