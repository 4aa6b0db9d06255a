"""A workflow checked against what a ComfyUI has installed, before anything is sent.

Only what ComfyUI refuses for certain is a fault here. What depends on a node's own code, such as the values of a list or the
inputs of dynamic types, is left to ComfyUI, whose answer is reported in words.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, cast

from app.core.domain.node_types import AUTOGROW, DYNAMIC_COMBO, inputs_of
from app.core.domain.workflow import Workflow
from app.core.domain.workflow_errors import WorkflowRefused

MAX_SHOWN = 8
_DYNAMIC = frozenset({AUTOGROW, DYNAMIC_COMBO})


def check(workflow: Workflow, object_info: Mapping[str, Any]) -> None:
    """Nothing, where ComfyUI can run at least one output.

    Raises:
        WorkflowRefused: otherwise, with the faults of each node.
    """
    unknown = {
        node_id: [_fault(f"this ComfyUI has no node type {node['class_type']}", None)]
        for node_id, node in workflow.items()
        if node["class_type"] not in object_info
    }
    if unknown:
        raise refused(workflow, unknown)
    outputs = outputs_of(workflow, object_info)
    if not outputs:
        raise WorkflowRefused("ComfyUI cannot run this workflow: no node produces an output, such as Save Image.")
    faults = {
        node_id: found for node_id in workflow if (found := list(_faults(workflow[node_id], workflow, object_info)))
    }
    if all(leading_to(workflow, [output]) & faults.keys() for output in outputs):
        live = leading_to(workflow, outputs)
        raise refused(workflow, {node_id: found for node_id, found in faults.items() if node_id in live})


def outputs_of(workflow: Workflow, object_info: Mapping[str, Any]) -> list[str]:
    """The nodes that produce an output."""
    return [key for key, node in workflow.items() if (object_info.get(node["class_type"]) or {}).get("output_node")]


def leading_to(workflow: Workflow, nodes: Iterable[str]) -> set[str]:
    """These nodes and all that they need: what ComfyUI runs for them."""
    waiting, needed = list(nodes), set[str]()
    while waiting:
        node_id = waiting.pop()
        if node_id in needed or node_id not in workflow:
            continue
        needed.add(node_id)
        waiting += [str(value[0]) for value in workflow[node_id]["inputs"].values() if is_link(value)]
    return needed


def partial_outputs(workflow: Workflow, outputs: Collection[str], errors: Mapping[str, list[dict[str, Any]]]) -> str:
    """What to say of a workflow of which ComfyUI runs some outputs only."""
    bad = [output for output in outputs if leading_to(workflow, [output]) & errors.keys()]
    return f"{len(bad)} of {len(outputs)} outputs could not run: {_said(workflow, errors)}."


def refused(workflow: Workflow, errors: Mapping[str, list[dict[str, Any]]]) -> WorkflowRefused:
    """The error for faults by node."""
    return WorkflowRefused(f"ComfyUI cannot run this workflow. {_said(workflow, errors)}.", dict(errors))


def title(workflow: Workflow, node_id: str) -> str:
    """A node as people know it: `KSampler (node 3)`."""
    node: dict[str, Any] = workflow.get(node_id) or {}
    return f"{node.get('class_type', 'a node')} (node {node_id})"


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


def _said(workflow: Workflow, errors: Mapping[str, list[dict[str, Any]]]) -> str:
    said = [f"{title(workflow, node)}: {fault['message']}" for node, faults in errors.items() for fault in faults]
    return "; ".join(said[:MAX_SHOWN])


def _fault(message: str, name: str | None) -> dict[str, Any]:
    return {"message": message, "input": name}


def _faults(node: Mapping[str, Any], workflow: Workflow, object_info: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    inputs: dict[str, Any] = node["inputs"]
    for declared in inputs_of(object_info[node["class_type"]]):
        if declared.is_required and declared.name not in inputs and declared.kind not in _DYNAMIC:
            yield _fault(f"{declared.name} is missing", declared.name)
    for name, value in inputs.items():
        if is_link(value) and str(value[0]) not in workflow:
            yield _fault(f"{name} is linked to node {value[0]}, which the workflow does not have", name)
