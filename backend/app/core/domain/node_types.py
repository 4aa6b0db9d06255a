"""ComfyUI's node types, as its `/object_info` tells of them, for those who build workflows.

A node's inputs are its sockets, in the order in which they are declared, and after them its widgets, which can be linked too;
that is the order of the slots on ComfyUI's canvas (seen with comfyui-frontend-package 1.27 and 1.58).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

ObjectInfo = Mapping[str, Any]
Fields = dict[str, Any]
WIDGET_TYPES = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
SEEDS = ("seed", "noise_seed")
ANY = "*"


def options_of(what: Any) -> Fields:
    """The options of an input as it is declared: `[type, options]`."""
    parts = cast("list[Any]", what) if isinstance(what, list) else []
    return cast("Fields", parts[1]) if len(parts) > 1 and isinstance(parts[1], dict) else {}


def is_widget(what: Any) -> bool:
    """Whether an input as it is declared is set on the node itself."""
    parts = cast("list[Any]", what) if isinstance(what, list) else [what]
    options = options_of(what)
    if options.get("forceInput") or options.get("rawLink"):
        return False
    return isinstance(parts[0], list) or parts[0] in WIDGET_TYPES or parts[0] == DYNAMIC_COMBO or "default" in options


def has_control(name: str, kind: str, options: Mapping[str, Any]) -> bool:
    """Whether a widget has a second one behind it on the canvas that says what becomes of its value after a run."""
    return bool(options.get("control_after_generate")) or (name in SEEDS and kind == "INT")


def has_button(options: Mapping[str, Any]) -> bool:
    """Whether a widget has a button behind it on the canvas, to upload a file."""
    return any(options.get(f"{what}_upload") for what in ("image", "video", "audio"))


@dataclass(frozen=True, slots=True)
class Input:
    """An input of a node type.

    Attributes:
        kind: the type of what it takes, `COMBO` for one of `choices`.
        is_widget: whether it is set on the node itself, where nothing is linked to it.
    """

    name: str
    kind: str
    options: Mapping[str, Any]
    choices: tuple[Any, ...] | None
    is_required: bool
    is_widget: bool

    @property
    def default(self) -> Any:
        """What a new node has here; None where it has nothing."""
        if "default" in self.options:
            return self.options["default"]
        if self.choices:
            return self.choices[0]
        return {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}.get(self.kind)

    @property
    def is_free(self) -> bool:
        """Whether values beyond `choices` may be right: what was uploaded since, or nothing is listed."""
        return not self.choices or bool(self.options.get("image_upload") or self.options.get("multiselect"))


@dataclass(frozen=True)
class NodeType:
    """A class of nodes."""

    name: str
    info: Mapping[str, Any]

    @property
    def title(self) -> str:
        """Its name for people."""
        return str(self.info.get("display_name") or self.name)

    @property
    def is_output(self) -> bool:
        """Whether its nodes give something out of a workflow."""
        return bool(self.info.get("output_node"))

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        """The slots that take something: sockets, then widgets."""
        return tuple(sorted(inputs_of(self.info), key=lambda one: one.is_widget))  # a stable sort

    @cached_property
    def widgets(self) -> tuple[Input, ...]:
        """The inputs that are set on the node itself."""
        return tuple(one for one in self.inputs if one.is_widget)

    @cached_property
    def outputs(self) -> tuple[tuple[str, str], ...]:
        """The slots that give something: name and type."""
        kinds: list[Any] = self.info.get("output") or []
        names: list[Any] = self.info.get("output_name") or kinds
        return tuple(
            (str(names[place]) if place < len(names) else str(kind), _kind(kind)) for place, kind in enumerate(kinds)
        )


def fits(source: str, target: str) -> bool:
    """Whether what a slot of type `source` gives can go into one of type `target`; either may list types with commas."""
    givers, takers = ({part.strip().upper() for part in kind.split(",")} for kind in (source, target))
    return ANY in givers or ANY in takers or bool(givers & takers)


def inputs_of(info: Mapping[str, Any]) -> Iterator[Input]:
    """The inputs of a node type, in the order in which they are declared."""
    declared: Fields = info.get("input") or {}
    for group in ("required", "optional"):
        listed: Fields = declared.get(group) or {}
        for name, what in listed.items():
            parts = cast("list[Any]", what) if isinstance(what, list) else [what]
            options = options_of(what)
            first: Any = parts[0] if parts else ANY
            offered = cast("Any", first if isinstance(first, list) else options.get("options"))
            choices: tuple[Any, ...] | None = tuple(cast("list[Any]", offered)) if isinstance(offered, list) else None
            if first == DYNAMIC_COMBO and choices:
                choices = tuple(cast("Fields", one).get("key") for one in choices)
            yield Input(name, _kind(first), options, choices, group == "required", is_widget(what))


def _kind(declared: Any) -> str:
    return "COMBO" if isinstance(declared, list) else str(declared)
