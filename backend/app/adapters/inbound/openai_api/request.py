"""A request for a chat completion, checked: an error names the place, and nothing is sent anywhere before."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

import orjson

from app.core.domain.errors import InvalidFrame
from app.core.domain.text import read_json

AGENT = "atelier"
MAX_MESSAGES = 10_000
MAX_TOOLS = 512
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
Request = dict[str, Any]


class InvalidParameter(InvalidFrame):
    """A request in which something is not as it should be.

    Attributes:
        param: where.
    """

    def __init__(self, param: str, message: str) -> None:
        super().__init__(f"{param}: {message}")
        self.param = param


def parse(body: bytes) -> Request:
    """The request in `body`.

    Raises:
        InvalidParameter: it is none.
    """
    try:
        document: Any = read_json(body, "the body")
    except InvalidFrame as error:
        raise InvalidParameter("body", error.message) from error
    if not isinstance(document, dict):
        raise InvalidParameter("body", "must be a JSON object.")
    request = cast("Request", document)
    if not isinstance(request.get("model"), str) or not request["model"]:
        raise InvalidParameter("model", "name a model, for example 'openai@gpt-6-luna' or 'atelier'.")
    _check_messages(request.get("messages"))
    for name in ("stream", "parallel_tool_calls"):
        if not isinstance(request.get(name, False), bool | None):
            raise InvalidParameter(name, "must be true or false.")
    if request.get("n") not in (None, 1):
        raise InvalidParameter("n", "only one answer a request is given here.")
    for name in ("metadata", "stream_options", "response_format"):
        if not isinstance(request.get(name), dict | None):
            raise InvalidParameter(name, "must be an object.")
    _check_tools(request)
    return request


def is_agent(model: str) -> bool:
    """Whether `model` names the agent itself."""
    return model == AGENT or model.startswith(f"{AGENT}:")


def agent_model(model: str) -> str | None:
    """The model that the agent is to use; None for its default."""
    return model.partition(":")[2] or None


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise InvalidParameter("messages", "must be a list with at least one message.")
    if len(cast("list[Any]", messages)) > MAX_MESSAGES:
        raise InvalidParameter("messages", f"more than {MAX_MESSAGES:,} messages.")
    for number, message in enumerate(cast("list[Any]", messages)):
        where = f"messages[{number}]"
        if not isinstance(message, dict):
            raise InvalidParameter(where, "must be an object.")
        fields = cast("dict[str, Any]", message)
        if fields.get("role") not in _ROLES:
            raise InvalidParameter(f"{where}.role", f"must be one of {', '.join(_ROLES)}.")
        if not isinstance(fields.get("content"), str | list | None):
            raise InvalidParameter(f"{where}.content", "must be text or a list of parts.")
        _check_calls(fields.get("tool_calls"), where)


def _check_calls(calls: Any, where: str) -> None:
    if not isinstance(calls, list | None):
        raise InvalidParameter(f"{where}.tool_calls", "must be a list.")
    for index, call in enumerate(cast("list[Any]", calls or [])):
        function: Any = cast("dict[str, Any]", call).get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(cast("dict[str, Any]", function).get("name"), str):
            raise InvalidParameter(f"{where}.tool_calls[{index}].function", "must be an object with a name.")
        if not isinstance(cast("dict[str, Any]", function).get("arguments", ""), str):
            raise InvalidParameter(f"{where}.tool_calls[{index}].function.arguments", "must be JSON text.")


def _check_tools(request: Mapping[str, Any]) -> None:
    tools = request.get("tools")
    if not isinstance(tools, list | None):
        raise InvalidParameter("tools", "must be a list.")
    entries = cast("list[Any]", tools or [])
    if len(entries) > MAX_TOOLS:
        raise InvalidParameter("tools", f"more than {MAX_TOOLS} tools.")
    names = [check_tool(tool, f"tools[{number}]") for number, tool in enumerate(entries)]
    choice = request.get("tool_choice")
    if choice is None:
        return
    if isinstance(choice, str):
        if choice not in ("auto", "none", "required"):
            raise InvalidParameter("tool_choice", "must be 'auto', 'none', 'required', or name a tool.")
        if choice == "required" and not names:
            raise InvalidParameter("tool_choice", "is 'required', and there are no tools.")
        return
    function: Any = cast("dict[str, Any]", choice).get("function") if isinstance(choice, dict) else None
    name: Any = cast("dict[str, Any]", function).get("name") if isinstance(function, dict) else None
    if name not in names:
        raise InvalidParameter("tool_choice", f"names {name!r}, which is not among the tools.")


def check_tool(tool: Any, where: str) -> str:
    """The name of a tool that is defined as it should be.

    Raises:
        InvalidParameter: it is not; the error names the place.
    """
    function: Any = cast("dict[str, Any]", tool).get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or cast("dict[str, Any]", tool).get("type") != "function":
        raise InvalidParameter(where, "must be {'type': 'function', 'function': {…}}.")
    fields = cast("dict[str, Any]", function)
    name = fields.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidParameter(f"{where}.function.name", "must be 1 to 64 letters, digits, '_' or '-'.")
    if not isinstance(fields.get("description"), str | None):
        raise InvalidParameter(f"{where}.function.description", "must be text.")
    parameters = fields.get("parameters")
    if parameters is not None:
        fault = _schema_fault(orjson.dumps(parameters))
        if fault is not None:
            path, message = fault
            raise InvalidParameter(f"{where}.function.parameters{path}", message)
    return name


@lru_cache(maxsize=1_024)
def _schema_fault(schema: bytes) -> tuple[str, str] | None:
    """Where and why `schema` is no JSON Schema of an object; None where it is one."""
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator

    document: Any = orjson.loads(schema)
    if not isinstance(document, dict):
        return "", "must be a JSON Schema, an object."
    if cast("dict[str, Any]", document).get("type", "object") != "object":
        return ".type", "the parameters of a tool are an object: its type must be 'object'."
    try:
        Draft202012Validator.check_schema(cast("dict[str, Any]", document))  # pyright: ignore[reportUnknownMemberType]
    except SchemaError as error:
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
        return path, f"is not valid JSON Schema: {error.message[:300]}"
    return None
