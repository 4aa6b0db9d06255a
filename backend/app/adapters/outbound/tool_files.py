"""Workflow tools in files: `config/*.json` say what they are, `workflows/*.json` what they run."""

import logging
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import orjson
from pydantic import ValidationError

from app.core.domain.workflow import DefinitionError, ToolDefinition, Workflow, WorkflowTool
from app.core.ports import LoadFault

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
MAX_FILE_BYTES = 16 * 1024 * 1024


class ToolFiles:
    """An `IToolRepository` and `IWorkflowRepository` over two folders. They need not exist.

    Args:
        reserved: names that no workflow may take: those of the agent's other tools.
    """

    def __init__(
        self, config: Path, workflows: Path, reserved: Callable[[], Collection[str]] = tuple[str, ...]
    ) -> None:
        self._config = config
        self._workflows = workflows
        self._reserved = reserved
        self._seen: Any = None
        self._look_again_at = 0.0
        self._tools: dict[str, WorkflowTool] = {}
        self._faults: list[LoadFault] = []

    def tools(self) -> Mapping[str, WorkflowTool]:
        self._look()
        return self._tools

    def faults(self) -> Sequence[LoadFault]:
        self._look()
        return self._faults

    def load(self, file: str) -> Any:
        path = self._workflows / file
        if Path(file).name != file or not file.endswith(".json"):
            raise DefinitionError("workflow", f"{file!r} is not the name of a JSON file in the folder of workflows.")
        try:
            return _read(path)
        except FileNotFoundError as error:
            raise DefinitionError("workflow", f"there is no file {file} in the folder of workflows.") from error
        except OSError as error:
            raise DefinitionError("workflow", f"{file} cannot be read ({error.strerror}).") from error
        except ValueError as error:
            raise DefinitionError("workflow", f"{file} is not JSON: {error}.") from error

    def add(self, name: str, workflow: Workflow, definition: Mapping[str, Any]) -> None:
        WorkflowTool(ToolDefinition.model_validate(definition), workflow)
        config, body = self._config / f"{name}.json", self._workflows / f"{name}.json"
        if name in self.tools() or config.exists() or body.exists():
            raise DefinitionError("name", f"there is a tool or a file named {name} already. Choose another name.")
        for path, document in ((body, workflow), (config, [definition])):
            path.parent.mkdir(parents=True, exist_ok=True)
            half_written = path.with_suffix(f".{os.getpid()}")
            half_written.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
            os.link(half_written, path)  # fails where somebody was quicker
            half_written.unlink()
        self._look_again_at = 0.0

    def _look(self) -> None:
        """Load anew what has changed."""
        if time.monotonic() < self._look_again_at:
            return
        self._look_again_at = time.monotonic() + LOOK_SECONDS
        seen = (_state(self._config), _state(self._workflows))
        if seen != self._seen:
            self._seen = seen
            self._load_all()

    def _load_all(self) -> None:
        tools: dict[str, WorkflowTool] = {}
        faults: list[LoadFault] = []
        reserved = set(self._reserved())
        for path in sorted(self._config.glob("*.json")) if self._config.is_dir() else ():
            for raw in self._entries(path, faults):
                name = _name_of(raw)
                try:
                    definition = ToolDefinition.model_validate(raw)
                    if definition.name in tools or definition.name in reserved:
                        raise DefinitionError("name", f"another tool is named {definition.name} already.")
                    tools[definition.name] = WorkflowTool(definition, self.load(definition.file))
                except DefinitionError as error:
                    faults.append(LoadFault(path.name, name, error.place, error.message))
                except ValidationError as error:
                    faults += [LoadFault(path.name, name, _place(e["loc"]), e["msg"]) for e in error.errors()]
        for fault in faults:
            logger.warning("%s, tool %s: %s: %s", fault.file, fault.tool or "?", fault.place or "-", fault.message)
        if tools or self._tools:
            logger.info("%d workflow tools are on offer", len(tools))
        self._tools, self._faults = tools, faults

    def _entries(self, path: Path, faults: list[LoadFault]) -> list[Any]:
        """The definitions in a file: an array of them, or an object with `tools`."""
        try:
            document = _read(path)
        except OSError as error:
            faults.append(LoadFault(path.name, None, "", f"cannot be read ({error.strerror})."))
            return []
        except ValueError as error:
            faults.append(LoadFault(path.name, None, "", f"is not JSON: {error}."))
            return []
        entries: Any = cast("dict[str, Any]", document).get("tools") if isinstance(document, dict) else document
        if not isinstance(entries, list):
            faults.append(LoadFault(path.name, None, "", "must be an array of tools, or an object with 'tools'."))
            return []
        return cast("list[Any]", entries)


def _read(path: Path) -> Any:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"larger than {MAX_FILE_BYTES:,} bytes")
    return orjson.loads(path.read_bytes())


def _state(folder: Path) -> list[tuple[str, int, int]]:
    """What is in a folder, so that a change shows."""
    try:
        with os.scandir(folder) as entries:
            stats = [(entry.name, entry.stat()) for entry in entries if entry.name.endswith(".json")]
    except OSError:
        return []
    return sorted((name, status.st_mtime_ns, status.st_size) for name, status in stats)


def _name_of(raw: Any) -> str | None:
    name: Any = cast("dict[str, Any]", raw).get("name") if isinstance(raw, dict) else None
    return name if isinstance(name, str) else None


def _place(location: Sequence[int | str]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
