"""File names in workflows that would leave ComfyUI's folders."""

from typing import Any

import pytest

from app.core.domain.workflow_errors import WorkflowRefused
from app.core.services.workflow_files import check_files


def workflow(class_type: str, **inputs: Any) -> dict[str, dict[str, Any]]:
    return {"1": {"class_type": class_type, "inputs": inputs}}


@pytest.mark.parametrize(
    "name",
    [
        *("../../../../etc/passwd", "a/../../b.png", ".. /x", "/etc/passwd", "~/.ssh/id", "C:/x.png", "c:x.png"),
        *("..\\x.png", "a\\b.png", "x.png [output]", "x.png[temp] ", "x\0.png"),
    ],
)
@pytest.mark.parametrize(
    ("node", "input_name"),
    [
        *(("LoadImage", "image"), ("SaveImage", "filename_prefix"), ("LoadAudio", "audio")),
        *(("Any", "file_path"), ("Any", "outputDir_folder")),
    ],
)
def test_a_name_outside_is_refused(node: str, input_name: str, name: str):
    with pytest.raises(WorkflowRefused, match=f"{input_name} must be a name inside"):
        check_files(workflow(node, **{input_name: name}))


@pytest.mark.parametrize(
    ("node", "inputs"),
    [
        ("LoadImage", {"image": "clipspace/mask 1.png [input]"}),
        ("LoadImageOutput", {"image": "made_00001_.png [output]"}),
        ("SaveImage", {"filename_prefix": "2024/%date:yyyy-MM-dd%/fox..final"}),
        ("CLIPTextEncode", {"text": "../ a path in C:\\words"}),
        ("SaveImage", {"images": ["8", 0]}),
    ],
)
def test_a_name_inside_passes(node: str, inputs: dict[str, Any]):
    check_files(workflow(node, **inputs))


def test_a_list_of_names_is_looked_through():
    with pytest.raises(WorkflowRefused):
        check_files(workflow("Any", files_path=["a.png", {"deep": "../b.png"}]))
