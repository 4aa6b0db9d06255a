"""JSON Schemas of tools, as strict providers take them."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_core.utils.json_schema import dereference_refs

Schema = dict[str, Any]

EMPTY: Schema = {"type": "object", "properties": {}}


def declarations(tools: Sequence[Any]) -> list[Schema]:
    """`tools` as `{name, description, parameters}`: tools of LangChain's, or of OpenAI's form."""
    return [_function(tool) for tool in tools]


def _function(tool: Any) -> Schema:
    if isinstance(tool, dict):
        return cast("Schema", tool).get("function") or cast("Schema", tool)
    return convert_to_openai_tool(tool)["function"]


def inlined(schema: Mapping[str, Any] | None) -> Schema:
    """`schema` without references: what they point to stands in their place, and recursion ends after one round."""
    if not schema:
        return dict(EMPTY)
    if not _has_ref(schema):
        return dict(schema)
    resolved: Any = dereference_refs(dict(schema))
    return {key: value for key, value in resolved.items() if key not in ("$defs", "definitions")}


def _has_ref(value: Any) -> bool:
    if isinstance(value, dict):
        fields = cast("Schema", value)
        return "$ref" in fields or any(map(_has_ref, fields.values()))
    return isinstance(value, list) and any(map(_has_ref, cast("list[Any]", value)))
