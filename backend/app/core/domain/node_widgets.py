"""The widgets of a node on ComfyUI's canvas: which there are, in which order, and which values a workflow file gives them.

A file keeps widget values as a list without names, so the list can only be read with the widgets that the frontend makes of a
node type. The rules are those of comfyui-frontend-package 1.27 to 1.58, and tests compare them with the real frontend.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from app.core.domain.node_types import (
    AUTOGROW,
    DYNAMIC_COMBO,
    Fields,
    default_of,
    has_control,
    is_widget,
    kind_of,
    options_of,
)

MISSING = object()
"""The value of a widget that the file says nothing about."""


@dataclass(frozen=True, slots=True)
class Widget:
    """A widget of a node.

    Attributes:
        name: its full name, such as `resize_type.width` for a widget of a chosen option.
        default: what a new node has here, or `MISSING`.
        is_kept: whether a file keeps its value in the list.
        is_sent: whether ComfyUI is sent its value.
        options: for a dynamic combo, the inputs of each option by the option's key.
        declared: the input as the node type declares it; None where the frontend adds it.
    """

    name: str
    default: Any = MISSING
    is_kept: bool = True
    is_sent: bool = True
    options: Mapping[Any, Fields] | None = None
    declared: Any = None


_FRONTEND_ONLY: Mapping[str, Mapping[str, tuple[Widget, ...]]] = {
    "Load3D": {
        "model_file": tuple(
            Widget(name, is_sent=False) for name in ("upload 3d model", "upload extra resources", "clear")
        )
    },
    "CustomCombo": {"choice": (Widget("index", 0),)},
}
"""Widgets that the frontend adds behind an input of its own accord, where others follow. Those at a node's end shift nothing."""


def widget_values(class_type: str, info: Mapping[str, Any], values: Any) -> Iterator[tuple[str, Any]]:
    """The values that ComfyUI is sent for a node's widgets, by name, when nothing is linked to them.

    Args:
        values: the `widgets_values` of a file, a list in the order of the widgets or an object by name. What is missing
            there gets the declared default.
    """
    declared: Fields = info.get("input") or {}
    if isinstance(values, dict):
        by_name = cast("Fields", values)

        def named(widget: Widget) -> Any:
            return by_name.get(widget.name, MISSING)

        yield from _sent(_assigned(class_type, _widgets(declared, ""), named))
        return
    left = iter(_without_forced(declared, cast("list[Any]", values) if isinstance(values, list) else []))

    def next_kept(widget: Widget) -> Any:
        return next(left, MISSING) if widget.is_kept else MISSING

    yield from _sent(_assigned(class_type, _widgets(declared, ""), next_kept))
    if class_type == "CustomCombo":
        yield from ((f"option{number}", value) for number, value in enumerate(left, 1))


def declared_widgets(class_type: str, info: Mapping[str, Any], inputs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The widgets of a node in API format by name, each as its node type declares it."""

    def given(widget: Widget) -> Any:
        return inputs.get(widget.name, MISSING)

    for widget, _ in _assigned(class_type, _widgets(info.get("input") or {}, ""), given):
        yield widget.name, widget.declared


def _sent(assigned: Iterator[tuple[Widget, Any]]) -> Iterator[tuple[str, Any]]:
    """What ComfyUI is sent, by name."""
    return ((widget.name, value) for widget, value in assigned if widget.is_sent and value is not MISSING)


def _without_forced(declared: Fields, values: list[Any]) -> list[Any]:
    """`values` without those of inputs that were widgets in the frontend that wrote the file and are sockets now."""
    is_forced: list[bool] = []
    for group in ("required", "optional"):
        listed: Fields = declared.get(group) or {}
        for name, what in listed.items():
            options = options_of(what)
            forced = bool(options.get("forceInput"))
            if forced or is_widget(what):
                is_forced += [forced, False] if has_control(name, str(kind_of(what)), options) else [forced]
    if len(is_forced) != len(values):
        return values
    return [value for value, forced in zip(values, is_forced, strict=True) if not forced]


def _assigned(
    class_type: str, widgets: Iterator[Widget], take: Callable[[Widget], Any]
) -> Iterator[tuple[Widget, Any]]:
    """The widgets with their values, those of the chosen options among them."""
    for widget in widgets:
        value = take(widget)
        if value is MISSING:
            value = widget.default
        yield widget, value
        if widget.options is not None:
            chosen = widget.options.get(value) if isinstance(value, str | int | bool) else None
            yield from _assigned(class_type, _widgets(chosen or {}, f"{widget.name}."), take)
        yield from _assigned(class_type, iter(_FRONTEND_ONLY.get(class_type, {}).get(widget.name, ())), take)


def _widgets(declared: Fields, prefix: str) -> Iterator[Widget]:
    """The widgets of declared inputs in their order, without those of options that may be chosen."""
    for group in ("required", "optional"):
        listed: Fields = declared.get(group) or {}
        for name, what in listed.items():
            kind = kind_of(what)
            if kind == AUTOGROW:
                yield from _grown(f"{prefix}{name}", options_of(what).get("template") or {})
            elif is_widget(what):
                yield from _widget(f"{prefix}{name}", what, kind)


def _widget(name: str, what: Any, kind: Any) -> Iterator[Widget]:
    options = options_of(what)
    if kind == DYNAMIC_COMBO:
        offered = [cast("Fields", one) for one in options.get("options") or ()]
        first = offered[0].get("key") if offered else MISSING
        chosen = {one.get("key"): cast("Fields", one.get("inputs") or {}) for one in offered}
        yield Widget(name, options.get("default", first), options=chosen, declared=what)
        return
    yield Widget(name, default_of(what, MISSING), is_kept=kind != "IMAGECOMPARE", declared=what)
    if has_control(name, str(kind), options):
        yield Widget("control_after_generate", is_sent=False)


def _grown(name: str, template: Fields) -> Iterator[Widget]:
    """The widgets of an input that grows with what is linked to it: those that are always there."""
    inputs: Fields = template.get("input") or {}
    for group in ("required", "optional"):
        listed: Fields = inputs.get(group) or {}
        for inner, what in listed.items():
            if is_widget(what):
                names: list[str] = template.get("names") or [
                    f"{template.get('prefix') or inner}{n}" for n in range(template.get("min") or 1)
                ]
                for one in names[: template.get("min") or 1]:
                    yield from _widget(f"{name}.{one}", what, kind_of(what))
