"""Workflows as people have them, as tools: from ComfyUI's API format, from its canvas, or from a picture that it made.

The canvas format has nodes with widget values in order, and links by number; reroutes, primitives, notes, groups of nodes
(subgraphs), and nodes that are muted or bypassed live on the canvas alone. What is left when they are resolved is the API
format, which `object_info`, ComfyUI's list of node types, is needed for.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from app.core.domain.node_types import DYNAMIC_COMBO, SEEDS, ObjectInfo, has_button, has_control, is_widget, options_of
from app.core.domain.workflow import IMAGE_NODES, DefinitionError, Workflow, check_workflow

Node = dict[str, Any]
MUTED, BYPASSED = 2, 4
INPUT_SIDE, OUTPUT_SIDE = "-10", "-20"
MAX_DEPTH = 16
MAX_LINKS = 200
NOTES = frozenset({"Note", "MarkdownNote"})
REROUTES = frozenset({"Reroute", "Reroute (rgthree)", "ReroutePrimitive|pysssss"})


class MissingNodes(DefinitionError):
    """A workflow uses node types that this ComfyUI does not have."""

    def __init__(self, types: Sequence[str]) -> None:
        super().__init__(
            "", f"this ComfyUI does not have the node types {', '.join(types)}. Install them and import again."
        )
        self.types = list(types)


@dataclass(frozen=True, slots=True)
class Imported:
    """A workflow as a tool, for review.

    Attributes:
        definition: the tool's config.
    """

    name: str
    workflow: Workflow
    definition: dict[str, Any]


def import_workflow(name: str, document: Any, object_info: ObjectInfo | None) -> Imported:
    """The tool that a workflow makes, with the inputs that people set as its parameters.

    Args:
        document: a workflow in API format or in canvas format.
        object_info: ComfyUI's node types; needed for the canvas format alone.

    Raises:
        DefinitionError: it is no workflow, or one that cannot be converted; the error says why.
    """
    if isinstance(document, dict) and isinstance(cast("Node", document).get("prompt"), dict):
        document = cast("Node", document)["prompt"]
    if is_canvas(document):
        if object_info is None:
            raise DefinitionError(
                "", "a canvas can be converted only with ComfyUI's list of nodes. Set COMFYUI_URL, or give that list."
            )
        workflow = from_canvas(cast("Node", document), object_info)
    else:
        workflow = check_workflow(document)
    fields = list(_fields(workflow))
    return Imported(name, workflow, {"name": name, "description": f"Runs the workflow {name}.", "fields": fields})


def is_canvas(document: Any) -> bool:
    """Whether `document` is a workflow in canvas format."""
    return isinstance(document, dict) and isinstance(cast("Node", document).get("nodes"), list)


# --- from the canvas


def from_canvas(document: Node, object_info: ObjectInfo, *, whole: bool = False) -> Workflow:
    """A canvas in API format: the nodes that lead to an output, or with `whole` all that are not muted, with values and links.

    Raises:
        MissingNodes, DefinitionError: node types are missing, or nothing leads to an output.
    """
    graph = _Graph(object_info)
    try:
        graph.add(document, _subgraphs(document), "", 0)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DefinitionError(
            "", f"the canvas is not as ComfyUI writes it ({type(error).__name__}: {error})."
        ) from error
    missing = sorted({n.type for n in graph.nodes.values() if n.is_real and n.type not in object_info})
    if missing:
        raise MissingNodes(missing)
    workflow: Workflow = {}
    real = [key for key, node in graph.nodes.items() if node.is_real]
    for node_id in real if whole else graph.leading_to_outputs():
        node = graph.nodes[node_id]
        meta = {"title": node.title or object_info[node.type].get("display_name") or node.type}
        workflow[node_id] = {"class_type": node.type, "inputs": graph.inputs_of(node), "_meta": meta}
    if not workflow and not whole:
        raise DefinitionError(
            "", "no node of the canvas gives anything out (such as Save Image), or all that do are muted."
        )
    return workflow


@dataclass(slots=True)
class _Node:
    """A node of the canvas.

    Attributes:
        sources: for each linked input, by name, the node and slot that it comes from, as the canvas has it.
        overrides: values that a subgraph's own widgets give to this node's.
    """

    id: str
    type: str
    mode: int
    title: str
    values: Any
    inputs: list[Node]
    outputs: list[Node]
    sources: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])
    overrides: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def is_real(self) -> bool:
        """Whether ComfyUI itself runs it."""
        return self.type not in NOTES | REROUTES | {"PrimitiveNode"} and self.mode not in (MUTED, BYPASSED)


class _Graph:
    """A canvas with its subgraphs laid open: ids of inner nodes are `outer:inner`, as in ComfyUI."""

    def __init__(self, object_info: ObjectInfo) -> None:
        self.nodes: dict[str, _Node] = {}
        self._info = object_info
        self._doors: dict[tuple[str, int], tuple[str, int] | None] = {}

    def add(self, graph: Node, subgraphs: Mapping[str, Node], prefix: str, depth: int) -> None:
        """Add the nodes of a canvas or of a subgraph."""
        if depth > MAX_DEPTH:
            raise DefinitionError("", f"its groups are nested more than {MAX_DEPTH} deep.")
        links = dict(_links(graph))
        for raw in graph["nodes"]:
            node = _node(raw, prefix)
            for entry in node.inputs:
                link = links.get(str(entry.get("link")))
                if link is not None:
                    node.sources[str(entry["name"])] = (prefix + link[0], link[1])
            inner = subgraphs.get(node.type)
            if inner is None:
                self.nodes[node.id] = node
            else:
                self._open(node, inner, subgraphs, depth)

    def _open(self, instance: _Node, inner: Node, subgraphs: Mapping[str, Node], depth: int) -> None:
        """Lay a subgraph open where it stands."""
        prefix = f"{instance.id}:"
        if instance.mode == MUTED:
            return
        if instance.mode == BYPASSED:
            self.nodes[instance.id] = instance  # passed through, like any bypassed node
            return
        self.add(inner, subgraphs, prefix, depth + 1)
        names = [str(entry["name"]) for entry in inner.get("inputs") or ()]
        for slot, name in enumerate(names):
            self._doors[prefix + INPUT_SIDE, slot] = instance.sources.get(name)
        for origin, origin_slot, target, target_slot in _ends(inner):
            if target == OUTPUT_SIDE:
                self._doors[instance.id, target_slot] = (prefix + origin, origin_slot)
        self._promote(instance, inner, prefix, names)

    def _promote(self, instance: _Node, inner: Node, prefix: str, names: Sequence[str]) -> None:
        """Give inner nodes the values that the subgraph's own widgets have."""
        raw: Any = instance.values
        values = cast("list[Any]", raw) if isinstance(raw, list) else []
        proxies: Any = instance.overrides.pop("proxyWidgets", None) or []
        for (inner_id, widget), value in zip(proxies, values, strict=False):
            node = self.nodes.get(f"{prefix}{inner_id}")
            if node is not None:
                node.overrides[str(widget)] = value
        if proxies:
            return
        shown = [str(entry["name"]) for entry in instance.inputs if entry.get("widget")]
        for name, value in zip(shown, values, strict=False):
            if name in names and name not in instance.sources:
                self._give(inner, prefix, names.index(name), value)

    def _give(self, inner: Node, prefix: str, slot: int, value: Any) -> None:
        """Give a value to the widgets that one of a subgraph's inputs leads to."""
        for origin, origin_slot, target, target_slot in _ends(inner):
            node = self.nodes.get(prefix + target)
            if origin == INPUT_SIDE and origin_slot == slot and node is not None and target_slot < len(node.inputs):
                name = str(node.inputs[target_slot]["name"])
                node.overrides[name] = value
                node.sources.pop(name, None)

    def source(self, node_id: str, slot: int, kind: str | None = None, depth: int = 0) -> Any:
        """Where a value really comes from: a link `[node, slot]`, a primitive's value in a tuple, or None."""
        if depth > MAX_LINKS:
            raise DefinitionError("", "its links go round in a circle.")
        if (node_id, slot) in self._doors:
            further = self._doors[node_id, slot]
            return self.source(*further, kind, depth + 1) if further is not None else None
        node = self.nodes.get(node_id)
        if node is None or node.mode == MUTED:
            return None
        if node.type == "PrimitiveNode":
            values = cast("list[Any]", node.values) if isinstance(node.values, list) else []
            return (values[0],) if values else None
        if node.type in REROUTES or node.mode == BYPASSED:
            through = self._through(node, slot, kind)
            return self.source(*through, kind, depth + 1) if through is not None else None
        return [node_id, slot]

    def _through(self, node: _Node, slot: int, kind: str | None) -> tuple[str, int] | None:
        """The input that a reroute or a bypassed node hands on at an output: of the same type, in the same place if it can be."""
        if node.type in REROUTES:
            return next(iter(node.sources.values()), None)
        wanted = node.outputs[slot].get("type") if slot < len(node.outputs) else kind
        same = [entry for entry in node.inputs if entry.get("type") == wanted and str(entry["name"]) in node.sources]
        if slot < len(node.inputs) and node.inputs[slot] in same:
            same = [node.inputs[slot]]
        return node.sources[str(same[0]["name"])] if same else None

    def inputs_of(self, node: _Node) -> dict[str, Any]:
        """A node's inputs in API format: the values of its widgets, and its links over them."""
        inputs = dict(self._values(node)) | node.overrides
        for entry in node.inputs:
            name = str(entry["name"])
            if name not in node.sources:
                continue
            found = self.source(*node.sources[name], entry.get("type"))
            if isinstance(found, tuple):
                inputs[name] = found[0]
            elif found is not None:
                inputs[name] = found
        return inputs

    def _values(self, node: _Node) -> Iterator[tuple[str, Any]]:
        if isinstance(node.values, dict):
            known = {name for name, _ in _widgets(self._info[node.type].get("input") or {})}
            yield from ((name, value) for name, value in cast("Node", node.values).items() if name in known)
            return
        values = iter(cast("list[Any]", node.values) if isinstance(node.values, list) else [])
        yield from _assign(self._info[node.type].get("input") or {}, values, "")

    def leading_to_outputs(self) -> list[str]:
        """The nodes that an output node needs, and those themselves, in the order of the canvas."""
        waiting = [key for key, n in self.nodes.items() if n.is_real and self._info[n.type].get("output_node")]
        needed: set[str] = set()
        while waiting:
            node_id = waiting.pop()
            if node_id in needed:
                continue
            needed.add(node_id)
            for value in self.inputs_of(self.nodes[node_id]).values():
                link = cast("list[Any]", value) if isinstance(value, list) else []
                waiting += [link[0]] if len(link) == 2 and link[0] in self.nodes else []
        return [key for key in self.nodes if key in needed]


def _subgraphs(document: Node) -> dict[str, Node]:
    definitions: Node = document.get("definitions") or {}
    return {str(graph["id"]): graph for graph in definitions.get("subgraphs") or ()}


def _node(raw: Node, prefix: str) -> _Node:
    properties: Node = raw.get("properties") or {}
    node = _Node(
        id=f"{prefix}{raw['id']}",
        type=str(raw["type"]),
        mode=int(raw.get("mode") or 0),
        title=str(raw.get("title") or ""),
        values=raw.get("widgets_values"),
        inputs=list(raw.get("inputs") or ()),
        outputs=list(raw.get("outputs") or ()),
    )
    if proxies := properties.get("proxyWidgets"):
        node.overrides["proxyWidgets"] = proxies
    return node


def _links(graph: Node) -> Iterator[tuple[str, tuple[str, int]]]:
    """The links of a canvas or subgraph by number: from which node and slot each comes."""
    for link in graph.get("links") or ():
        if isinstance(link, dict):
            fields = cast("Node", link)
            yield str(fields["id"]), (str(fields["origin_id"]), int(fields["origin_slot"]))
        else:
            yield str(link[0]), (str(link[1]), int(link[2]))


def _ends(graph: Node) -> Iterator[tuple[str, int, str, int]]:
    """Both ends of a subgraph's links."""
    for link in graph.get("links") or ():
        if isinstance(link, dict):
            f = cast("Node", link)
            yield str(f["origin_id"]), int(f["origin_slot"]), str(f["target_id"]), int(f["target_slot"])
        else:
            yield str(link[1]), int(link[2]), str(link[3]), int(link[4])


def _widgets(declared: Node) -> Iterator[tuple[str, Any]]:
    """The inputs of a node type that are widgets, in their order."""
    for kind in ("required", "optional"):
        group: Node = declared.get(kind) or {}
        for name, what in group.items():
            if is_widget(what):
                yield name, what


_END = object()


def _assign(declared: Node, values: Iterator[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Widget values in their order, by name. Some widgets have a second one on the canvas, which ComfyUI never sees."""
    for name, what in _widgets(declared):
        value = next(values, _END)
        if value is _END:
            return
        yield f"{prefix}{name}", value
        options = options_of(what)
        if cast("list[Any]", what)[0] == DYNAMIC_COMBO:
            offered: list[Node] = options.get("options") or []
            chosen = next((option for option in offered if option.get("key") == value), Node())
            yield from _assign(chosen.get("inputs") or {}, values, f"{prefix}{name}.")
        elif has_control(name, cast("list[Any]", what)[0], options) or has_button(options):
            next(values, None)


# --- the inputs that people set

_SIMPLE: dict[str, tuple[str, str, str]] = {
    "steps": ("steps", "integer", "How many steps are taken."),
    "cfg": ("cfg", "number", "How closely the prompt is followed."),
    "guidance": ("guidance", "number", "How closely the prompt is followed."),
    "denoise": ("denoise", "number", "How much of the input is changed, from 0 to 1."),
    "width": ("width", "integer", "The width, in pixels."),
    "height": ("height", "integer", "The height, in pixels."),
    "batch_size": ("batch_size", "integer", "How many are made at once."),
    "ckpt_name": ("model", "string", "The model's file."),
    "unet_name": ("model", "string", "The model's file."),
    "lora_name": ("lora", "string", "The LoRA's file."),
    "strength_model": ("lora_strength", "number", "How strong the LoRA is."),
}
_SIZES = ("width", "height", "batch_size")
_PROMPTS = ("text", "prompt", "text_g", "clip_l", "t5xxl")


def _fields(workflow: Workflow) -> Iterator[dict[str, Any]]:
    """The parameters of a workflow: prompts first, then what its samplers, sizes, models and images are set to."""
    taken: set[str] = set()
    prompts, negatives = _prompts(workflow)

    def name_of(wanted: str) -> str:
        number = next(n for n in range(1, len(workflow) + 100) if (wanted if n == 1 else f"{wanted}_{n}") not in taken)
        taken.add(wanted if number == 1 else f"{wanted}_{number}")
        return wanted if number == 1 else f"{wanted}_{number}"

    def made(wanted: str, kind: str, text: str, node: str, attribute: str, **more: Any) -> dict[str, Any]:
        mapping = {"node": node, "attribute": f"inputs.{attribute}"}
        return {"name": name_of(wanted), "type": kind, "description": text, **more, "mapping": mapping}

    for node, attribute in prompts:
        yield made("prompt", "string", "What to make.", node, attribute, required=True)
    for node, attribute in negatives:
        value = workflow[node]["inputs"][attribute]
        yield made("negative_prompt", "string", "What to keep out.", node, attribute, default=value)
    for node, what in workflow.items():
        inputs = what["inputs"]
        for attribute in SEEDS:
            if isinstance(inputs.get(attribute), int):
                yield made(
                    "seed", "integer", "Where chance begins; another one each time.", node, attribute, generator="seed"
                )
        for attribute, (wanted, kind, text) in _SIMPLE.items():
            value = inputs.get(attribute)
            if value is None or isinstance(value, list) or not _is_set_here(what["class_type"], attribute, inputs):
                continue
            yield made(wanted, kind, text, node, attribute, default=value)
        if what["class_type"] in IMAGE_NODES and isinstance(inputs.get("image"), str):
            yield made("image", "string", "The image to work on.", node, "image", required=True)


def _is_set_here(class_type: str, attribute: str, inputs: Mapping[str, Any]) -> bool:
    """Whether an input of this name is what people mean by it: a size is that of an empty latent or image."""
    return attribute not in _SIZES or "Empty" in class_type or "batch_size" in inputs


def _prompts(workflow: Workflow) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The texts that lead to the positive and to the negative inputs of samplers; others that encode text count as positive."""
    positive: dict[tuple[str, str], None] = {}
    negative: dict[tuple[str, str], None] = {}
    for node in workflow.values():
        for side, found in (("positive", positive), ("negative", negative)):
            link: Any = node["inputs"].get(side)
            if isinstance(link, list) and link:
                found |= dict.fromkeys(_texts_before(workflow, str(cast("list[Any]", link)[0]), side))
    if not positive:
        encoders = [node_id for node_id, node in workflow.items() if "Encode" in node["class_type"]]
        found = [text for node_id in encoders for text in _texts_before(workflow, node_id, "") if text not in negative]
        positive = dict.fromkeys(found)
    return list(positive), [text for text in negative if text not in positive]


def _texts_before(workflow: Workflow, node_id: str, side: str) -> list[tuple[str, str]]:
    """The texts in a node, or in the nodes that it gets its conditioning from."""
    waiting, seen, found = [node_id], set[str](), list[tuple[str, str]]()
    while waiting:
        current = waiting.pop(0)
        node = workflow.get(current)
        if node is None or current in seen or len(seen) > 50:
            continue
        seen.add(current)
        texts = [name for name in _PROMPTS if isinstance(node["inputs"].get(name), str)]
        if texts:
            found.append((current, texts[0]))
            continue
        if "ZeroOut" in node["class_type"]:
            continue  # nothing of the text is left behind it
        for name, value in node["inputs"].items():
            is_wanted = (
                name == side or ("cond" in name.lower() and not side) or name in ("conditioning", "text", "prompt")
            )
            is_wanted = is_wanted or name.startswith("conditioning")
            if is_wanted and isinstance(value, list) and value:
                waiting.append(str(cast("list[Any]", value)[0]))
    return found
