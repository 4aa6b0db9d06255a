"""JSON Schemas of tools, as strict providers take them."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

Schema = dict[str, Any]

EMPTY: Schema = {"type": "object", "properties": {}}


def declarations(tools: Sequence[Any]) -> list[Schema]:
    """`tools` as `{name, description, parameters}`: tools of LangChain's, or of OpenAI's form."""
    return [_function(tool) for tool in tools]


def _function(tool: Any) -> Schema:
    if isinstance(tool, dict):
        return cast("Schema", tool).get("function") or cast("Schema", tool)
    from langchain_core.utils.function_calling import convert_to_openai_tool  # LangChain: late, like the providers

    return convert_to_openai_tool(tool)["function"]


def inlined(schema: Mapping[str, Any] | None) -> Schema:
    """`schema` without references: what they point to stands in their place, and recursion ends after one round."""
    if not schema:
        return dict(EMPTY)
    if not _has_ref(schema):
        return dict(schema)
    from langchain_core.utils.json_schema import dereference_refs

    resolved: Any = dereference_refs(dict(schema))
    return {key: value for key, value in resolved.items() if key not in ("$defs", "definitions")}


def _has_ref(value: Any) -> bool:
    if isinstance(value, dict):
        fields = cast("Schema", value)
        return "$ref" in fields or any(map(_has_ref, fields.values()))
    return isinstance(value, list) and any(map(_has_ref, cast("list[Any]", value)))


def typed(schema: Any) -> Schema:
    """`schema` with a type everywhere: Moonshot refuses properties without one and schemas that are a boolean.

    https://github.com/MoonshotAI/kimi-cli/issues/2061
    """
    if not isinstance(schema, dict):
        return {"anyOf": [{"type": kind} for kind in ("string", "number", "boolean", "object", "array")]}
    kept = dict(cast("Schema", schema))
    for name in ("properties", "$defs"):
        if isinstance(kept.get(name), dict):
            kept[name] = {key: typed(value) for key, value in kept[name].items()}
    if "items" in kept:
        kept["items"] = typed(kept["items"])
    for name in ("anyOf", "oneOf", "allOf"):
        if isinstance(kept.get(name), list):
            kept[name] = [typed(item) for item in kept[name]]
    if isinstance(kept.get("additionalProperties"), dict):
        kept["additionalProperties"] = typed(kept["additionalProperties"])
    if not any(name in kept for name in ("type", "anyOf", "oneOf", "allOf", "enum", "const", "$ref")):
        if "properties" in kept:
            kept["type"] = "object"
        elif "items" in kept:
            kept["type"] = "array"
        else:
            kept |= typed(True)
    return kept
