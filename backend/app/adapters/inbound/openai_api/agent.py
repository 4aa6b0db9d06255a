"""The agent as a model: `atelier` answers with its own tools, in a conversation that is kept or in passing."""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from app.adapters.inbound.content import checked
from app.adapters.inbound.openai_api.request import InvalidParameter, Request, agent_model
from app.adapters.inbound.rest.services import Services
from app.core.domain.errors import AtelierError, ProviderUnavailable
from app.core.domain.event import RunEvent, to_json
from app.core.domain.ids import is_client_id, new_id
from app.core.domain.message import Message, MessageRole
from app.core.domain.user import User
from app.core.services.runs import Send

_ROLES = {
    "user": MessageRole.USER,
    "system": MessageRole.SYSTEM,
    "developer": MessageRole.SYSTEM,
    "assistant": MessageRole.ASSISTANT,
}
_ID = "1 to 64 characters of A-Z, a-z, 0-9, '_' and '-'."
_FIXED = ("tools", "tool_choice", "response_format", "functions")
Batches = AsyncGenerator[list[RunEvent]]


async def complete(request: Request, user: User, atelier: Services) -> bytes:
    """The agent's whole answer, as the body of an OpenAI answer.

    Raises:
        AtelierError: the turn failed, or the request asks for what the agent has not.
    """
    text: dict[str, str] = {}
    end: dict[str, Any] = {}
    asking = _Asking()
    async for batch in await _turn(request, user, atelier):
        for event in batch:
            data = event.data
            asking.take(event)
            match event.type:
                case "token":
                    text[data["message_id"]] = text.get(data["message_id"], "") + data["content"]
                case "reset":
                    text.pop(data["message_id"], None)
                case "complete" | "cancelled":
                    end = data
                case "error" | "suspended":
                    raise _RunFailed(data)
                case _:
                    pass
    message = {"role": "assistant", "content": "".join([*text.values(), asking.notice()]), "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": _finish(end), "logprobs": None}
    return to_json(
        {**_head(request, "chat.completion"), "choices": [choice], "usage": _usage(end.get("usage"))}
    ).encode()


async def stream(request: Request, user: User, atelier: Services) -> AsyncIterator[bytes]:
    """The agent's answer as OpenAI's chunks.

    Raises:
        AtelierError: the turn failed.
    """
    batches = await _turn(request, user, atelier)
    head = _head(request, "chat.completion.chunk")
    options: dict[str, Any] = request.get("stream_options") or {}
    wants_usage = bool(options.get("include_usage"))

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return f"data: {to_json({**head, 'choices': [choice]})}\n\n"

    began, said, end = False, False, {}
    asking = _Asking()
    async for batch in batches:
        lines: list[str] = []
        for event in batch:
            asking.take(event)
            match event.type:
                case "token" | "reasoning":
                    if not began:
                        lines.append(chunk({"role": "assistant", "content": ""}))
                        began = True
                    said = said or event.type == "token"
                    name = "content" if event.type == "token" else "reasoning_content"
                    lines.append(chunk({name: event.data["content"]}))
                case "message":
                    said = False  # it is stored: nothing makes it void any more
                case "reset" if said:
                    raise ProviderUnavailable("The answer was cut short and begun anew. Ask again to have it whole.")
                case "complete" | "cancelled":
                    end = event.data
                case "error" | "suspended":
                    raise _RunFailed(event.data)
                case _:
                    pass
        if lines:
            yield "".join(lines).encode()
        elif not batch:
            yield b": still here\n\n"
    last = "" if began else chunk({"role": "assistant", "content": ""})
    if notice := asking.notice():
        last += chunk({"content": notice})
    last += chunk({}, _finish(end))
    if wants_usage:
        last += f"data: {to_json({**head, 'choices': [], 'usage': _usage(end.get('usage'))})}\n\n"
    yield f"{last}data: [DONE]\n\n".encode()


class _Asking:
    """The calls that wait for the user's approval: this wire cannot ask, so the answer says where to go."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def take(self, event: RunEvent) -> None:
        data = event.data
        if event.type == "tool_call" and data["needs_approval"]:
            self._names[data["tool_call_id"]] = data["name"]
        elif event.type in ("tool_approved", "tool_result"):
            self._names.pop(data["tool_call_id"], None)
        elif event.type == "cancelled":
            self._names.clear()

    def notice(self) -> str:
        if not self._names:
            return ""
        names = ", ".join(dict.fromkeys(self._names.values()))
        return (
            f"\n\n(This needs your approval: {names}. Open the conversation on Atelier's page to allow or refuse it.)"
        )


async def _turn(request: Request, user: User, atelier: Services) -> Batches:
    """The events of the turn that a request asks for."""
    for name in _FIXED:
        if request.get(name) not in (None, [], "auto", {"type": "text"}):
            raise InvalidParameter(name, "the agent has its own. Leave it out, or name a model as provider@model.")
    model = agent_model(request["model"])
    metadata: dict[str, Any] = request.get("metadata") or {}
    conversation_id = metadata.get("conversation_id")
    last = request["messages"][-1]
    if last["role"] != "user":
        raise InvalidParameter("messages", "the last message must be the user's.")
    if conversation_id is None:
        history = [_message(message, f"messages[{number}]") for number, message in enumerate(request["messages"])]
        return atelier.passing.run(user, atelier.catalog.check(model or atelier.catalog.default), history)
    if not isinstance(conversation_id, str) or not is_client_id(conversation_id):
        raise InvalidParameter("metadata.conversation_id", _ID)
    message_id = metadata.get("message_id")
    if message_id is not None and not (isinstance(message_id, str) and is_client_id(message_id)):
        raise InvalidParameter("metadata.message_id", _ID)
    content = _message(last, "messages[-1]").content
    run = await atelier.runs.send(
        user,
        Send(content=content, conversation_id=conversation_id, message_id=message_id, model=model, create=True),
    )
    return atelier.runs.stream(user, run.id)


def _message(message: dict[str, Any], where: str) -> Message:
    role = _ROLES.get(message["role"])
    if role is None or message.get("tool_calls"):
        raise InvalidParameter(where, "the agent calls its tools itself: only text of users and assistants is taken.")
    try:
        content = checked(message.get("content") or "")
    except ValueError as error:
        raise InvalidParameter(f"{where}.content", str(error)) from error
    return Message(conversation_id="", role=role, content=content)


class _RunFailed(AtelierError):
    """A run that ended with an error, as its event told of it."""

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__(data["message"])
        self.code = data["code"]  # pyright: ignore[reportAttributeAccessIssue]
        self.retryable = data["retryable"]


def _head(request: Request, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{new_id()}", "object": kind, "created": int(time.time()), "model": request["model"]}


def _finish(end: dict[str, Any]) -> str:
    return end.get("finish_reason") or "stop"


def _usage(usage: dict[str, Any] | None) -> dict[str, int] | None:
    if not usage:
        return None
    names = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens", "total_tokens": "total_tokens"}
    return {theirs: usage.get(ours) or 0 for theirs, ours in names.items()}
