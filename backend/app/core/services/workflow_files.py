"""File names in workflows: those that callers and models give stay inside ComfyUI's own folders."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from app.core.domain.workflow import Workflow
from app.core.services.workflow_check import refused

_NAMES_A_FILE = re.compile(
    r"(?:^|_)(?:file|filename|filepath|path|dir|directory|folder|subfolder|image|video|audio|mask)(?:_|$)"
)
_DRIVE = re.compile(r"[A-Za-z]:")
_FOLDER = re.compile(r"\[(?:output|temp)\]\s*$")
_READ_OUTPUTS = ("LoadImageOutput",)
"""Nodes whose names end with `[output]`: that is the folder that they read."""

WHAT_FITS = "must be a name inside ComfyUI's own folders: relative, without '..', '\\' or a drive letter"


def check_files(workflow: Workflow) -> None:
    """Nothing, where no file name in `workflow` leaves ComfyUI's folders.

    Raises:
        WorkflowRefused: otherwise, with the faults of each node.
    """
    errors = {node_id: faults for node_id, node in workflow.items() if (faults := list(_faults(node)))}
    if errors:
        raise refused(workflow, errors)


def leaves_its_folder(node: Mapping[str, Any], name: str, value: Any) -> bool:
    """Whether the input `name` of a node names a file, and `value` one outside of the folder that it belongs into."""
    if _NAMES_A_FILE.search(name.lower()) is None:
        return False
    is_output_read = node.get("class_type") in _READ_OUTPUTS
    return any(_leaves(text, is_output_read=is_output_read) for text in _texts(value))


def _faults(node: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, value in node["inputs"].items():
        if leaves_its_folder(node, name, value):
            yield {"message": f"{name} {WHAT_FITS}, and not {str(value)[:100]!r}", "input": name}


def _leaves(text: str, *, is_output_read: bool) -> bool:
    return (
        text.startswith(("/", "~"))
        or _DRIVE.match(text) is not None
        or "\\" in text
        or "\0" in text
        or ".." in (part.strip() for part in text.split("/"))
        or (_FOLDER.search(text) is not None and not is_output_read)
    )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        items = cast("list[Any]", value) if isinstance(value, list) else cast("dict[str, Any]", value).values()
        for item in items:
            yield from _texts(item)
