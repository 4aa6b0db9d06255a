"""Writes what the frontend knows of the declared tools: JSON Schemas, TypeScript types and Zod schemas.

python scripts/tool_schemas.py           writes frontend/src/generated
python scripts/tool_schemas.py --check   fails where what is written there is not what would be written
"""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "backend"))

from app.core.domain.declared_tools import DECLARED_TOOLS, ENVIRONMENT_TOOLS, GRAPH_TOOLS, SKILL_TOOLS  # noqa: E402

FOLDER = ROOT / "frontend" / "src" / "generated"
HEAD = "// Written by scripts/tool_schemas.py from backend/app/core/domain/declared_tools.py. Do not edit.\n"
Schema = dict[str, Any]


def schema_of(name: str) -> Schema:
    """The JSON Schema of a tool's parameters, whole: nothing in it refers to elsewhere."""
    schema = DECLARED_TOOLS[name].parameters.model_json_schema()
    definitions: dict[str, Schema] = schema.pop("$defs", {})
    return _plain(schema, definitions)


def _plain(node: Any, definitions: dict[str, Schema]) -> Any:
    """`node` with references laid open and titles taken away."""
    if isinstance(node, list):
        return [_plain(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        known = definitions[node["$ref"].rpartition("/")[2]]
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return _plain({**known, **rest}, definitions)
    kept = {key: value for key, value in node.items() if key != "title" or isinstance(value, dict)}
    if "properties" in kept:
        properties = {name: _plain(value, definitions) for name, value in kept["properties"].items()}
        return {**{k: _plain(v, definitions) for k, v in kept.items() if k != "properties"}, "properties": properties}
    return {key: _plain(value, definitions) for key, value in kept.items()}


def zod_of(schema: Schema) -> str:
    """A Zod schema that takes what `schema` takes."""
    if "anyOf" in schema:
        options = schema["anyOf"]
        kinds = {option.get("type") for option in options}
        if "number" in kinds:  # whole numbers are numbers
            options = [option for option in options if option.get("type") != "integer"]
        nullable = "null" in kinds
        rest = [zod_of(option) for option in options if option.get("type") != "null"]
        inner = rest[0] if len(rest) == 1 else f"z.union([{', '.join(rest)}])"
        return f"{inner}.nullable()" if nullable else inner
    match schema.get("type"):
        case "object" if "properties" in schema or schema.get("additionalProperties") is False:
            required = set(schema.get("required", ()))
            fields = [
                f"{json.dumps(name) if not name.isidentifier() else name}: {_field(value, name in required)}"
                for name, value in schema.get("properties", {}).items()
            ]
            return f"z.strictObject({{ {', '.join(fields)} }})" if fields else "z.strictObject({})"
        case "object":
            return "z.record(z.string(), z.unknown())"
        case "array":
            return f"z.array({zod_of(schema['items'])})"
        case "string":
            return "z.string()" + _text_limits(schema)
        case "integer":
            return "z.int()" + _number_limits(schema)
        case "number":
            return "z.number()" + _number_limits(schema)
        case "boolean":
            return "z.boolean()"
        case "null":
            return "z.null()"
        case None:
            return "z.unknown()"
        case kind:
            raise ValueError(f"no Zod schema is known for {kind}: {schema}")


def _field(schema: Schema, is_required: bool) -> str:
    field = zod_of(schema)
    if "description" in schema:
        field += f".describe({json.dumps(schema['description'], ensure_ascii=False)})"
    return field if is_required else f"{field}.optional()"


def _text_limits(schema: Schema) -> str:
    limits = ""
    if schema.get("minLength"):
        limits += f".min({schema['minLength']})"
    if "maxLength" in schema:  # Python counts characters, JavaScript halves of some
        limits += (
            f'.refine((text) => [...text].length <= {schema["maxLength"]}, "at most {schema["maxLength"]} characters")'
        )
    if "pattern" in schema:
        limits += f".regex(/{schema['pattern']}/)"
    return limits


def _number_limits(schema: Schema) -> str:
    names = {"minimum": "gte", "maximum": "lte", "exclusiveMinimum": "gt", "exclusiveMaximum": "lt"}
    return "".join(
        f".{zod}({schema[name]:g})" if isinstance(schema[name], float) else f".{zod}({schema[name]})"
        for name, zod in names.items()
        if name in schema
    )


def files() -> dict[str, str]:
    """What is to be written, by file name."""
    schemas = {
        name: {"description": tool.description, "inputSchema": schema_of(name)} for name, tool in DECLARED_TOOLS.items()
    }
    lines = [HEAD, 'import { z } from "zod";', ""]
    for name, tool in DECLARED_TOOLS.items():
        lines += [
            f"/** {tool.description} */",
            f"export const {name} = {zod_of(schemas[name]['inputSchema'])};",
            f"export type {name[0].upper()}{name[1:]} = z.infer<typeof {name}>;",
            "",
        ]
    for group, tools in (
        ("graphTools", GRAPH_TOOLS),
        ("skillTools", SKILL_TOOLS),
        ("environmentTools", ENVIRONMENT_TOOLS),
    ):
        lines += [f"export const {group} = {{ {', '.join(tools)} }} as const;", ""]
    return {
        "tools.ts": "\n".join(lines).rstrip() + "\n",
        "tools.json": json.dumps(schemas, indent=2, ensure_ascii=False) + "\n",
    }


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` see that they are as they would be written; the exit code."""
    wanted = files()
    if "--check" in arguments:
        stale = [
            n for n, text in wanted.items() if not (FOLDER / n).is_file() or (FOLDER / n).read_text("utf-8") != text
        ]
        if stale:
            print(f"Stale: {', '.join(stale)}. Say make schemas, and commit what it writes.", file=sys.stderr)
        return 1 if stale else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
