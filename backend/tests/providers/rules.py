"""What each provider publishes of what it takes: a request is checked as the provider would check it."""

import base64
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import orjson

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
GEMINI_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")
ANTHROPIC_ID = re.compile(r"[a-zA-Z0-9_-]+")
MISTRAL_ID = re.compile(r"[a-zA-Z0-9]{9}")
SKIPPED = ("skip_thought_signature_validator", base64.b64encode(b"skip_thought_signature_validator").decode())
GEMINI_SCHEMA = frozenset(
    [
        *("type", "format", "title", "description", "nullable", "enum", "example", "default", "anyOf", "items"),
        *("properties", "required", "propertyOrdering", "pattern", "minimum", "maximum", "minItems", "maxItems"),
        *("minLength", "maxLength", "minProperties", "maxProperties"),
    ]
)


def faults(provider: str, body: dict[str, Any], issued: frozenset[str] = frozenset()) -> list[str]:
    """What `provider` would refuse in `body`; `issued` are signatures that it gave out itself."""
    return list(_RULES[provider](body, issued))


def _openai(body: dict[str, Any], issued: frozenset[str]) -> Iterator[str]:
    open_: set[str] = set()
    for number, message in enumerate(body["messages"]):
        where, role = f"messages[{number}]", message["role"]
        if role == "tool":
            if message.get("tool_call_id") not in open_:
                yield f"{where}: a tool message must follow the call it answers"
            open_.discard(message.get("tool_call_id", ""))
            if not isinstance(message.get("content"), str | list):
                yield f"{where}.content: missing"
            continue
        if open_:
            yield f"{where}: an assistant message with 'tool_calls' must be followed by a tool message for each"
        open_ = set()
        if role == "assistant":
            calls = message.get("tool_calls")
            if calls == [] or ("tool_calls" in message and calls is None):
                yield f"{where}.tool_calls: empty"
            if not calls and not message.get("content"):
                yield f"{where}.content: expected a string, got null"
            for call in calls or ():
                open_.add(call["id"])
                yield from _call(call, where)
            if len(open_) != len(calls or ()):
                yield f"{where}: the same id twice"
        elif role not in ("user", "system", "developer"):
            yield f"{where}.role: {role!r}"
        unknown = set(message) - _FIELDS
        if unknown:
            yield f"{where}: unknown fields {sorted(unknown)}"
    if open_:
        yield "the last calls have no results"
    for tool in body.get("tools") or ():
        if not NAME.fullmatch(tool["function"]["name"]):
            yield f"tools: name {tool['function']['name']!r}"


_FIELDS = {"role", "content", "name", "tool_calls", "tool_call_id", "refusal"}


def _responses(body: dict[str, Any], issued: frozenset[str]) -> Iterator[str]:
    """https://developers.openai.com/api/docs/guides/reasoning: items of a stateless conversation, in their order."""
    if "messages" in body:
        yield from _openai(body, issued)
        return
    if body.get("store") is not False:
        yield "store: a stateless request says so"
    open_: list[str] = []
    pending = ""
    for number, item in enumerate(body["input"]):
        where, kind = f"input[{number}]", item.get("type", "message")
        if pending and not (kind == "function_call" or item.get("role") == "assistant" or kind == "reasoning"):
            yield f"{where}: Item of type 'reasoning' was provided without its required following item."
        pending = kind if kind == "reasoning" else ""
        match kind:
            case "reasoning":
                if item.get("encrypted_content") not in issued:
                    yield f"{where}: The encrypted content could not be verified."
            case "function_call":
                open_.append(item["call_id"])
                shape = {"id": item["call_id"], "function": {"name": item["name"], "arguments": item["arguments"]}}
                yield from _call(shape, where)
            case "function_call_output":
                if item["call_id"] not in open_:
                    yield f"{where}: No tool call found for function call output with call_id {item['call_id']}."
                else:
                    open_.remove(item["call_id"])
                if not isinstance(item["output"], str | list):
                    yield f"{where}.output: missing"
            case "message":
                if open_:
                    yield f"{where}: No tool output found for function call {open_[0]}."
                if item["role"] not in ("user", "assistant", "system", "developer"):
                    yield f"{where}.role: {item['role']!r}"
            case other:
                yield f"{where}: {other!r}"
    if open_:
        yield f"No tool output found for function call {open_[0]}."
    for tool in body.get("tools") or ():
        if not NAME.fullmatch(tool["name"]):
            yield f"tools: name {tool['name']!r}"


def _call(call: dict[str, Any], where: str) -> Iterator[str]:
    if not 1 <= len(call["id"]) <= 40:
        yield f"{where}: an id of {len(call['id'])} characters"
    if not NAME.fullmatch(call["function"]["name"]):
        yield f"{where}: the name {call['function']['name']!r} does not match"
    try:
        if not isinstance(orjson.loads(call["function"]["arguments"]), dict):
            yield f"{where}: arguments are no object"
    except orjson.JSONDecodeError:
        yield f"{where}: arguments are not valid JSON"


def _mistral(body: dict[str, Any], issued: frozenset[str]) -> Iterator[str]:
    yield from _openai(body, issued)
    yield from _nulls(body, "body")
    yield from _parts(body, ("text", "image_url"))
    for before, after in pairwise(body["messages"]):
        if (before["role"], after["role"]) == ("tool", "user"):
            yield "Unexpected role 'user' after role 'tool'"
    for message in body["messages"]:
        ids = [call["id"] for call in message.get("tool_calls") or ()]
        ids += [message["tool_call_id"]] if "tool_call_id" in message else []
        for call_id in ids:
            if not MISTRAL_ID.fullmatch(call_id):
                yield f"Tool call id was {call_id!r} but must be a-z, A-Z, 0-9, with a length of 9."
    if body.get("tool_choice") == "required":
        yield "tool_choice: 'auto', 'none' or 'any'"
    for field in ("stream_options", "max_completion_tokens", "seed"):
        if field in body:
            yield f"{field}: extra inputs are not permitted"


def _nulls(value: Any, where: str) -> Iterator[str]:
    if value is None:
        yield f"{where}: null"
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _nulls(item, f"{where}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _nulls(item, f"{where}[{number}]")


def _without(body: dict[str, Any], name: str) -> dict[str, Any]:
    return {**body, "messages": [{key: value for key, value in m.items() if key != name} for m in body["messages"]]}


def _parts(body: dict[str, Any], known: tuple[str, ...], *, image_urls: bool = True) -> Iterator[str]:
    """Parts of messages that the provider does not know."""
    for number, message in enumerate(body["messages"]):
        for part in message["content"] if isinstance(message.get("content"), list) else ():
            if part["type"] not in known:
                yield f"messages[{number}]: a part of type {part['type']!r}"
            if part["type"] == "image_url" and not image_urls and not part["image_url"]["url"].startswith("data:"):
                yield f"messages[{number}]: an image must be base64"


def _bigmodel(body: dict[str, Any], issued: frozenset[str]) -> Iterator[str]:
    yield from _openai(_without(body, "reasoning_content"), issued)
    yield from _parts(body, ("text", "image_url"))
    if body.get("tool_choice", "auto") != "auto":
        yield "tool_choice: only auto"


def _moonshot(body: dict[str, Any], issued: frozenset[str]) -> Iterator[str]:
    yield from _openai(_without(body, "reasoning_content"), issued)
    yield from _parts(body, ("text", "image_url"), image_urls=False)
    for number, message in enumerate(body["messages"]):
        if message.get("tool_calls") and not message.get("reasoning_content"):
            yield (
                f"thinking is enabled but reasoning_content is missing in assistant tool call message at index {number}"
            )
    if body.get("tool_choice", "auto") not in ("auto", "none"):
        yield "tool_choice 'required' is incompatible with thinking enabled"


def _openrouter(body: dict[str, Any], issued: frozenset[str]) -> Iterator[str]:
    plain = [{key: value for key, value in m.items() if key != "reasoning_details"} for m in body["messages"]]
    yield from _openai({**body, "messages": plain}, issued)
    for message in body["messages"]:
        for detail in message.get("reasoning_details") or ():
            if detail.get("data") not in issued:
                yield "reasoning_details that were not given out here"


def _ollama(body: dict[str, Any], issued: frozenset[str]) -> Iterator[str]:
    yield from _openai(_without(body, "reasoning"), issued)
    yield from _parts(body, ("text", "image_url"), image_urls=False)  # openai.go: "invalid message format"
    if "tool_choice" in body and body["tool_choice"] != "auto":
        yield "tool_choice is not supported"


def _anthropic(body: dict[str, Any], issued: frozenset[str]) -> Iterator[str]:
    if not isinstance(body.get("max_tokens"), int):
        yield "max_tokens: field required"
    messages = body["messages"]
    if not messages or messages[0]["role"] != "user":
        yield "messages: first message must use the 'user' role"
    seen: set[str] = set()
    open_: list[str] = []
    for number, message in enumerate(messages):
        where, content = f"messages.{number}", message["content"]
        if message["role"] not in ("user", "assistant"):
            yield f"{where}.role: {message['role']!r}"
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not blocks:
            yield f"{where}: must have non-empty content"
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if sorted(results) != sorted(open_):
            yield f"{where}: `tool_use` ids {open_} were found without `tool_result` blocks immediately after: {results}"
        open_ = []
        for block in blocks:
            match block["type"]:
                case "text" if not block["text"].strip():
                    yield f"{where}: text content blocks must be non-empty"
                case "tool_use":
                    open_.append(block["id"])
                    if block["id"] in seen:
                        yield f"{where}: `tool_use` ids must be unique"
                    seen.add(block["id"])
                    if not ANTHROPIC_ID.fullmatch(block["id"]) or not NAME.fullmatch(block["name"]):
                        yield f"{where}: id {block['id']!r} or name {block['name']!r} does not match"
                    if not isinstance(block["input"], dict):
                        yield f"{where}: input must be an object"
                case "thinking" if block.get("signature") not in issued:
                    yield f"{where}: invalid `signature` in `thinking` block"
                case "thinking" if set(block) - {"type", "thinking", "signature"}:
                    yield f"{where}: extra inputs in `thinking` block: {sorted(block)}"
                case "text" | "tool_use" | "tool_result" | "thinking" | "image" | "document":
                    pass
                case other:
                    yield f"{where}: {other!r}"
        if open_ and message["role"] != "assistant":
            yield f"{where}: `tool_use` blocks are the assistant's"
    if open_:
        yield "the last calls have no results"


def _gemini(body: dict[str, Any], issued: frozenset[str]) -> Iterator[str]:
    contents = body["contents"]
    if not contents or contents[0].get("role") != "user":
        yield "contents: must begin with a user turn"
    calls: list[str] = []
    last_question = max(
        (n for n, c in enumerate(contents) if c["role"] == "user" and any("text" in p for p in c["parts"])), default=0
    )
    for number, content in enumerate(contents):
        where, parts = f"contents[{number}]", content.get("parts") or []
        if not parts:
            yield f"{where}.parts: must not be empty"
        answers = [_identity(part["functionResponse"]) for part in parts if "functionResponse" in part]
        if len(answers) != len(calls) or sorted(answers) != sorted(calls):
            yield f"{where}: the number of function response parts must equal that of the function calls: {answers} {calls}"
        calls = []
        for part in parts:
            if "text" in part and not part["text"].strip() and "thoughtSignature" not in part:
                yield f"{where}: an empty text"
            if (call := part.get("functionCall")) is not None:
                if content["role"] != "model":
                    yield f"{where}: a function call outside of a model turn"
                if not GEMINI_NAME.fullmatch(call["name"]):
                    yield f"{where}: the name {call['name']!r} does not match"
                signature = part.get("thoughtSignature")
                if not calls and number > last_question and signature is None:
                    yield f"{where}: Function call is missing a thought_signature in functionCall parts."
                if signature is not None and signature not in issued and signature not in SKIPPED:
                    yield f"{where}: thought signature is not valid"
                calls.append(_identity(call))
    if calls:
        yield "the last calls have no responses"
    for tool in body.get("tools") or ():
        for declaration in tool.get("functionDeclarations") or ():
            if not GEMINI_NAME.fullmatch(declaration["name"]):
                yield f"tools: name {declaration['name']!r}"
            yield from _gemini_schema(declaration.get("parameters"), f"tools.{declaration['name']}")
            if "parameters" in declaration and "parametersJsonSchema" in declaration:
                yield f"tools.{declaration['name']}: parameters and parametersJsonSchema exclude each other"


def _identity(call: dict[str, Any]) -> str:
    """Gemini 3.5 and newer: a response has the id of its call (https://ai.google.dev/gemini-api/docs/function-calling)."""
    return f"{call['name']} {call.get('id')}"


def _gemini_schema(schema: Any, where: str) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    if unknown := set(schema) - GEMINI_SCHEMA:
        yield f"{where}: Unknown name {sorted(unknown)}: Cannot find field."
    for name, item in (schema.get("properties") or {}).items():
        yield from _gemini_schema(item, f"{where}.{name}")
    yield from _gemini_schema(schema.get("items"), f"{where}.items")
    for item in schema.get("anyOf") or ():
        yield from _gemini_schema(item, f"{where}.anyOf")


_RULES: dict[str, Callable[[dict[str, Any], frozenset[str]], Iterator[str]]] = {
    "openai": _responses,
    "mistral": _mistral,
    "tu": _openai,
    "bigmodel": _bigmodel,
    "openrouter": _openrouter,
    "moonshot": _moonshot,
    "groq": _openai,
    "ollama": _ollama,
    "lab": _openai,
    "anthropic": _anthropic,
    "gemini": _gemini,
}
NAMES = tuple(_RULES)
