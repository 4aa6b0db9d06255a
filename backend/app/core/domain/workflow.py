"""Workflows of ComfyUI as tools: what a definition says, and the workflow with a caller's values in it.

A workflow is in ComfyUI's API format: node ids to `{class_type, inputs}`; an input is a value, or a link `[node, output]`.
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, cast

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from app.core.domain.program import program

Workflow = dict[str, dict[str, Any]]
MAX_SEED = 2**53 - 1
TOOL_NAME = r"^[a-zA-Z0-9_-]{1,64}$"
IMAGE_NODES = ("LoadImage", "LoadImageMask", "LoadImageOutput")
MEDIA_INPUTS = {**dict.fromkeys(IMAGE_NODES, "image"), "LoadAudio": "audio", "LoadVideo": "file"}
"""The inputs that take the name of a file, by the classes of nodes that load one."""


class DefinitionError(ValueError):
    """A tool's definition that cannot be, with the place of the fault.

    Attributes:
        place: where in the definition.
    """

    def __init__(self, place: str, message: str) -> None:
        super().__init__(f"{place}: {message}" if place else message)
        self.place = place
        self.message = message


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Mapped(_Strict):
    """A place in the workflow.

    Attributes:
        node: a node's id, or a class that stands in the workflow once.
        attribute: an input's name (`text`), or a path from the node on (`inputs.text`).
    """

    node: Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)]
    attribute: Annotated[str, Field(min_length=1)]


class ToolField(_Strict):
    """A parameter of a workflow tool, or, with `constant`, a value that callers do not see."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    type: Literal["string", "integer", "number", "boolean", "array", "object"] = "string"
    description: str = ""
    required: bool = False
    default: Any = None
    constant: Any = None
    enum: list[Any] | None = None
    minimum: float | None = None
    maximum: float | None = None
    generator: Literal["seed", "random"] | None = None
    mapping: list[Mapped]

    @model_validator(mode="before")
    @classmethod
    def _one_mapping_is_a_list(cls, value: Any) -> Any:
        fields = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        if isinstance(fields.get("mapping"), dict):
            return {**fields, "mapping": [fields["mapping"]]}
        return cast("Any", value)

    def to_schema(self) -> dict[str, Any]:
        """The parameter's JSON Schema."""
        schema: dict[str, Any] = {"type": self.type}
        if self.description:
            schema["description"] = self.description
        if self.enum is not None:
            schema["enum"] = self.enum
        for name in ("minimum", "maximum"):
            if (limit := getattr(self, name)) is not None:
                schema[name] = int(limit) if float(limit).is_integer() else limit
        if "default" in self.model_fields_set:
            schema["default"] = self.default
        return schema

    @property
    def is_constant(self) -> bool:
        """Whether the value stands here, and no caller gives it."""
        return "constant" in self.model_fields_set

    def generate(self, chance: random.Random) -> Any:
        """A value for a caller who gave none."""
        if self.generator == "seed":
            low, high = self.minimum or 0, MAX_SEED if self.maximum is None else self.maximum
            return chance.randint(int(low), int(high))
        low, high = self.minimum or 0, self.maximum or 0
        return chance.randint(int(low), int(high)) if self.type == "integer" else chance.uniform(low, high)


class ToolDefinition(_Strict):
    """A tool as a config file defines it.

    Attributes:
        workflow: the workflow's file; the tool's name with `.json` when left out.
    """

    name: Annotated[str, Field(pattern=TOOL_NAME)]
    description: str = ""
    fields: list[ToolField] = Field(default_factory=list[ToolField])
    workflow: str | None = None

    @property
    def file(self) -> str:
        """The name of the workflow's file."""
        return self.workflow or f"{self.name}.json"


class WorkflowTool:
    """A tool whose definition fits its workflow.

    Attributes:
        input_schema: the JSON Schema of its parameters.

    Raises:
        DefinitionError: it does not fit; the error names the place.
    """

    def __init__(self, definition: ToolDefinition, workflow: Any) -> None:
        self.definition = definition
        checked = check_workflow(workflow)
        self._targets: list[tuple[ToolField, list[tuple[str, ...]]]] = []
        names: set[str] = set()
        for number, one in enumerate(definition.fields):
            place = f"fields[{number}] ({one.name})"
            if one.name in names:
                raise DefinitionError(place, "a field of this name stands above already.")
            names.add(one.name)
            _check_field(one, place)
            self._targets.append(
                (one, [_target(m, checked, f"{place}.mapping[{i}]") for i, m in enumerate(one.mapping)])
            )
        self._json = orjson.dumps(checked)
        self.input_schema = _schema_of(definition.fields)

    @property
    def name(self) -> str:
        """What callers call it."""
        return self.definition.name

    @property
    def description(self) -> str:
        """What it is for."""
        return self.definition.description

    @property
    def workflow(self) -> Workflow:
        """The workflow as it stands in its file."""
        return orjson.loads(self._json)

    @cached_property
    def node_types(self) -> frozenset[str]:
        """The classes of its nodes."""
        return frozenset(node["class_type"] for node in self.workflow.values())

    @cached_property
    def media_places(self) -> dict[str, list[tuple[str, str]]]:
        """The parameters that are files (images, films, sounds), with the nodes that load them and the names of their inputs."""
        workflow = self.workflow
        places = {
            one.name: [
                (path[0], path[-1])
                for path in targets
                if path[1:] == ("inputs", MEDIA_INPUTS.get(workflow[path[0]]["class_type"]))
            ]
            for one, targets in self._targets
        }
        return {name: found for name, found in places.items() if found}

    @cached_property
    def image_places(self) -> dict[str, list[tuple[str, str]]]:
        """Those of the `media_places` that are images."""
        workflow = self.workflow
        return {
            name: places
            for name, places in self.media_places.items()
            if all(workflow[node]["class_type"] in IMAGE_NODES for node, _ in places)
        }

    def places(self, names: Iterable[str]) -> Iterator[tuple[str, str, str]]:
        """Where parameters go: name, node, and the name of what is set there."""
        wanted = set(names)
        for one, targets in self._targets:
            if one.name in wanted and not one.is_constant:
                yield from ((one.name, path[0], path[-1]) for path in targets)

    def fill(self, arguments: Mapping[str, Any], chance: random.Random) -> Workflow:
        """The workflow with `arguments` in it, which fit the schema; what they leave out is generated or has its default.

        What has neither stays as the workflow has it.
        """
        workflow = self.workflow
        for one, targets in self._targets:
            if one.is_constant:
                value = one.constant
            elif one.name in arguments:
                value = arguments[one.name]
            elif one.generator is not None:
                value = one.generate(chance)
            elif "default" in one.model_fields_set:
                value = one.default
            else:
                continue
            for path in targets:
                place: Any = workflow
                for step in path[:-1]:
                    place = place[step]
                place[path[-1]] = value
        return workflow


def check_workflow(workflow: Any) -> Workflow:
    """`workflow`, if it is one in API format.

    Raises:
        DefinitionError: it is not.
    """
    if not isinstance(workflow, dict) or not workflow:
        raise DefinitionError("", "the workflow is not in ComfyUI's API format (node ids with class_type and inputs).")
    nodes = cast("dict[str, Any]", workflow)
    if isinstance(nodes.get("nodes"), list):
        raise DefinitionError(
            "",
            "the workflow is in the format of ComfyUI's canvas. "
            f"Import it with: {program(for_clients=True)} workflow import FILE",
        )
    for node_id, node in nodes.items():
        fields = cast("dict[str, Any]", node) if isinstance(node, dict) else {}
        if not isinstance(fields.get("class_type"), str) or not isinstance(fields.get("inputs", {}), dict):
            raise DefinitionError(f"node {node_id}", "must be an object with class_type and inputs.")
    return {node_id: {"inputs": {}, **node} for node_id, node in nodes.items()}


def _schema_of(fields: Sequence[ToolField]) -> dict[str, Any]:
    shown = [one for one in fields if not one.is_constant]
    schema: dict[str, Any] = {"type": "object", "properties": {one.name: one.to_schema() for one in shown}}
    if required := [one.name for one in shown if one.required]:
        schema["required"] = required
    return schema


def _check_field(one: ToolField, place: str) -> None:
    if not one.mapping:
        raise DefinitionError(f"{place}.mapping", "names no place in the workflow.")
    if one.minimum is not None and one.maximum is not None and one.minimum > one.maximum:
        raise DefinitionError(f"{place}.minimum", "is greater than the maximum.")
    if one.generator is not None and one.type not in ("integer", "number"):
        raise DefinitionError(f"{place}.generator", f"makes numbers, and the type is {one.type}.")
    if one.generator == "random" and (one.minimum is None or one.maximum is None):
        raise DefinitionError(f"{place}.generator", "'random' needs a minimum and a maximum.")


def _path(attribute: str, inputs: Mapping[str, Any]) -> tuple[str, ...]:
    """The steps that an attribute names; an input's own name may have dots, as those of dynamic inputs have."""
    name = attribute.removeprefix("inputs.")
    if "." not in attribute or name in inputs:
        return ("inputs", name)
    return tuple(attribute.split("."))


def _target(mapped: Mapped, workflow: Workflow, place: str) -> tuple[str, ...]:
    """The path to what a mapping names, from the workflow on."""
    node_id = mapped.node
    if node_id not in workflow:
        of_class = [key for key, node in workflow.items() if node["class_type"] == mapped.node]
        if not of_class:
            raise DefinitionError(f"{place}.node", f"the workflow has no node {mapped.node!r}, by id or by class.")
        if len(of_class) > 1:
            raise DefinitionError(
                f"{place}.node",
                f"{len(of_class)} nodes are of the class {mapped.node!r} (ids {', '.join(of_class)}): name one by its id.",
            )
        node_id = of_class[0]
    path = _path(mapped.attribute, workflow[node_id]["inputs"])
    step: Any = workflow[node_id]
    for depth, name in enumerate(path[:-1]):
        step = cast("dict[str, Any]", step).get(name) if isinstance(step, dict) else None
        if not isinstance(step, dict):
            raise DefinitionError(
                f"{place}.attribute", f"node {node_id} has no {'.'.join(path[: depth + 1])!r} to set in."
            )
    if not path[-1]:
        raise DefinitionError(f"{place}.attribute", "ends with a dot.")
    return (node_id, *path)
