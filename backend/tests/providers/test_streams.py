"""Streams of OpenAI-shaped servers in the shapes that their documentation and users show."""

from typing import Any

import orjson
import pytest
from langchain_core.messages import AIMessage

from app.adapters.outbound.llm_providers.endpoint import Endpoint, HttpPool, TimeLimits
from app.adapters.outbound.llm_providers.openai_stream import StreamReader
from app.adapters.outbound.llm_providers.providers import PROVIDERS
from app.adapters.outbound.llm_providers.think_tags import ThinkTags
from app.core.domain.errors import ProviderUnavailable
from tests.integration.test_openai_reader import Sink


def read(*chunks: dict[str, Any]) -> tuple[AIMessage, Sink]:
    row = PROVIDERS["tu"]
    sink = Sink()
    reader = StreamReader(sink, Endpoint(row, row.base_url, False, "k", HttpPool(), TimeLimits()), "m")
    for chunk in chunks:
        reader.feed(b"data: " + orjson.dumps(chunk) + b"\n\n")
    reader.close()
    return reader.message(), sink


def delta(finish_reason: str | None = None, usage: Any = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": fields, "finish_reason": finish_reason}
    return {"choices": [choice | ({"usage": usage} if usage else {})]}


@pytest.mark.parametrize(
    ("pieces", "thought", "text"),
    [
        (["<think>\nHm.</think>\n\nYes."], "Hm.", "Yes."),
        (["<th", "ink>H", "m.</th", "ink>", "\n\n", "Yes", "."], "Hm.", "Yes."),
        (["<think>a < b</t", "x></think>Yes."], "a < b</tx>", "Yes."),
        (["<think>Never ", "closed"], "Never closed", ""),
        (["The tag <think>", " is odd</think>."], "", "The tag <think> is odd</think>."),
        (["<thi"], "", "<thi"),
        (["  plain"], "", "  plain"),
        (["<think></think>Yes."], "", "Yes."),
    ],
)
def test_thoughts_between_tags_are_reasoning(pieces: list[str], thought: str, text: str):
    answer, sink = read(*(delta(content=piece) for piece in pieces), delta("stop"))
    assert (answer.content, "".join(sink.said)) == (text, text)
    assert "".join(sink.thought) == thought
    assert answer.additional_kwargs.get("reasoning_content", "") == thought


def test_text_is_not_held_back_once_it_is_text():
    tags = ThinkTags()
    assert [list(tags.split(piece)) for piece in ("He", "llo <")] == [[(False, "He")], [(False, "llo <")]]


@pytest.mark.parametrize("reason", ["error", "network_error", "abort"])
def test_ends_that_are_none_are_errors(reason: str):
    with pytest.raises(ProviderUnavailable, match=reason):
        read(delta(content="Half"), delta(reason))


def test_a_filter_is_named_as_such():
    assert read(delta("sensitive"))[0].response_metadata["finish_reason"] == "content_filter"


def test_errors_of_older_servers_keep_their_reason():
    with pytest.raises(ProviderUnavailable, match="on fire"):
        read(delta(content="x"), {"object": "error", "message": "on fire", "type": "InternalServerError", "code": 500})


USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


@pytest.mark.parametrize(
    "last",
    [
        delta("stop", usage=USAGE),
        {**delta("stop"), "x_groq": {"id": "req", "usage": USAGE}},
        {**delta("stop"), "usage": USAGE},
    ],
)
def test_usage_is_read_wherever_it_is(last: dict[str, Any]):
    usage = read(delta(content="x"), last)[0].usage_metadata
    assert usage is not None
    assert (usage["input_tokens"], usage["output_tokens"]) == (3, 4)


def test_arguments_may_be_an_object():
    call = {"index": 0, "id": "c", "function": {"name": "add", "arguments": {"a": 1}}}
    assert read(delta(tool_calls=[call]), delta("tool_calls"))[0].tool_calls[0]["args"] == {"a": 1}
