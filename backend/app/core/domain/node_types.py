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
AUTOGROW = "COMFY_AUTOGROW_V3"
FRONTEND_WIDGETS = frozenset(
    {
        *("AUDIO_RECORD", "BOUNDING_BOX", "BOUNDING_BOXES", "COLOR", "COLORS", "COMPOSITOR", "CURVE", "IMAGECOMPARE"),
        *("LOAD_3D", "LOAD_3D_ANIMATION", "PREVIEW_3D", "WEBCAM"),
    }
)
"""Types for which the frontend has a widget of its own."""
_EMPTY = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False, "LOAD_3D": "", "IMAGECOMPARE": ["", ""]}
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
    kind = parts[0]
    return (
        isinstance(kind, list)
        or kind in WIDGET_TYPES | FRONTEND_WIDGETS
        or kind == DYNAMIC_COMBO
        or options.get("widgetType") in WIDGET_TYPES
    )


def choices_of(what: Any) -> list[Any] | None:
    """The values that a combo offers; None for an input that is no combo."""
    parts = cast("list[Any]", what) if isinstance(what, list) else [what]
    offered = cast("Any", parts[0] if isinstance(parts[0], list) else options_of(what).get("options"))
    return cast("list[Any]", offered) if isinstance(offered, list) else None


def kind_of(what: Any) -> Any:
    """The type of an input as it is declared: a name, or the list of a combo's values."""
    parts = cast("list[Any]", what) if isinstance(what, list) else []
    return parts[0] if parts else cast("Any", what)


def default_of(what: Any, without: Any = None) -> Any:
    """What a new node has in a widget, or `without` where it has nothing."""
    options = options_of(what)
    if "default" in options:
        return options["default"]
    if choices := choices_of(what):
        return choices[0]
    kind = options.get("widgetType") or (cast("list[Any]", what)[0] if isinstance(what, list) else what)
    return _EMPTY.get(kind, without) if isinstance(kind, str) else without


def has_control(name: str, kind: str, options: Mapping[str, Any]) -> bool:
    """Whether a widget has a second one behind it on the canvas that says what becomes of its value after a run.

    `name` is the full name: a `seed` among the inputs of an option has none unless it asks for one.
    """
    return bool(options.get("control_after_generate", name in SEEDS and kind == "INT"))


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
