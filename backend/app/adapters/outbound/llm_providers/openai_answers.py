"""An answer as OpenAI writes it: whole, or in deltas as its pieces come. And the sink of those who wait for no pieces."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import orjson

from app.core.domain.errors import ProviderUnavailable
from app.core.domain.ids import new_id

Fields = dict[str, Any]


def openai_calls(answer: Any) -> list[Fields]:
    """The tool calls of a LangChain message, those among them whose arguments could not be read."""
    valid = [_call(call["id"], call["name"], orjson.dumps(call["args"]).decode()) for call in answer.tool_calls]
    return valid + [_call(call["id"], call["name"], call["args"]) for call in answer.invalid_tool_calls]


def openai_usage(usage: Any) -> dict[str, int] | None:
    """LangChain's usage in OpenAI's words."""
    if not usage:
        return None
    names = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens", "total_tokens": "total_tokens"}
    return {theirs: usage[ours] for theirs, ours in names.items()}


def finish_reason(answer: Any) -> str:
    """Why a LangChain message ended."""
    if answer.tool_calls or answer.invalid_tool_calls:
        return "tool_calls"
    return answer.response_metadata.get("finish_reason") or "stop"


def _call(call_id: str | None, name: str | None, arguments: str | None) -> Fields:
    function = {"name": name or "", "arguments": arguments or ""}
    return {"id": call_id or f"call_{new_id()}", "type": "function", "function": function}


class Deltas:
    """An `IFragmentSink` that takes the pieces of an answer as OpenAI's deltas."""

    def __init__(self) -> None:
        self._deltas: list[Fields] = []
        self._more = asyncio.Event()
        self._indexes: dict[Any, int] = {}
        self._let_out = False

    @property
    def has_calls(self) -> bool:
        """Whether fragments of tool calls have come."""
        return bool(self._indexes)

    def text(self, piece: str) -> None:
        """The next piece of the answer's text."""
        self._add({"content": piece})

    def reasoning(self, piece: str) -> None:
        """The next piece of the model's reasoning, in the field that most servers of this shape have for it."""
        self._add({"reasoning_content": piece})

    def fragment(self, key: Any, call_id: str | None, name: str | None, arguments: str | None) -> None:
        """The next fragment of a tool call: its first one has its id."""
        is_new = key not in self._indexes
        index = self._indexes.setdefault(key, len(self._indexes))
        head = {"id": call_id or f"call_{new_id()}", "type": "function"} if is_new else {}
        function = {**({"name": name} if name else {}), "arguments": arguments or ""}
        if is_new or name or arguments:
            self._add({"tool_calls": [{"index": index, **head, "function": function}]})

    def restart(self, model: str) -> None:
        """What has been let out cannot be taken back.

        Raises:
            ProviderUnavailable: something has been.
        """
        if self._let_out:
            raise ProviderUnavailable("The answer was cut short. Try again.")

    async def until(self, asking: asyncio.Task[Any]) -> AsyncGenerator[list[Fields]]:
        """The deltas as they come, until `asking` is done; it is stopped when nobody listens any more.

        Raises:
            AtelierError: `asking` failed.
        """
        asking.add_done_callback(lambda _: self._more.set())
        try:
            while True:
                await self._more.wait()
                self._more.clear()
                is_over = asking.done()  # before the pieces are taken: more may come while the caller has these
                if self._deltas:
                    deltas, self._deltas = self._deltas, []
                    yield deltas
                if is_over:
                    asking.result()
                    return
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    def _add(self, delta: Fields) -> None:
        self._let_out = True
        self._deltas.append(delta)
        self._more.set()


class _Nobody:
    """An `IAnswerSink` for an answer that is wanted whole."""

    def text(self, piece: str) -> None:
        """Nothing to do."""

    def reasoning(self, piece: str) -> None:
        """Nothing to do."""

    def restart(self, model: str) -> None:
        """Nothing to do."""


NOBODY = _Nobody()
