"""Changes to a workflow document, checked against what ComfyUI has installed: each is made whole or not at all."""

import copy
import difflib
from collections.abc import Iterator, Mapping
from typing import Any, cast

from app.core.domain.errors import InvalidFrame
from app.core.domain.graph import MAX_NODES, GraphNode, WorkflowDocument
from app.core.domain.node_types import Input, NodeType, ObjectInfo, fits, has_button, has_control
from app.core.domain.workflow import DefinitionError, Workflow, check_workflow
from app.core.services.canvas import from_canvas, is_canvas
from app.core.services.workflow_check import is_link

Fields = dict[str, Any]
COLUMN, ROW, LEFT, TOP = 340, 420, 40, 60
COLUMNS = 4
WIDTH = 270
MAX_SHOWN = 40


class GraphError(InvalidFrame):
    """A change that cannot be made. The workflow is as it was; the error says what could be done."""


class GraphEditor:
    """The graph tools over one document.

    Args:
        object_info: ComfyUI's node types by class.
    """

    def __init__(self, document: WorkflowDocument, object_info: ObjectInfo) -> None:
        self._document = document
        self._info = object_info

    # --- changes

    def add_node(self, node_type: str, position: tuple[float, float] | None = None) -> Fields:
        """Add a node with its defaults; its number, slots and values.

        Raises:
            GraphError: there is no such type, or the workflow is full.
        """
        known = self._type(node_type)
        if len(self._document.nodes) >= MAX_NODES:
            raise GraphError(f"The workflow has {MAX_NODES} nodes, which is as many as it may have.")
        self._document.last_id += 1
        values = {one.name: one.default for one in known.widgets if one.default is not None}
        x, y = position or self._free_place()
        node = GraphNode(type=node_type, x=x, y=y, is_placed=position is not None, values=values)
        self._document.nodes[self._document.last_id] = node
        return {"nodeId": self._document.last_id, "type": node_type, **_slots(known), "widgets": values}

    def remove_node(self, node_id: int) -> Fields:
        """Remove a node, and the links to it.

        Raises:
            GraphError: there is no such node.
        """
        removed = self._node(node_id)
        del self._document.nodes[node_id]
        for node in self._document.nodes.values():
            node.links = {name: link for name, link in node.links.items() if link[0] != node_id}
        return {"removed": node_id, "type": removed.type}

    def connect(self, source_id: int, source_slot: int, target_id: int, target_slot: int) -> Fields:
        """Link an output to an input; what was linked there before is not any more.

        Raises:
            GraphError: a node or slot does not exist, the types do not fit, or the workflow would run in a circle.
        """
        source, target = self._node(source_id), self._node(target_id)
        outputs, inputs = self._type(source.type).outputs, self._type(target.type).inputs
        if source_slot >= len(outputs):
            raise GraphError(
                f"{_said(source_id, source)} has no output slot {source_slot}. Its outputs: {_listed(outputs)}."
            )
        if target_slot >= len(inputs):
            named = [(one.name, one.kind) for one in inputs]
            raise GraphError(
                f"{_said(target_id, target)} has no input slot {target_slot}. Its inputs: {_listed(named)}."
            )
        (name, kind), entry = outputs[source_slot], inputs[target_slot]
        if not fits(kind, entry.kind):
            takers = [f"{place} ({one.name})" for place, one in enumerate(inputs) if fits(kind, one.kind)]
            hint = f" {kind} fits its input slots {', '.join(takers)}." if takers else ""
            raise GraphError(
                f"Output {name} ({kind}) of {_said(source_id, source)} does not fit input {entry.name} "
                f"({entry.kind}) of {_said(target_id, target)}.{hint}"
            )
        if target_id == source_id or target_id in self._before(source_id):
            raise GraphError(
                f"{_said(source_id, source)} needs the result of {_said(target_id, target)}: the workflow would run in a circle."
            )
        target.links[entry.name] = (source_id, source_slot)
        self._lay_out()
        return {"source": source_id, "output": name, "target": target_id, "input": entry.name, "type": kind}

    def set_value(self, node_id: int, widget: str, value: Any) -> Fields:
        """Set a widget, and take away what is linked to it.

        Raises:
            GraphError: there is no such node or widget, or the value is none that it takes.
        """
        node = self._node(node_id)
        widgets = {one.name: one for one in self._type(node.type).widgets}
        if widget not in widgets:
            raise GraphError(
                f"{_said(node_id, node)} has no widget {widget!r}. Its widgets: {', '.join(widgets) or 'none'}."
            )
        taken = _taken(widgets[widget], value, _said(node_id, node))
        node.values[widget] = taken
        node.links.pop(widget, None)
        return {"nodeId": node_id, "widget": widget, "value": taken}

    def fill_prompt(self, node_id: int, text: str) -> Fields:
        """Write a prompt into the text widget of a node.

        Raises:
            GraphError: there is no such node, or it has no text.
        """
        node = self._node(node_id)
        texts = [one for one in self._type(node.type).widgets if one.kind == "STRING"]
        texts.sort(key=lambda one: (not one.options.get("multiline"), one.name not in ("text", "prompt")))
        if not texts:
            raise GraphError(
                f"{_said(node_id, node)} has no text widget. A prompt goes into a node such as CLIPTextEncode."
            )
        return self.set_value(node_id, texts[0].name, text)

    def apply(self, workflow: Any) -> Fields:
        """Put a whole workflow in API or canvas format in the place of what is there.

        Raises:
            GraphError: it is no workflow, or uses node types that ComfyUI does not have.
        """
        if isinstance(workflow, dict) and isinstance(cast("Fields", workflow).get("prompt"), dict):
            workflow = cast("Fields", workflow)["prompt"]
        places = _places(workflow)
        try:
            api = (
                from_canvas(cast("Fields", workflow), self._info, whole=True)
                if is_canvas(workflow)
                else check_workflow(workflow)
            )
        except DefinitionError as error:
            raise GraphError(f"That is no workflow that can be used: {error}") from error
        if len(api) > MAX_NODES:
            raise GraphError(f"The workflow has {len(api)} nodes; it may have {MAX_NODES}.")
        for node in api.values():
            self._type(node["class_type"])
        numbers = _numbers(api)
        nodes = {numbers[key]: self._taken_over(node, numbers) for key, node in api.items()}
        self._document.nodes = nodes
        self._document.last_id = max(nodes, default=0)
        for key, number in numbers.items():
            if key in places:
                nodes[number].x, nodes[number].y = places[key]
                nodes[number].is_placed = True
        self._lay_out()
        renumbered = {key: number for key, number in numbers.items() if str(number) != key}
        return {"nodes": len(nodes), **({"renumbered": renumbered} if renumbered else {})}

    # --- what there is

    def info(self, *, details: bool = False, layout: bool = False, options: bool = False, full: bool = False) -> Fields:
        """The workflow as a model reads it; with `full` as ComfyUI saves it."""
        if full:
            return self.canvas()
        return {
            "nodes": [
                {"id": key, "type": node.type, **({"title": node.title} if node.title else {})}
                | (self._details(node) if details else {})
                | ({"position": {"x": node.x, "y": node.y}, "size": list(self._size(node))} if layout else {})
                | ({"widgetOptions": self._options(node)} if options else {})
                for key, node in self._document.nodes.items()
            ],
            "links": [
                {"source": source, "sourceSlot": slot, "target": target, "targetSlot": place, "type": kind}
                for source, slot, target, place, kind in self._links()
            ],
        }

    def api(self) -> Workflow:
        """The workflow in API format."""
        return {
            str(key): {
                "class_type": node.type,
                "inputs": node.values | {name: [str(source), slot] for name, (source, slot) in node.links.items()},
                "_meta": {"title": node.title or self._type(node.type).title},
            }
            for key, node in self._document.nodes.items()
        }

    def canvas(self) -> Fields:
        """The workflow as ComfyUI's canvas saves it (version 0.4)."""
        links = [[number, *link] for number, link in enumerate(self._links(), start=1)]
        return {
            "last_node_id": self._document.last_id,
            "last_link_id": len(links),
            "nodes": [self._canvas_node(place, key, links) for place, key in enumerate(self._document.nodes)],
            "links": links,
            "groups": [],
            "config": {},
            "extra": {},
            "version": 0.4,
        }

    # --- inside

    def _type(self, name: str) -> NodeType:
        info: Any = self._info.get(name)
        if info is None:
            close = difflib.get_close_matches(name, self._info, n=5, cutoff=0.5)
            close += [other for other in self._info if name.lower() in other.lower() and other not in close][:5]
            hint = f" Close ones: {', '.join(close[:5])}." if close else ""
            raise GraphError(
                f"This ComfyUI has no node type {name[:100]!r}.{hint} searchInstalledNodes finds what there is."
            )
        return NodeType(name, info)

    def _node(self, node_id: int) -> GraphNode:
        node = self._document.nodes.get(node_id)
        if node is None:
            there = [f"{key} ({one.type})" for key, one in list(self._document.nodes.items())[:MAX_SHOWN]]
            raise GraphError(f"There is no node {node_id}. The nodes: {', '.join(there) or 'none yet'}.")
        return node

    def _before(self, node_id: int) -> set[int]:
        """The nodes whose results a node needs."""
        found: set[int] = set()
        waiting = [node_id]
        while waiting:
            for source, _ in self._document.nodes[waiting.pop()].links.values():
                if source not in found:
                    found.add(source)
                    waiting.append(source)
        return found

    def _links(self) -> Iterator[tuple[int, int, int, int, str]]:
        for key, node in self._document.nodes.items():
            for place, entry in enumerate(self._type(node.type).inputs):
                if entry.name in node.links:
                    source, slot = node.links[entry.name]
                    outputs = self._type(self._document.nodes[source].type).outputs
                    yield source, slot, key, place, outputs[slot][1] if slot < len(outputs) else entry.kind

    def _details(self, node: GraphNode) -> Fields:
        known = self._type(node.type)
        slots = _slots(known)
        for entry in slots["inputs"]:
            entry["link"] = node.links.get(entry["name"])
        return {**slots, "widgets": {one.name: node.values.get(one.name) for one in known.widgets}}

    def _options(self, node: GraphNode) -> Fields:
        found: Fields = {}
        for one in self._type(node.type).widgets:
            described = {key: one.options[key] for key in ("min", "max", "step", "multiline") if key in one.options}
            if one.choices is not None:
                described["choices"] = list(one.choices[:MAX_SHOWN])
            found[one.name] = {"type": one.kind, **described}
        return found

    def _canvas_node(self, order: int, key: int, links: list[list[Any]]) -> Fields:
        node = self._document.nodes[key]
        known = self._type(node.type)
        arriving = {link[4]: link[0] for link in links if link[3] == key}
        values: list[Any] = []
        for one in known.widgets:
            values.append(node.values.get(one.name, one.default))
            if has_control(one.name, one.kind, one.options):
                values.append("fixed")
            elif has_button(one.options):
                values.append("image")
        return {
            "id": key,
            "type": node.type,
            "pos": [node.x, node.y],
            "size": list(self._size(node)),
            "flags": {},
            "order": order,
            "mode": 0,
            **({"title": node.title} if node.title else {}),
            "inputs": [
                {"name": one.name, "type": one.kind, "link": arriving.get(place)}
                | ({"widget": {"name": one.name}} if one.is_widget else {})
                for place, one in enumerate(known.inputs)
            ],
            "outputs": [
                {
                    "name": name,
                    "type": kind,
                    "links": [link[0] for link in links if link[1] == key and link[2] == slot] or None,
                }
                for slot, (name, kind) in enumerate(known.outputs)
            ],
            "properties": {"Node name for S&R": node.type},
            "widgets_values": values,
        }

    def _size(self, node: GraphNode) -> tuple[int, int]:
        known = self._type(node.type)
        sockets = sum(not one.is_widget for one in known.inputs)
        texts = sum(bool(one.options.get("multiline")) for one in known.widgets)
        return WIDTH, 40 + 22 * max(sockets, len(known.outputs)) + 26 * len(known.widgets) + 60 * texts

    def _free_place(self) -> tuple[float, float]:
        """A place on a grid that no node is on."""
        taken = {(round((n.x - LEFT) / COLUMN), round((n.y - TOP) / ROW)) for n in self._document.nodes.values()}
        place = next(p for p in range(len(taken) + 1) if (p % COLUMNS, p // COLUMNS) not in taken)
        return LEFT + (place % COLUMNS) * COLUMN, TOP + (place // COLUMNS) * ROW

    def _lay_out(self) -> None:
        """Put every node to the right of those that it needs, where nobody has said where any is to be."""
        nodes = self._document.nodes
        if any(node.is_placed for node in nodes.values()):
            return
        columns = dict.fromkeys(nodes, 0)
        for _ in nodes:
            moved = {
                key: column
                for key, node in nodes.items()
                if columns[key] < (column := max((columns[source] + 1 for source, _ in node.links.values()), default=0))
                and column < len(nodes)  # a circle, which an imported workflow may have, ends here
            }
            if not moved:
                break
            columns |= moved
        heights: dict[int, float] = {}
        for key, node in nodes.items():
            column = columns[key]
            node.x, node.y = LEFT + column * COLUMN, heights.get(column, TOP)
            heights[column] = node.y + self._size(node)[1] + 50

    def _taken_over(self, node: Mapping[str, Any], numbers: Mapping[str, int]) -> GraphNode:
        """A node of a workflow in API format; what its type declares and the workflow leaves out is filled in."""
        given: Fields = node["inputs"]
        links = {
            name: (numbers[str(v[0])], int(v[1])) for name, v in given.items() if is_link(v) and str(v[0]) in numbers
        }
        values = {name: copy.deepcopy(value) for name, value in given.items() if not is_link(value)}
        known = self._type(node["class_type"])
        for one in known.widgets:
            if one.name not in values and one.default is not None:
                values[one.name] = one.default
        meta: Fields = node.get("_meta") or {}
        title: str | None = meta.get("title")
        return GraphNode(type=known.name, title=title if title != known.title else None, values=values, links=links)


def _slots(known: NodeType) -> Fields:
    return {
        "inputs": [{"slot": place, "name": one.name, "type": one.kind} for place, one in enumerate(known.inputs)],
        "outputs": [{"slot": slot, "name": name, "type": kind} for slot, (name, kind) in enumerate(known.outputs)],
    }


def _numbers(api: Workflow) -> dict[str, int]:
    """A number for each node: its own where it is one; nodes that came out of a subgraph get new ones."""
    numbers = {key: int(key) for key in api if key.isascii() and key.isdigit() and 0 < int(key) < 2**31}
    last = max(numbers.values(), default=0)
    for key in api:
        if key not in numbers:
            last += 1
            numbers[key] = last
    return numbers


def _places(workflow: Any) -> dict[str, tuple[float, float]]:
    """Where a canvas has its nodes."""
    if not is_canvas(workflow):
        return {}
    found: dict[str, tuple[float, float]] = {}
    for raw in cast("list[Any]", workflow["nodes"]):
        node = cast("Fields", raw) if isinstance(raw, dict) else {}
        place: Any = node.get("pos")
        if isinstance(place, dict):  # as older canvases have it
            place = [cast("Fields", place).get("0"), cast("Fields", place).get("1")]
        numbers = cast("list[Any]", place) if isinstance(place, list) else []
        if len(numbers) == 2 and all(isinstance(one, int | float) for one in numbers):
            found[str(node.get("id"))] = (float(numbers[0]), float(numbers[1]))
    return found


def _taken(entry: Input, value: Any, node: str) -> Any:
    """`value` as the widget takes it.

    Raises:
        GraphError: it does not.
    """

    def refused(wanted: str) -> GraphError:
        return GraphError(f"{entry.name} of {node} must be {wanted}, and not {value!r}.")

    if entry.choices is not None or entry.kind == "COMBO":
        if entry.is_free or value in (entry.choices or ()):
            return value
        choices = [str(one) for one in entry.choices or ()]
        close = difflib.get_close_matches(str(value), choices, n=3, cutoff=0.4)
        shown = [*close, *(one for one in choices if one not in close)][:10]
        raise refused(f"one of {', '.join(shown)}{' …' if len(choices) > 10 else ''}")
    if entry.kind == "BOOLEAN":
        if not isinstance(value, bool):
            raise refused("true or false")
        return value
    if entry.kind in ("INT", "FLOAT"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise refused("a number")
        if entry.kind == "INT" and isinstance(value, float):
            if not value.is_integer():
                raise refused("a whole number")
            value = int(value)
        low, high = entry.options.get("min"), entry.options.get("max")
        if (low is not None and value < low) or (high is not None and value > high):
            raise refused(f"from {low if low is not None else 'any'} to {high if high is not None else 'any'}")
        return value
    if entry.kind == "STRING" and not isinstance(value, str):
        raise refused("text")
    return value


def _said(node_id: int, node: GraphNode) -> str:
    return f"node {node_id} ({node.type})"


def _listed(slots: Any) -> str:
    return ", ".join(f"{place}: {name} ({kind})" for place, (name, kind) in enumerate(slots)) or "none"
