"""An MCP server for tests that does what it should not: `python -m tests.comfyui.mcp_unruly TOOL…` has the tools that are named."""

import base64
import json
import os
import sys
from typing import Any

TEXT = {"type": "object", "properties": {}}
MIB = 1024 * 1024


def long_text() -> dict[str, Any]:
    return {"content": [{"type": "text", "text": "x" * (5 * MIB)}]}


def huge_line() -> dict[str, Any]:
    return {"content": [{"type": "text", "text": "x" * (20 * MIB)}]}


def matches() -> dict[str, Any]:
    return {"content": [], "structuredContent": {"a": "a" * 40 + "!"}}


def misfits() -> dict[str, Any]:
    return {"content": [], "structuredContent": {"a": 7}}


def blob() -> dict[str, Any]:
    resource = {
        "uri": "file:///a/report.pdf",
        "mimeType": "application/pdf",
        "blob": base64.b64encode(b"%PDF").decode(),
    }
    return {"content": [{"type": "resource", "resource": resource}]}


def many_pictures() -> dict[str, Any]:
    picture = {"type": "image", "mimeType": "image/png", "data": base64.b64encode(b"png").decode()}
    return {"content": [picture] * 40 + [{**picture, "data": "no base64!"}]}


def flood() -> dict[str, Any]:
    print("no message\n" * 1_000, file=sys.stderr)
    for number in range(700):
        say({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "flood"}})
        say(
            {
                "jsonrpc": "2.0",
                "method": "notifications/progress",
                "params": {"progressToken": token, "progress": number},
            }
        )
    print("a line that is no message")
    return {"content": [{"type": "text", "text": "through"}]}


def unreadable() -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for _ in range(300):
        nested = {"x": nested}
    return {"content": [], "structuredContent": nested}


TOOLS = {
    tool.__name__: tool for tool in (long_text, huge_line, matches, misfits, blob, many_pictures, flood, unreadable)
}
SCHEMAS = {
    "matches": {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}},
    "misfits": {"type": "object", "properties": {"a": {"type": "string"}}},
}
token: Any = None


def listed() -> list[dict[str, Any]]:
    if "everything" in sys.argv:
        many = [{"name": f"tool-{number}", "inputSchema": TEXT} for number in range(300)]
        deep: dict[str, Any] = {}
        for _ in range(50):
            deep = {"properties": {"x": deep}}
        large = {**TEXT, "description": "x" * 100_000}
        return [
            {"name": "large", "inputSchema": large},
            {"name": "deep", "inputSchema": {"type": "object", **deep}},
            {"name": "twice", "inputSchema": TEXT, "description": "d" * 10_000},
            {"name": "twice", "inputSchema": TEXT},
            *many,
        ]
    names = sys.argv[1:]
    return [
        {"name": name, "inputSchema": TEXT} | ({"outputSchema": SCHEMAS[name]} if name in SCHEMAS else {})
        for name in names
    ]


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main() -> None:
    global token
    for line in sys.stdin:
        request = json.loads(line)
        if "id" not in request:
            continue
        head = {"jsonrpc": "2.0", "id": request["id"]}
        params = request.get("params") or {}
        match request["method"]:
            case "initialize":
                info = {"name": "unruly", "version": "1"}
                version = params["protocolVersion"]
                say({**head, "result": {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}})
            case "tools/list":
                say({**head, "result": {"tools": listed()}})
            case "tools/call":
                token = params.get("_meta", {}).get("progressToken")
                tool = TOOLS.get(params["name"])
                text = {"content": [{"type": "text", "text": f"{os.environ.get('WHO')} ran {params['name']}"}]}
                say({**head, "result": tool() if tool is not None else text})
            case method:
                say({**head, "error": {"code": -32601, "message": f"no method {method}"}})


if __name__ == "__main__":
    main()
