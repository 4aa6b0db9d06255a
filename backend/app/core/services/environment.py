"""What the environment tools answer: what is installed in ComfyUI, what it can, and what it does."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from app.core.domain.declared_tools import (
    CancelJob,
    GetAvailableModels,
    Nothing,
    ReadDocumentation,
    SearchInstalledNodes,
)
from app.core.domain.errors import NotFound
from app.core.domain.node_types import DYNAMIC_COMBO, Input, inputs_of
from app.core.ports import IEnvironment

DEFAULT_LIMIT = 20
MAX_CHOICES = 30


class Environment:
    """The environment tools over one ComfyUI."""

    def __init__(self, environment: IEnvironment) -> None:
        self._environment = environment

    async def call(self, name: str, parameters: Any) -> str:
        """What the tool `name` answers.

        Raises:
            NotFound: there is no such job.
            RunnerUnavailable, RunnerTimeout, WorkflowFailed: ComfyUI cannot be asked.
        """
        runs: dict[str, Callable[[Any], Awaitable[str]]] = {
            "searchInstalledNodes": self.search_nodes,
            "getAvailableModels": self.available_models,
            "readDocumentation": self.read_documentation,
            "refreshEnvironment": self.refresh,
            "getQueue": self.queue,
            "cancelJob": self.cancel_job,
            "systemStats": self.system_stats,
        }
        return await runs[name](parameters)

    async def search_nodes(self, given: SearchInstalledNodes) -> str:
        """The installed nodes that match a query best."""
        query, category, limit = given.query, given.category, given.limit
        info = await self._environment.object_info()
        words = query.lower().split()
        scored = [
            (score, name, node)
            for name, node in info.items()
            if (score := _score(words, name, node))
            and (not category or category.lower() in str(node.get("category", "")).lower())
        ]
        scored.sort(key=lambda found: (-found[0], found[1]))
        shown = scored[: limit or DEFAULT_LIMIT]
        return _json(
            {
                "total": len(scored),
                "nodes": [
                    {
                        "type": name,
                        "title": node.get("display_name") or name,
                        "category": node.get("category"),
                        "inputs": {entry.name: entry.kind for entry in inputs_of(node) if entry.is_required},
                        "outputs": node.get("output") or [],
                        "description": str(node.get("description") or "")[:200],
                    }
                    for _, name, node in shown
                ],
            }
        )

    async def available_models(self, given: GetAvailableModels) -> str:
        """The model files by folder."""
        return _json(dict(await self._environment.models(given.category or None)))

    async def read_documentation(self, given: ReadDocumentation) -> str:
        """A node's inputs, outputs and help."""
        topic = given.topic
        info = await self._environment.object_info()
        node: Any = info.get(topic)
        if node is None:
            lowered = {name.lower(): name for name in info} | {
                str(n.get("display_name", "")).lower(): name for name, n in info.items()
            }
            name = lowered.get(topic.lower())
            if name is None:
                return await self.search_nodes(SearchInstalledNodes.model_validate({"query": topic}))
            topic, node = name, info[name]
        return _json(
            {
                "type": topic,
                "title": node.get("display_name") or topic,
                "category": node.get("category"),
                "description": node.get("description") or "",
                "inputs": {entry.name: _described(entry) for entry in inputs_of(node)},
                "outputs": [
                    {"name": name, "type": kind}
                    for name, kind in zip(node.get("output_name") or [], node.get("output") or [], strict=False)
                ],
                "is_output": bool(node.get("output_node")),
            }
        )

    async def refresh(self, _: Nothing) -> str:
        """Read anew what is installed."""
        info = await self._environment.object_info(refresh=True)
        return _json({"nodes": len(info)})

    async def queue(self, _: Nothing) -> str:
        """The queue."""
        return _json(dict(await self._environment.queue()))

    async def cancel_job(self, given: CancelJob) -> str:
        """Stop a job."""
        if not await self._environment.cancel(given.promptId):
            raise NotFound("ComfyUI has no such job, neither running nor waiting.")
        return "Stopped."

    async def system_stats(self, _: Nothing) -> str:
        """Version, memory and devices."""
        return _json(dict(await self._environment.system_stats()))


def _score(words: list[str], name: str, node: Mapping[str, Any]) -> int:
    """How well a node matches: its name counts most, then its title, category and description."""
    title, rest = str(node.get("display_name") or ""), f"{node.get('category', '')} {node.get('description', '')}"
    score = 0
    for word in words:
        places = ((8, name), (5, title), (1, rest))
        best = max((weight for weight, text in places if word in text.lower()), default=0)
        if not best:
            return 0
        score += best
    return score + (4 if name.lower() == "".join(words) else 0)


def _described(entry: Input) -> dict[str, Any]:
    described: dict[str, Any] = {"required": entry.is_required, "type": entry.kind}
    options = entry.options
    # The choices of a dynamic combo bring inputs of their own: they are told whole.
    listed = options["options"] if entry.kind == DYNAMIC_COMBO and entry.choices else entry.choices
    if listed is not None:
        described["choices"] = listed[:MAX_CHOICES]
        if len(listed) > MAX_CHOICES:
            described["more_choices"] = len(listed) - MAX_CHOICES
    return described | {
        key: options[key] for key in ("default", "min", "max", "step", "tooltip", "multiline") if key in options
    }


def _json(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()
