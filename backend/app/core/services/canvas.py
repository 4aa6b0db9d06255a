"""ComfyUI's canvas format in API format, by the rules of ComfyUI's own frontend.

A canvas has nodes with widget values in order, and links by number. Reroutes, primitives, notes, subgraphs, and nodes that are
muted or bypassed exist on the canvas alone; they are resolved here as `graphToPrompt` of the frontend resolves them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from app.core.domain.node_types import ObjectInfo, fits
from app.core.domain.node_widgets import widget_values
from app.core.domain.workflow import DefinitionError, Workflow

Node = dict[str, Any]
MUTED, BYPASSED = 2, 4
INPUT_SIDE, OUTPUT_SIDE = "-10", "-20"
MAX_NODES, MAX_ALL_LINKS = 5_000, 50_000
"""What one workflow may have, its subgraphs expanded."""
MAX_SHOWN_TYPES = 20
MAX_DEPTH = 16
MAX_LINKS = 200
PRIMITIVE = "PrimitiveNode"
VIRTUAL = frozenset({"Note", "MarkdownNote", "Reroute", "Reroute (rgthree)", "ReroutePrimitive|pysssss", PRIMITIVE})
"""Node types that exist in the frontend alone."""
CAPTURED = {"Load3D": "image", "Load3DAnimation": "image", "RecordAudio": "audio", "WebcamCapture": "image"}
"""Inputs for which the frontend renders or records something when a workflow is run, by node type."""


class MissingNodes(DefinitionError):
    """A workflow uses node types that this ComfyUI does not have."""

    def __init__(self, types: Sequence[str]) -> None:
        more = f" and {len(types) - MAX_SHOWN_TYPES} more" if len(types) > MAX_SHOWN_TYPES else ""
        shown = ", ".join(name[:100] for name in types[:MAX_SHOWN_TYPES])
        super().__init__("", f"this ComfyUI does not have the node types {shown}{more}. Install them and import again.")
        self.types = list(types)


def too_large() -> DefinitionError:
    """A workflow has more than can be imported."""
    return DefinitionError("", f"it is too large: a workflow may have {MAX_NODES:,} nodes and {MAX_ALL_LINKS:,} links.")


def is_canvas(document: Any) -> bool:
    """Whether `document` is a workflow in canvas format."""
    return isinstance(document, dict) and isinstance(cast("Node", document).get("nodes"), list)


def from_canvas(document: Node, object_info: ObjectInfo, *, whole: bool = False) -> Workflow:
    """A canvas in API format: every node that is neither muted nor bypassed, with its values and links.

    Args:
        whole: also take a canvas on which no node produces an output.

    Raises:
        MissingNodes, DefinitionError: node types are missing, or no node produces an output.
    """
    try:
        canvas = _Canvas(document, object_info)
        missing = sorted({node.type for node in canvas.sent() if node.type not in object_info})
        if missing:
            raise MissingNodes(missing)
        workflow: Workflow = {node.id: _sent(canvas, node, object_info[node.type]) for node in canvas.sent()}
    except DefinitionError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DefinitionError(
            "", f"the canvas is not in ComfyUI's format ({type(error).__name__}: {error})."
        ) from error
    for node in workflow.values():
        inputs = node["inputs"]
        for name in [name for name, value in inputs.items() if isinstance(value, list) and value[0] not in workflow]:
            del inputs[name]
    if not whole and not any(object_info[node["class_type"]].get("output_node") for node in workflow.values()):
        raise DefinitionError("", "no node produces an output (such as Save Image), or all that do are muted.")
    return workflow


def _sent(canvas: "_Canvas", node: "_Node", info: Mapping[str, Any]) -> dict[str, Any]:
    """A node in API format."""
    if (name := CAPTURED.get(node.type)) is not None:
        raise DefinitionError(
            "",
            f"{node.type} (node {node.id}) gets its {name} from ComfyUI's page when the workflow is run there. "
            "Put a node in its place that loads a file, and import the workflow again.",
        )
    inputs = canvas.values_of(node)
    for slot, entry in enumerate(node.inputs):
        found = canvas.source_of(node, slot)
        if isinstance(found, _Value):
            inputs[str(entry["name"])] = found.value
        elif found is not None:
            inputs[str(entry["name"])] = _Link(found)
    title = node.title or info.get("display_name") or node.type
    return {
        "class_type": node.type,
        "inputs": {name: _wrapped(value) for name, value in inputs.items()},
        "_meta": {"title": title},
    }


class _Link(list[Any]):
    """A link to an output, to tell it from a widget value that is a list."""


def _wrapped(value: Any) -> Any:
    """A value as ComfyUI takes it: a bare list would be read as a link."""
    if isinstance(value, _Link):
        return list(value)
    return {"__value__": cast("list[Any]", value)} if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class _Value:
    """A value that an input gets from a widget elsewhere: of a primitive, or of the subgraph around it."""

    value: Any


@dataclass(slots=True)
class _Graph:
    """The root graph, or one use of a subgraph.

    Attributes:
        links: where each link comes from, by its number: node id and slot.
        targets: the inner ends of the links that come from each of the subgraph's own inputs: node id and slot.
        outputs: where each of the subgraph's own outputs comes from.
        input_names: the names of the subgraph's own inputs.
    """

    prefix: str
    instance: "_Node | None"
    links: dict[str, tuple[str, int]]
    targets: dict[int, list[tuple[str, int]]]
    outputs: dict[int, tuple[str, int]]
    input_names: list[str]


@dataclass(slots=True)
class _Node:
    """A node of the canvas.

    Attributes:
        id: its id with those of the subgraphs around it, `outer:inner`.
        inner: for the instance of a subgraph, the graph inside it.
        promoted: for the instance of a subgraph, the values of its own widgets by the name of the input.
    """

    id: str
    type: str
    mode: int
    title: str
    values: Any
    inputs: list[Node]
    outputs: list[Node]
    graph: _Graph
    inner: _Graph | None = None
    promoted: dict[str, Any] = field(default_factory=dict[str, Any])


class _Canvas:
    """A canvas with its subgraphs expanded.

    Attributes:
        nodes: all nodes by their ids, instances of subgraphs among them.
    """

    def __init__(self, document: Node, object_info: ObjectInfo) -> None:
        self.nodes: dict[str, _Node] = {}
        self._info = object_info
        self._proxied: dict[str, dict[str, Any]] = {}
        self._room, self._room_for_links = MAX_NODES, MAX_ALL_LINKS
        definitions: Node = document.get("definitions") or {}
        self._subgraphs = {str(graph["id"]): cast("Node", graph) for graph in definitions.get("subgraphs") or ()}
        self._add(document, "", None, 0)

    def sent(self) -> Iterator[_Node]:
        """The nodes that ComfyUI itself runs."""
        for node in self.nodes.values():
            if node.inner is None and node.type not in VIRTUAL and node.mode not in (MUTED, BYPASSED):
                yield node

    def values_of(self, node: _Node) -> dict[str, Any]:
        """The values of a node's widgets, as though nothing were linked to them."""
        own = dict(widget_values(node.type, self._info.get(node.type) or {}, node.values))
        return own | self._proxied.get(node.id, {})

    def source_of(self, node: _Node, slot: int, kind: Any = None, depth: int = 0) -> "list[Any] | _Value | None":
        """Where an input gets its value: a link `[node id, slot]`, a value, or None where nothing is linked."""
        if depth > MAX_LINKS:
            raise DefinitionError("", "its links form a cycle.")
        link = node.graph.links.get(str(node.inputs[slot].get("link")))
        if link is None:
            return None
        origin, origin_slot = link
        kind = node.inputs[slot].get("type") if kind is None else kind
        if origin == INPUT_SIDE:
            return self._from_outside(node.graph, origin_slot, depth + 1)
        return self._output_of(self.nodes.get(node.graph.prefix + origin), origin_slot, kind, depth + 1)

    def _from_outside(self, graph: _Graph, slot: int, depth: int) -> "list[Any] | _Value | None":
        """What one of a subgraph's own inputs gets where the subgraph is used."""
        instance = graph.instance
        assert instance is not None
        name = graph.input_names[slot]
        place = _named(instance.inputs, name)
        if place is not None and instance.graph.links.get(str(instance.inputs[place].get("link"))) is not None:
            return self.source_of(instance, place, None, depth)
        if name in instance.promoted:
            return _Value(instance.promoted[name])
        return self._inner_value(graph, slot)

    def _inner_value(self, graph: _Graph, slot: int) -> "_Value | None":
        """The value of the first widget inside that one of a subgraph's own inputs leads to: what its own widget begins with."""
        for node, name in self._widgets_behind(graph, slot):
            values = self.values_of(node)
            return _Value(values[name]) if name in values else None
        return None

    def _output_of(self, node: _Node | None, slot: int, kind: Any, depth: int) -> "list[Any] | _Value | None":
        if node is None:
            return None
        if node.mode == BYPASSED:
            through = _bypass(node, slot, kind)
            return None if through is None else self.source_of(node, through, None, depth)
        if node.inner is not None:
            inside = node.inner.outputs.get(slot)
            if inside is None:
                return None
            if inside[0] == INPUT_SIDE:
                return self._from_outside(node.inner, inside[1], depth)
            return self._output_of(self.nodes.get(node.inner.prefix + inside[0]), inside[1], kind, depth)
        if node.type == PRIMITIVE:
            values = cast("list[Any]", node.values) if isinstance(node.values, list) else []
            return _Value(values[0]) if values else None
        if node.type in VIRTUAL:
            found = self.source_of(node, slot, kind, depth) if slot < len(node.inputs) else None
            return None if isinstance(found, _Value) else found  # a primitive reaches the widgets that it is linked to
        return [node.id, slot]

    def _add(self, raw: Node, prefix: str, instance: _Node | None, depth: int) -> _Graph:
        """Add the nodes of a graph, and of the subgraphs that it uses."""
        if depth > MAX_DEPTH:
            raise DefinitionError("", f"its subgraphs are nested more than {MAX_DEPTH} deep.")
        self._room -= len(raw["nodes"])
        self._room_for_links -= len(raw.get("links") or ())
        if self._room < 0 or self._room_for_links < 0:
            raise too_large()
        graph = _graph(raw, prefix, instance)
        if instance is not None:
            instance.inner = graph
        for entry in raw["nodes"]:
            node = _node(entry, graph)
            self.nodes[node.id] = node
            definition = self._subgraphs.get(node.type)
            if definition is not None:
                self._expand(node, definition, entry.get("properties") or {}, depth)
        return graph

    def _expand(self, instance: _Node, definition: Node, properties: Node, depth: int) -> None:
        """Add what is inside an instance of a subgraph."""
        if instance.mode in (MUTED, BYPASSED) and depth == 0:
            return  # the frontend expands those inside of other subgraphs all the same, though nothing uses them
        inner = self._add(definition, f"{instance.id}:", instance, depth + 1)
        values = cast("list[Any]", instance.values) if isinstance(instance.values, list) else []
        proxies: list[Any] = properties.get("proxyWidgets") or []
        if proxies:
            for (inner_id, widget), value in zip(proxies, values, strict=False):
                self._proxied.setdefault(f"{inner.prefix}{inner_id}", {})[str(widget)] = value
            return
        names = [name for slot, name in enumerate(inner.input_names) if any(self._widgets_behind(inner, slot))]
        instance.promoted = dict(zip(names, values, strict=False))

    def _widgets_behind(self, graph: _Graph, slot: int) -> Iterator[tuple[_Node, str]]:
        """The inner widgets that one of a subgraph's own inputs leads to: node and name."""
        for node_id, target_slot in graph.targets.get(slot, ()):
            node = self.nodes.get(graph.prefix + node_id)
            if node is None or target_slot >= len(node.inputs):
                continue
            name = str(node.inputs[target_slot]["name"])
            if node.inner is None:
                if node.inputs[target_slot].get("widget"):
                    yield node, name
            elif name in node.inner.input_names:
                yield from self._widgets_behind(node.inner, node.inner.input_names.index(name))


def _graph(raw: Node, prefix: str, instance: _Node | None) -> _Graph:
    links: dict[str, tuple[str, int]] = {}
    targets: dict[int, list[tuple[str, int]]] = {}
    outputs: dict[int, tuple[str, int]] = {}
    for number, origin, origin_slot, target, target_slot in _links(raw):
        links[number] = (origin, origin_slot)
        if origin == INPUT_SIDE:
            targets.setdefault(origin_slot, []).append((target, target_slot))
        if target == OUTPUT_SIDE:
            outputs[target_slot] = (origin, origin_slot)
    names = [str(entry["name"]) for entry in raw.get("inputs") or ()] if instance is not None else []
    return _Graph(prefix, instance, links, targets, outputs, names)


def _links(raw: Node) -> Iterator[tuple[str, str, int, str, int]]:
    """The links of a graph: number, origin and its slot, target and its slot."""
    for link in raw.get("links") or ():
        if isinstance(link, dict):
            f = cast("Node", link)
            yield str(f["id"]), str(f["origin_id"]), int(f["origin_slot"]), str(f["target_id"]), int(f["target_slot"])
        elif link:
            yield str(link[0]), str(link[1]), int(link[2]), str(link[3]), int(link[4])


def _node(raw: Node, graph: _Graph) -> _Node:
    return _Node(
        id=f"{graph.prefix}{raw['id']}",
        type=str(raw["type"]),
        mode=int(raw.get("mode") or 0),
        title=str(raw.get("title") or ""),
        values=raw.get("widgets_values"),
        inputs=list(raw.get("inputs") or ()),
        outputs=list(raw.get("outputs") or ()),
        graph=graph,
    )


def _named(entries: Sequence[Node], name: str) -> int | None:
    return next((place for place, entry in enumerate(entries) if entry.get("name") == name), None)


def _bypass(node: _Node, slot: int, kind: Any) -> int | None:
    """The input that a bypassed node passes on at an output: in the same place if its type fits, else the first that fits."""
    kinds = [str(entry.get("type", "*")) for entry in node.inputs]
    wanted = str(kind)
    if wanted in ("*", ""):
        return slot if slot < len(kinds) else (0 if kinds else None)
    given = str(node.outputs[slot].get("type", "*")) if slot < len(node.outputs) else "*"
    if slot < len(kinds) and fits(kinds[slot], given) and fits(kinds[slot], wanted):
        return slot
    if wanted in kinds:
        return kinds.index(wanted)
    return next((place for place, one in enumerate(kinds) if fits(one, given) and fits(one, wanted)), None)
