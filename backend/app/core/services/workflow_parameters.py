"""The inputs of a workflow that people set, as the parameters of a tool: prompts, media, seeds, sizes, models.

Where the node types are known, what counts is how a node declares an input and where its value leads; without them, its name.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from app.core.domain.node_types import SEEDS, ObjectInfo, options_of
from app.core.domain.node_widgets import declared_widgets
from app.core.domain.workflow import IMAGE_NODES, MAX_SEED, MEDIA_INPUTS, Workflow
from app.core.services.workflow_check import is_link

MAX_FOLLOWED = 500
"""How many nodes are followed from a text to find out what it is for."""

PROMPTS = frozenset(
    {
        *("prompt", "text", "text_g", "text_l", "clip_g", "clip_l", "t5xxl", "text_prompt", "prompt_text"),
        *(
            "positive",
            "positive_prompt",
            "caption",
            "lyrics",
            "tags",
            "texture_prompt",
            "text_style_prompt",
            "user_prompt",
        ),
    }
)
NEGATIVES = frozenset({"negative_prompt", "negative", "text_negative"})
_OWN_NAMES = {"lyrics": "The lyrics to sing.", "tags": "The style, as tags."}
_TEXTS = ("PrimitiveString", "PrimitiveStringMultiline", "StringConcatenate", "String", "Text Multiline")
_NUMBERS = {"PrimitiveInt": "integer", "PrimitiveFloat": "number"}

_SIMPLE: dict[str, tuple[str, str, str]] = {
    "steps": ("steps", "integer", "How many steps are taken."),
    "cfg": ("cfg", "number", "How closely the prompt is followed."),
    "guidance": ("guidance", "number", "How closely the prompt is followed."),
    "denoise": ("denoise", "number", "How much of the input is changed, from 0 to 1."),
    "width": ("width", "integer", "The width, in pixels."),
    "height": ("height", "integer", "The height, in pixels."),
    "batch_size": ("batch_size", "integer", "How many are made at once."),
    "length": ("frames", "integer", "How many frames are made."),
    "fps": ("fps", "number", "Frames a second."),
    "frame_rate": ("fps", "number", "Frames a second."),
    "duration": ("duration", "number", "The length, in seconds."),
    "seconds": ("duration", "number", "The length, in seconds."),
    "ckpt_name": ("model", "string", "The model's file."),
    "unet_name": ("model", "string", "The model's file."),
    "lora_name": ("lora", "string", "The LoRA's file."),
    "strength_model": ("lora_strength", "number", "How strong the LoRA is."),
}
_SIZES = frozenset({"width", "height", "batch_size", "length"})

_PARAM = re.compile(r"^PARAM_(?:(?:STR|STRING|TEXT|INT|INTEGER|FLOAT|BOOL|BOOLEAN|IMAGE|VIDEO|AUDIO)_)?(\w+)$")
_DOLLAR = re.compile(r"^\$([\w-]+)\.([\w.]+)(!?)(?::(.*))?$", re.DOTALL)
_LABEL = re.compile(r"^<([^:<>]+):([\w.]+)(?::\d+)?>$")


@dataclass(slots=True)
class Parameters:
    """What was found.

    Attributes:
        fields: the parameters, as a tool's definition has them.
        other_texts: texts that are not parameters, as `node.input`, for people to choose from where there is no prompt.
    """

    fields: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    other_texts: list[str] = field(default_factory=list[str])

    @property
    def has_prompt(self) -> bool:
        """Whether a prompt is among them."""
        return any(one["name"] in ("prompt", "lyrics", "tags") for one in self.fields)


def parameters_of(workflow: Workflow, object_info: ObjectInfo | None) -> Parameters:
    """The parameters of a workflow: prompts first, then media, seeds, and what its samplers, sizes and models are set to."""
    return _Finder(workflow, object_info or {}).find()


@dataclass(frozen=True, slots=True)
class _Input:
    """A value that is set on a node.

    Attributes:
        key: the last part of its name, `prompt` of `model.prompt`.
        options: as its node type declares them.
    """

    node: str
    class_type: str
    name: str
    value: Any
    options: Mapping[str, Any]

    @property
    def key(self) -> str:
        return self.name.rpartition(".")[2]


class _Finder:
    def __init__(self, workflow: Workflow, object_info: ObjectInfo) -> None:
        self._workflow = workflow
        self._inputs = list(_set_values(workflow, object_info))
        self._uses: dict[str, list[tuple[str, str]]] = {}
        for node_id, node in workflow.items():
            for name, value in node["inputs"].items():
                if is_link(value):
                    self._uses.setdefault(str(value[0]), []).append((node_id, name))
        self._found = Parameters()
        self._names: set[str] = set()
        self._numbers: Counter[str] = Counter()
        self._done: set[tuple[str, str]] = set()
        self._nodes_done: set[str] = set()

    def find(self) -> Parameters:
        """Look for each kind in turn; an input is a parameter once."""
        for one in self._inputs:
            self._by_title(one)
        texts = [one for one in self._inputs if isinstance(one.value, str) and self._is_prompt(one)]
        is_negative = [self._is_negative(one) for one in texts]
        negative = [one for one, is_one in zip(texts, is_negative, strict=True) if is_one]
        positive = [one for one, is_one in zip(texts, is_negative, strict=True) if not is_one]
        for place, one in enumerate(sorted(positive, key=_order)):
            own = _OWN_NAMES.get(one.key)
            name, about = (one.key, own) if own else ("prompt", "What to make.")
            self._add(one, name, "string", about, required=place == 0, **({} if place == 0 else {"default": one.value}))
        for one in negative:
            self._add(one, "negative_prompt", "string", "What to keep out.", default=one.value)
        for one in self._inputs:
            self._media(one)
        for one in self._inputs:
            self._seed(one)
        for one in self._inputs:
            self._simple(one)
        self._found.other_texts = [
            f"{self._title(one.node)} (node {one.node}), {one.name}"
            for one in self._inputs
            if isinstance(one.value, str) and one.options.get("multiline") and (one.node, one.name) not in self._done
        ]
        return self._found

    # --- kinds

    def _by_title(self, one: _Input) -> None:
        """People name parameters in titles: `PARAM_INT_WIDTH`, `$name.input!:description`, `<Label:input:1>`."""
        title = self._title(one.node)
        kind = _kind(one.value)
        if kind is None:
            return
        if (match := _PARAM.match(title)) and one.node not in self._nodes_done:
            self._add(one, match[1].lower(), kind, "", default=one.value)
        elif (match := _DOLLAR.match(title)) and match[2] == one.name:
            about = (match[4] or "").strip()
            required = {"required": True} if match[3] else {"default": one.value}
            self._add(one, match[1], kind, about, **required)
        elif (match := _LABEL.match(title)) and match[2] == one.name:
            name = re.sub(r"\W+", "_", match[1].strip().lower()).strip("_")
            self._add(one, name or one.key, kind, match[1].strip(), default=one.value)

    def _is_prompt(self, one: _Input) -> bool:
        if one.key in PROMPTS | NEGATIVES:
            return "multiline" not in one.options or bool(one.options["multiline"])
        if one.key == "system_prompt" or one.class_type not in _TEXTS:
            return False
        return any(name.rpartition(".")[2] in PROMPTS for _, name in self._reached(one.node))

    def _is_negative(self, one: _Input) -> bool:
        """Whether a text is there for what to keep out: by its name, or because it leads to a `negative` input alone."""
        if one.key in NEGATIVES:
            return True
        ends = {name.rpartition(".")[2] for _, name in self._reached(one.node)}
        return bool(ends & NEGATIVES) and not ends & {"positive", "conditioning_positive"} and "guider" not in ends

    def _media(self, one: _Input) -> None:
        kind = next((kind for kind in ("image", "video", "audio") if one.options.get(f"{kind}_upload")), None)
        if kind is None and MEDIA_INPUTS.get(one.class_type) == one.name:
            kind = "image" if one.class_type in IMAGE_NODES else one.name
        if kind is None or not isinstance(one.value, str):
            return
        name = "mask" if one.class_type == "LoadImageMask" else kind
        self._add(one, name, "string", f"The {name} to work on.", required=True)

    def _seed(self, one: _Input) -> None:
        is_seed = one.key in SEEDS or (one.key == "value" and one.options.get("control_after_generate") is True)
        if not is_seed or not isinstance(one.value, int) or isinstance(one.value, bool):
            return
        low, high = int(one.options.get("min", 0)), int(one.options.get("max", MAX_SEED))
        limits = {"minimum": max(low, 0), "maximum": min(high, MAX_SEED)} if high < MAX_SEED or low > 0 else {}
        self._add(one, "seed", "integer", "Where chance begins; another one each time.", generator="seed", **limits)

    def _simple(self, one: _Input) -> None:
        key = one.key
        if one.class_type in _NUMBERS and key == "value":
            key = next((name for name in map(_last, self._uses.get(one.node, ())) if name in _SIMPLE), key)
        elif key in _SIZES and not (
            "Empty" in one.class_type
            or "batch_size" in self._workflow[one.node]["inputs"]
            or "Latent" in one.class_type
        ):
            return
        if key in _SIMPLE and _kind(one.value) is not None:
            name, kind, about = _SIMPLE[key]
            self._add(one, name, kind, about, default=one.value)

    # --- inside

    def _add(self, one: _Input, wanted: str, kind: str, about: str, **more: Any) -> None:
        if (one.node, one.name) in self._done:
            return
        self._done.add((one.node, one.name))
        self._nodes_done.add(one.node)
        self._numbers[wanted] += 1
        while (name := _numbered(wanted, self._numbers[wanted])) in self._names:
            self._numbers[wanted] += 1
        number = self._numbers[wanted]
        self._names.add(name)
        title = self._title(one.node)
        text = about if number == 1 or not title else f"{about} Of {title} (node {one.node}).".strip()
        if more.get("required") is False:
            del more["required"]
        mapping = {"node": one.node, "attribute": f"inputs.{one.name}"}
        self._found.fields.append({"name": name, "type": kind, "description": text, **more, "mapping": mapping})

    def _title(self, node_id: str) -> str:
        meta: dict[str, Any] = self._workflow[node_id].get("_meta") or {}
        return str(meta.get("title") or self._workflow[node_id]["class_type"])

    def _reached(self, node_id: str) -> Iterator[tuple[str, str]]:
        """The inputs that a node's outputs lead to, through all nodes behind it that pass text or conditioning on."""
        waiting, seen = [node_id], {node_id}
        while waiting and len(seen) < MAX_FOLLOWED:
            for user, name in self._uses.get(waiting.pop(0), ()):
                yield user, name
                class_type = self._workflow[user]["class_type"]
                if user in seen or _last((user, name)) in _ENDS or "ZeroOut" in class_type:
                    continue
                seen.add(user)
                waiting.append(user)


_ENDS = frozenset({"positive", "negative", "guider", "samples", "latent_image", "images", "image", "model"})
"""Inputs behind which a text is no longer a text."""


def _set_values(workflow: Workflow, object_info: ObjectInfo) -> Iterator[_Input]:
    """Every value that is set on a node."""
    for node_id, node in workflow.items():
        class_type: str = node["class_type"]
        info = object_info.get(class_type)
        declared = dict(declared_widgets(class_type, info, node["inputs"])) if info is not None else {}
        for name, value in node["inputs"].items():
            if not is_link(value):
                yield _Input(node_id, class_type, name, value, options_of(declared.get(name)))


def _order(one: _Input) -> bool:
    """Texts come before lyrics and tags."""
    return one.key in _OWN_NAMES


def _last(use: tuple[str, str]) -> str:
    return use[1].rpartition(".")[2]


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}_{number}"


def _kind(value: Any) -> str | None:
    """The JSON type of a value that can be a parameter."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    return {str: "string", float: "number"}.get(cast("type[Any]", type(value)))


def names(inputs: Iterable[str], shown: int = 5) -> str:
    """Some of `inputs` in words."""
    listed = list(inputs)
    return "; ".join(listed[:shown]) + (" …" if len(listed) > shown else "")
