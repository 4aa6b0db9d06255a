"""ComfyUI's official workflow templates, and what its own frontend makes of each of them."""

import gzip
import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from tests.comfyui.fake import RECORDED
from tests.servers import missing


@dataclass(frozen=True)
class Release:
    """A release of ComfyUI with its frontend and its templates.

    Attributes:
        package, version: the templates' package on PyPI.
    """

    comfyui: str
    frontend: str
    package: str
    version: str

    @property
    def record(self) -> Path:
        """The file with the fingerprints of what the frontend makes of the templates."""
        return RECORDED / f"templates.{self.comfyui}.json.gz"

    def __str__(self) -> str:
        return self.comfyui


RELEASES = (
    Release("0.33.0", "1.49.6", "comfyui-workflow-templates-json", "0.1.50"),
    Release("0.3.64", "1.27.10", "comfyui-workflow-templates", "0.1.95"),
)


@lru_cache
def object_info(version: str) -> dict[str, Any]:
    """The node list of a real ComfyUI, without its prose."""
    nodes = orjson.loads(gzip.decompress((RECORDED / f"object_info.{version}.json.gz").read_bytes()))
    prose = {"description": "", "category": "recorded", "python_module": "nodes"}
    return {name: {**prose, "name": name, "display_name": name, **node} for name, node in nodes.items()}


@lru_cache
def templates(release: Release) -> dict[str, dict[str, Any]]:
    """The workflows of a release's template package by name."""
    found = importlib.util.find_spec(release.package.replace("-", "_"))
    if found is None or found.origin is None:
        missing(f"The package {release.package}=={release.version}")
    folder = Path(found.origin).parent / "templates"
    documents = {path.stem: orjson.loads(path.read_bytes()) for path in sorted(folder.glob("*.json"))}
    return {
        name: one for name, one in documents.items() if isinstance(one, dict) and isinstance(one.get("nodes"), list)
    }


def recorded_prompts(release: Release) -> dict[str, list[str]]:
    """The fingerprints of the nodes in the prompt that the frontend makes of each template."""
    return orjson.loads(gzip.decompress(release.record.read_bytes()))


def fingerprints(prompt: Mapping[str, Any], nodes: Mapping[str, Any]) -> list[str]:
    """A hash for each node of a prompt: of its type, its values, and the nodes that are linked to it.

    Ids and titles do not count, nor inputs that the node type does not declare, which ComfyUI ignores.
    """
    known: dict[str, str] = {}

    def of(node_id: str) -> str:
        if node_id not in known:
            node = prompt[node_id]
            declared = nodes[node["class_type"]]["input"]
            names = {name for group in ("required", "optional") for name in declared.get(group) or ()}
            inputs = {
                name: [of(value[0]), value[1]] if isinstance(value, list) and value[0] in prompt else _plain(value)
                for name, value in node["inputs"].items()
                if name.partition(".")[0] in names
            }
            text = orjson.dumps([node["class_type"], inputs], option=orjson.OPT_SORT_KEYS)
            known[node_id] = hashlib.sha256(text).hexdigest()[:8]
        return known[node_id]

    return sorted(of(node_id) for node_id in prompt)


def _plain(value: Any) -> Any:
    """A value with whole numbers written in one way: JavaScript has one kind of number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value
