"""Tools that look into ComfyUI: what is installed, what it can, and what it does."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import orjson
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from pydantic import BaseModel, Field

from app.core.domain.errors import AtelierError
from app.core.ports import IEnvironment

DEFAULT_LIMIT, MAX_LIMIT = 20, 100
MAX_CHOICES = 30


class CancelJob(BaseModel):
    """Parameters of `cancelJob`."""

    promptId: str = Field(min_length=1, description="The job's id, as getQueue tells it.")  # noqa: N815


class SearchInstalledNodes(BaseModel):
    """Parameters of `searchInstalledNodes`."""

    query: str = Field(min_length=1, description="Words to look for in names, titles and descriptions.")
    category: str | None = Field(None, description="Only nodes whose category has this in it.")
    limit: int | None = Field(None, ge=1, le=MAX_LIMIT, description=f"How many to list; {DEFAULT_LIMIT} when left out.")


class GetAvailableModels(BaseModel):
    """Parameters of `getAvailableModels`."""

    category: str | None = Field(None, description="A folder, such as checkpoints or loras; all when left out.")


class ReadDocumentation(BaseModel):
    """Parameters of `readDocumentation`."""

    topic: str = Field(min_length=1, description="A node's class or title, for example KSampler.")
    source: str | None = Field(None, description="Where to look; ComfyUI itself when left out.")


class Nothing(BaseModel):
    """No parameters."""


class EnvironmentTools:
    """The tools over one ComfyUI."""

    def __init__(self, environment: IEnvironment) -> None:
        self._environment = environment

    def tools(self) -> list[BaseTool]:
        """All of them, as LangChain tools."""
        return [
            _tool(
                "searchInstalledNodes",
                "Search the node types that are installed in ComfyUI.",
                SearchInstalledNodes,
                self.search_nodes,
            ),
            _tool("getAvailableModels", "List the model files in ComfyUI.", GetAvailableModels, self.available_models),
            _tool(
                "readDocumentation",
                "Read a node's inputs, outputs and help text.",
                ReadDocumentation,
                self.read_documentation,
            ),
            _tool("refreshEnvironment", "Read anew what is installed in ComfyUI.", Nothing, self.refresh),
            _tool("getQueue", "What ComfyUI runs now, and what waits behind it.", Nothing, self.queue),
            _tool("cancelJob", "Stop a job in ComfyUI, or take it out of the queue.", CancelJob, self.cancel_job),
            _tool("systemStats", "ComfyUI's version, memory and devices.", Nothing, self.system_stats),
        ]

    async def search_nodes(self, query: str, category: str | None = None, limit: int | None = None) -> str:
        """The installed nodes that match a query best."""
        info = await self._environment.object_info()
        words = query.lower().split()
        scored = [
            (score, name, node)
            for name, node in info.items()
            if (score := _score(words, name, node))
            and (not category or category.lower() in str(node.get("category", "")).lower())
        ]
        scored.sort(key=lambda found: (-found[0], found[1]))
        shown = scored[: min(limit or DEFAULT_LIMIT, MAX_LIMIT)]
        return _json(
            {
                "total": len(scored),
                "nodes": [
                    {
                        "type": name,
                        "title": node.get("display_name") or name,
                        "category": node.get("category"),
                        "inputs": _kinds(node),
                        "outputs": node.get("output") or [],
                        "description": str(node.get("description") or "")[:200],
                    }
                    for _, name, node in shown
                ],
            }
        )

    async def available_models(self, category: str | None = None) -> str:
        """The model files by folder."""
        return _json(dict(await self._environment.models(category)))

    async def read_documentation(self, topic: str, source: str | None = None) -> str:
        """A node's inputs, outputs and help."""
        info = await self._environment.object_info()
        node: Any = info.get(topic)
        if node is None:
            lowered = {name.lower(): name for name in info} | {
                str(n.get("display_name", "")).lower(): name for name, n in info.items()
            }
            name = lowered.get(topic.lower())
            if name is None:
                return await self.search_nodes(topic)
            topic, node = name, info[name]
        declared: dict[str, Any] = node.get("input") or {}
        return _json(
            {
                "type": topic,
                "title": node.get("display_name") or topic,
                "category": node.get("category"),
                "description": node.get("description") or "",
                "inputs": {
                    name: {"required": kind == "required", **_described(what)}
                    for kind in ("required", "optional")
                    for name, what in _inputs(declared, kind)
                },
                "outputs": [
                    {"name": name, "type": kind}
                    for name, kind in zip(node.get("output_name") or [], node.get("output") or [], strict=False)
                ],
                "is_output": bool(node.get("output_node")),
            }
        )

    async def refresh(self) -> str:
        """Read anew what is installed."""
        info = await self._environment.object_info(refresh=True)
        return _json({"nodes": len(info)})

    async def queue(self) -> str:
        """The queue."""
        return _json(dict(await self._environment.queue()))

    async def cancel_job(self, promptId: str) -> str:  # noqa: N803 - the name that models know
        """Stop a job."""
        if not await self._environment.cancel(promptId):
            raise ToolException("ComfyUI has no such job, neither running nor waiting.")
        return "Stopped."

    async def system_stats(self) -> str:
        """Version, memory and devices."""
        return _json(dict(await self._environment.system_stats()))


def _tool(name: str, description: str, parameters: Any, run: Callable[..., Awaitable[str]]) -> BaseTool:
    async def guarded(**arguments: Any) -> str:
        try:
            return await run(**arguments)
        except AtelierError as error:
            raise ToolException(error.message) from error

    return StructuredTool(name=name, description=description, args_schema=parameters, coroutine=guarded)


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


def _kinds(node: Mapping[str, Any]) -> dict[str, str]:
    return {name: _kind(what) for name, what in _inputs(node.get("input") or {}, "required")}


def _inputs(declared: Mapping[str, Any], kind: str) -> list[tuple[str, Any]]:
    found: dict[str, Any] = declared.get(kind) or {}
    return list(found.items())


def _kind(declared: Any) -> str:
    parts = cast("list[Any]", declared) if isinstance(declared, list) else [declared]
    kind: Any = parts[0] if parts else ""
    return "COMBO" if isinstance(kind, list) else str(kind)


def _described(declared: Any) -> dict[str, Any]:
    parts = cast("list[Any]", declared) if isinstance(declared, list) else [declared]
    options = cast("dict[str, Any]", parts[1]) if len(parts) > 1 and isinstance(parts[1], dict) else {}
    described: dict[str, Any] = {"type": _kind(declared)}
    first: Any = parts[0] if parts else None
    listed = cast("list[Any]", first) if isinstance(first, list) else options.get("options")
    if isinstance(listed, list):
        listed = cast("list[Any]", listed)
        described["choices"] = listed[:MAX_CHOICES]
        if len(listed) > MAX_CHOICES:
            described["more_choices"] = len(listed) - MAX_CHOICES
    return described | {
        key: options[key] for key in ("default", "min", "max", "step", "tooltip", "multiline") if key in options
    }


def _json(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()
