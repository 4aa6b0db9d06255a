"""What leaves for each provider's newest models, and what their answers become, in the shapes that their documentation shows."""

import base64
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from app.adapters.outbound.llm_providers import anthropic_provider, gemini_provider, responses
from app.adapters.outbound.llm_providers.content import UNSEEN_IMAGE
from app.adapters.outbound.llm_providers.endpoint import Endpoint, HttpPool, TimeLimits
from app.adapters.outbound.llm_providers.errors import ReasoningRefused, SummaryRefused, for_status
from app.adapters.outbound.llm_providers.listing import list_models
from app.adapters.outbound.llm_providers.openai_provider import OpenAIChatModel
from app.adapters.outbound.llm_providers.openai_stream import StreamReader
from app.adapters.outbound.llm_providers.providers import PROVIDERS, Wire
from app.adapters.outbound.llm_providers.wire_provider import IWire, Replay
from app.core.domain.errors import ProviderRejected, ProviderUnavailable
from app.core.ports import ModelFacts
from tests.integration.test_openai_reader import Sink
from tests.providers.fakes import KEY, FakeProvider
from tests.providers.oracles import faults_by_sdk

HELLO = HumanMessage("Hello")
THINKER = ModelFacts(
    tools=True,
    images=True,
    reasoning=True,
    pdf=True,
    sampling=False,
    adaptive_thinking=True,
    output_tokens=128_000,
    efforts=["low", "medium", "high", "xhigh", "max"],
)
SCHEMA = {
    "type": "object",
    "properties": {
        "value": {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}, {"type": "null"}]},
        "size": {"type": "integer", "enum": [512, 1024]},
        "mode": {"enum": ["a", None]},
        "pair": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]},
        "node": {"$ref": "#/$defs/Node"},
    },
    "required": ["value"],
    "$defs": {"Node": {"type": "object", "properties": {"child": {"$ref": "#/$defs/Node"}, "n": {"type": "integer"}}}},
}
TOOL = {"type": "function", "function": {"name": "set", "description": "Set a value.", "parameters": SCHEMA}}
PNG = "data:image/png;base64,iVBORw0KGgo="
PDF = "data:application/pdf;base64," + base64.b64encode(b"%PDF-1.7").decode()
NOTES = "data:text/plain;base64," + base64.b64encode("Grüße".encode()).decode()
FILES = HumanMessage(
    [
        {"type": "text", "text": "Read"},
        {"type": "image_url", "image_url": {"url": PNG}},
        {"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}},
        {"type": "file", "file": {"file_data": NOTES, "filename": "notes.txt"}},
    ]
)


def endpoint(provider: str) -> Endpoint:
    row = PROVIDERS[provider]
    return Endpoint(row, row.base_url, False, "k", HttpPool(), TimeLimits(), row.wire)


def wire(provider: str, facts: ModelFacts = THINKER, tools: Sequence[Any] = (), **options: Any) -> IWire:
    kinds: dict[Wire, Any] = {
        Wire.RESPONSES: responses.ResponsesWire,
        Wire.ANTHROPIC: anthropic_provider.AnthropicWire,
        Wire.GEMINI: gemini_provider.GeminiWire,
    }
    return kinds[PROVIDERS[provider].wire]("m", endpoint(provider), facts, tools, options)


def body(provider: str, *messages: BaseMessage, replay: Replay | None = None, **more: Any) -> dict[str, Any]:
    made = wire(provider, **more).request(messages or (HELLO,), replay or Replay()).body
    sent = orjson.loads(orjson.dumps(made))
    assert faults_by_sdk(provider, sent) == []
    return sent


def chat_body(provider: str, *messages: BaseMessage, model: str = "m", **facts: Any) -> dict[str, Any]:
    chat = OpenAIChatModel.connect(model, endpoint(provider), ModelFacts(**facts))
    sent = orjson.loads(orjson.dumps(chat.payload(messages, {"stream": True})))
    assert faults_by_sdk(provider, sent) == []
    return sent


def read(provider: str, *events: dict[str, Any], **more: Any) -> tuple[AIMessage, Sink]:
    """What becomes of a stream of events, whole and cut at every byte."""
    data = b"".join(b"event: x\ndata: " + orjson.dumps(event) + b"\n\n" for event in events)
    answers: list[tuple[AIMessage, Sink]] = []
    for size in (len(data), 7):
        sink = Sink()
        reader: StreamReader = wire(provider, **more).reader(sink)
        for start in range(0, len(data), size):
            reader.feed(data[start : start + size])
        reader.close()
        answers.append((reader.message(), sink))
    assert answers[0][0].model_dump(exclude={"id"}) == answers[1][0].model_dump(exclude={"id"})
    assert "".join(answers[1][1].said) == answers[0][0].content
    return answers[0]


def call(call_id: str, **args: Any) -> dict[str, Any]:
    return {"id": call_id, "name": "set", "args": args, "type": "tool_call"}


# --- OpenAI's Responses API


def test_openai_requests_keep_no_state_there():
    sent = body("openai", SystemMessage("Be brief."), HELLO, tools=[TOOL])
    assert (sent["store"], sent["include"]) == (False, ["reasoning.encrypted_content"])
    assert sent["reasoning"] == {"summary": "auto"}
    assert sent["instructions"] == "Be brief."
    assert sent["tools"][0]["parameters"] == SCHEMA
    plain = body("openai", facts=ModelFacts(reasoning=False), temperature=0.5)
    assert "include" not in plain
    assert "reasoning" not in plain
    assert plain["temperature"] == 0.5


def test_openai_options_become_those_of_responses():
    schema = {"name": "out", "schema": {"type": "object"}, "strict": True}
    sent = body(
        "openai",
        tools=[TOOL],
        facts=THINKER.model_copy(update={"efforts": ["low", "high"]}),
        tool_choice={"type": "function", "function": {"name": "set"}},
        parallel_tool_calls=False,
        max_tokens=5,
        temperature=0.2,
        reasoning_effort="minimal",
        response_format={"type": "json_schema", "json_schema": schema},
    )
    assert sent["tool_choice"] == {"type": "function", "name": "set"}
    assert (sent["max_output_tokens"], sent["parallel_tool_calls"]) == (16, False)
    assert sent["reasoning"] == {"summary": "auto", "effort": "low"}
    assert sent["text"]["format"] == {"type": "json_schema", **schema}
    assert "temperature" not in sent


RESPONSE: list[dict[str, Any]] = [
    {"type": "response.created", "response": {"id": "r", "output": []}},
    {"type": "response.output_item.added", "output_index": 0, "item": {"id": "rs", "type": "reasoning", "summary": []}},
    {"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "First."},
    {"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 1, "delta": "Second."},
    {
        "type": "response.output_item.done",
        "output_index": 0,
        "item": {"id": "rs", "type": "reasoning", "summary": [], "encrypted_content": "sealed", "status": None},
    },
    {"type": "response.output_item.added", "output_index": 1, "item": {"id": "m", "type": "message", "content": []}},
    {"type": "response.output_text.delta", "output_index": 1, "delta": "I look "},
    {"type": "response.output_text.delta", "output_index": 1, "delta": "it up."},
    {
        "type": "response.output_item.done",
        "output_index": 1,
        "item": {
            "id": "m",
            "type": "message",
            "phase": "commentary",
            "content": [{"type": "output_text", "text": "I look it up."}],
        },
    },
    {
        "type": "response.output_item.added",
        "output_index": 2,
        "item": {"id": "fc", "type": "function_call", "call_id": "c1", "name": "set", "arguments": ""},
    },
    {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": '{"value"'},
    {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": ": 1}"},
    {
        "type": "response.output_item.done",
        "output_index": 2,
        "item": {"id": "fc", "type": "function_call", "call_id": "c1", "name": "set", "arguments": '{"value": 1}'},
    },
    {
        "type": "response.completed",
        "response": {
            "id": "r",
            "model": "gpt-6-luna",
            "usage": {
                "input_tokens": 11,
                "input_tokens_details": {"cached_tokens": 3},
                "output_tokens": 7,
                "output_tokens_details": {"reasoning_tokens": 5},
                "total_tokens": 18,
            },
        },
    },
]


def test_openai_answer_goes_back_item_by_item():
    answer, sink = read("openai", *RESPONSE)
    assert (answer.content, "".join(sink.thought)) == ("I look it up.", "First.\n\nSecond.")
    assert answer.tool_calls == [call("c1", value=1)]
    assert answer.usage_metadata == {
        "input_tokens": 11,
        "output_tokens": 7,
        "total_tokens": 18,
        "input_token_details": {"cache_read": 3},
        "output_token_details": {"reasoning": 5},
    }
    assert answer.response_metadata["finish_reason"] == "tool_calls"
    sent = body("openai", HELLO, answer, ToolMessage("done", tool_call_id="c1"), tools=[TOOL])
    assert sent["input"][1:] == [
        {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "sealed"},
        {"role": "assistant", "content": "I look it up.", "phase": "commentary"},
        {"type": "function_call", "call_id": "c1", "name": "set", "arguments": '{"value":1}'},
        {"type": "function_call_output", "call_id": "c1", "output": "done"},
    ]
    without = body("openai", HELLO, answer, ToolMessage("done", tool_call_id="c1"), replay=Replay(reasoning=False))
    assert [item.get("type") for item in without["input"]] == [None, None, "function_call", "function_call_output"]


def test_openai_reasoning_stays_with_its_model():
    answer, _ = read("openai", *RESPONSE)
    answer.response_metadata["asked_model"] = "another"
    sent = body("openai", HELLO, answer, ToolMessage("done", tool_call_id="c1"))
    assert "sealed" not in str(sent)


@pytest.mark.parametrize(
    ("reason", "finish"), [("max_output_tokens", "length"), ("content_filter", "content_filter"), ("steered", "stop")]
)
def test_openai_incomplete_answers_say_why(reason: str, finish: str):
    end = {"type": "response.incomplete", "response": {"incomplete_details": {"reason": reason}}}
    answer, _ = read("openai", {"type": "response.output_text.delta", "output_index": 0, "delta": "Half"}, end)
    assert (answer.content, answer.response_metadata["finish_reason"]) == ("Half", finish)


def test_openai_refusal_is_what_it_says():
    answer, _ = read("openai", {"type": "response.refusal.delta", "output_index": 0, "delta": "No."}, RESPONSE[-1])
    assert answer.content == "No."


def test_openai_items_without_deltas_are_read():
    done = [event for event in RESPONSE if event["type"] in ("response.output_item.done", "response.completed")]
    answer, _ = read("openai", *done)
    assert (answer.content, answer.tool_calls) == ("I look it up.", [call("c1", value=1)])


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.failed", "response": {"error": {"code": "server_error", "message": "on fire"}}},
        {"type": "error", "code": "server_error", "message": "on fire", "param": None},
        {"type": "error", "error": {"type": "server_error", "message": "on fire"}},
    ],
)
def test_openai_failures_in_the_stream_are_errors(event: dict[str, Any]):
    with pytest.raises(ProviderUnavailable, match="on fire"):
        read("openai", event)


def test_openai_streams_that_stop_are_not_answers():
    with pytest.raises(ProviderUnavailable, match="cut its answer short"):
        read("openai", *RESPONSE[:-1])


# --- Claude


def claude(*blocks: tuple[dict[str, Any], list[dict[str, Any]]], stop: str = "end_turn") -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 9, "output_tokens": 1}}},
        {"type": "ping"},
    ]
    for index, (block, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    usage = {"output_tokens": 7}
    events += [{"type": "message_delta", "delta": {"stop_reason": stop}, "usage": usage}, {"type": "message_stop"}]
    return events


def thinking(text: str, signature: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    deltas = [{"type": "thinking_delta", "thinking": text}, {"type": "signature_delta", "signature": signature}]
    return {"type": "thinking", "thinking": "", "signature": ""}, deltas


def said(text: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return {"type": "text", "text": ""}, [{"type": "text_delta", "text": text}]


def used(call_id: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    block = {"type": "tool_use", "id": call_id, "name": "set", "input": {}}
    return block, [{"type": "input_json_delta", "partial_json": '{"value": 1}'}]


INTERLEAVED = claude(
    thinking("Hm.", "s1"), said("Now."), used("t1"), thinking("And.", "s2"), used("t2"), stop="tool_use"
)
RESULTS = (ToolMessage("1", tool_call_id="t1"), ToolMessage("2", tool_call_id="t2", status="error"))


def answered(*before: BaseMessage) -> AIMessage:
    """Claude's interleaved answer to `before`, with what the provider adds to it."""
    answer, _ = read("anthropic", *INTERLEAVED)
    answer.additional_kwargs["prefix"] = wire("anthropic", tools=[TOOL]).request(before, Replay()).prefix
    return answer


def test_claude_blocks_return_in_their_order():
    sent = body("anthropic", HELLO, answered(HELLO), *RESULTS, tools=[TOOL])
    kinds = [(block["type"], block.get("signature") or block.get("id")) for block in sent["messages"][1]["content"]]
    assert kinds == [("thinking", "s1"), ("text", None), ("tool_use", "t1"), ("thinking", "s2"), ("tool_use", "t2")]
    assert [block["tool_use_id"] for block in sent["messages"][2]["content"]] == ["t1", "t2"]


@pytest.mark.parametrize("change", ["system", "tools", "earlier", "order"])
def test_claude_thinking_stays_away_from_another_prefix(change: str):
    system = SystemMessage("Be brief.")
    first = [HELLO, AIMessage("Hi."), HumanMessage("Set it")]
    tools = [TOOL]
    answer = answered(system, *first)
    kept = body("anthropic", system, *first, answer, *RESULTS, tools=tools)
    assert "thinking" in str(kept["messages"])
    match change:
        case "system":
            system = SystemMessage("Be poetic.")
        case "tools":
            tools = [TOOL, {"type": "function", "function": {"name": "other", "parameters": {"type": "object"}}}]
        case "earlier":
            first = [HumanMessage("(a summary)"), *first[2:]]
        case _:
            first = [HELLO, HumanMessage("Set it")]
    sent = body("anthropic", system, *first, answer, *RESULTS, tools=tools)
    assert "thinking" not in str(sent["messages"])
    kinds = [block["type"] for block in sent["messages"][-2]["content"]]
    assert kinds == ["text", "tool_use", "tool_use"]


def test_claude_thinking_returns_over_several_turns():
    answer = answered(HELLO)
    after = (HELLO, answer, *RESULTS)
    second, _ = read("anthropic", *claude(thinking("Done.", "s3"), said("All set.")))
    second.additional_kwargs["prefix"] = wire("anthropic", tools=[TOOL]).request(after, Replay()).prefix
    sent = body("anthropic", *after, second, HumanMessage("Thanks"), tools=[TOOL])
    signatures = [b["signature"] for m in sent["messages"] for b in m["content"] if b["type"] == "thinking"]
    assert signatures == ["s1", "s2", "s3"]
    # Once one is invalid all that follow are: https://platform.claude.com/docs/en/build-with-claude/preserved-thinking
    other = body("anthropic", HumanMessage("Hi"), *after[1:], second, HumanMessage("Thanks"), tools=[TOOL])
    assert "thinking" not in str(other["messages"])


def test_claude_requests_ask_for_thinking_and_caching():
    sent = body("anthropic", SystemMessage("Be brief."), HELLO, tools=[TOOL, TOOL | {"x": 1}], temperature=0, top_p=1)
    assert sent["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert sent["max_tokens"] == 32_000
    assert not {"temperature", "top_p"} & set(sent)
    assert [("cache_control" in part) for part in (sent["system"][0], sent["tools"][0], sent["tools"][1], sent)] == [
        True,
        False,
        True,
        True,
    ]
    small = body("anthropic", facts=ModelFacts(output_tokens=4_096))
    assert (small["max_tokens"], "thinking" in small) == (4_096, False)


def test_claude_effort_is_the_nearest_it_has():
    assert body("anthropic", reasoning_effort="none")["output_config"] == {"effort": "low"}
    assert "output_config" not in body("anthropic", facts=ModelFacts(), reasoning_effort="high")


def test_claude_that_thinks_cannot_be_forced():
    facts = THINKER.model_copy(update={"forced_tools": False})
    with pytest.raises(ProviderRejected, match="tool_choice 'auto'"):
        wire("anthropic", facts, [TOOL], tool_choice="required")
    sent = body("anthropic", tools=[TOOL], tool_choice="required", parallel_tool_calls=False)
    assert sent["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}


def test_claude_reader_keeps_sealed_and_unknown_blocks_apart():
    answer, sink = read(
        "anthropic",
        *claude(
            ({"type": "redacted_thinking", "data": "sealed"}, []),
            ({"type": "server_tool_use", "id": "x", "name": "web_search", "input": {}}, []),
            said("Here."),
        ),
    )
    assert (answer.content, sink.thought) == ("Here.", [])
    assert answer.additional_kwargs["blocks"] == [
        {"type": "redacted_thinking", "data": "sealed"},
        {"type": "text", "text": "Here."},
    ]
    assert answer.usage_metadata is not None
    assert (answer.usage_metadata["input_tokens"], answer.usage_metadata["output_tokens"]) == (9, 7)


@pytest.mark.parametrize(
    ("stop", "finish"),
    [("refusal", "content_filter"), ("model_context_window_exceeded", "length"), ("pause_turn", "stop")],
)
def test_claude_ends_are_named(stop: str, finish: str):
    answer, _ = read("anthropic", *claude(said("x"), stop=stop))
    assert answer.response_metadata["finish_reason"] == finish


# --- Gemini


def test_gemini_schemas_stay_as_they_are():
    (declared,) = body("gemini", tools=[TOOL])["tools"][0]["functionDeclarations"]
    schema = declared["parametersJsonSchema"]
    for name in ("value", "size", "mode", "pair"):
        assert schema["properties"][name] == SCHEMA["properties"][name]
    assert schema["properties"]["node"]["properties"]["n"] == {"type": "integer"}
    assert "$ref" not in str(schema)
    assert "parameters" not in declared


def test_gemini_asks_for_no_temperature():
    plain = ModelFacts()
    assert "generationConfig" not in body("gemini", facts=plain)
    assert body("gemini", facts=plain, temperature=0.5)["generationConfig"] == {"temperature": 0.5}
    sent = body("gemini", temperature=0.5, reasoning_effort="high", max_tokens=7)["generationConfig"]
    assert sent == {"maxOutputTokens": 7, "thinkingConfig": {"includeThoughts": True, "thinkingLevel": "HIGH"}}


def gemini(*parts: dict[str, Any], reason: str = "STOP") -> list[dict[str, Any]]:
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 4, "thoughtsTokenCount": 3, "totalTokenCount": 16}
    events = [{"candidates": [{"content": {"role": "model", "parts": [part]}}]} for part in parts]
    return [*events, {"candidates": [{"finishReason": reason}], "usageMetadata": usage, "modelVersion": "g"}]


def test_gemini_signatures_and_ids_return():
    answer, sink = read(
        "gemini",
        *gemini(
            {"text": "Hm.", "thought": True},
            {"text": "One "},
            {"text": "moment."},
            {"functionCall": {"id": "g1", "name": "set", "args": {"value": 1}}, "thoughtSignature": "c2ln"},
            {"functionCall": {"id": "g2", "name": "set", "args": {"value": 2}}},
        ),
    )
    assert (answer.content, sink.thought) == ("One moment.", ["Hm."])
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] == 7
    results = (ToolMessage("1", tool_call_id="g1"), ToolMessage("no", tool_call_id="g2", status="error"))
    contents = body("gemini", HELLO, answer, *results, tools=[TOOL])["contents"]
    assert contents[1]["parts"] == [
        {"text": "One moment."},
        {"functionCall": {"id": "g1", "name": "set", "args": {"value": 1}}, "thoughtSignature": "c2ln"},
        {"functionCall": {"id": "g2", "name": "set", "args": {"value": 2}}},
    ]
    assert contents[2]["parts"] == [
        {"functionResponse": {"id": "g1", "name": "set", "response": {"output": "1"}}},
        {"functionResponse": {"id": "g2", "name": "set", "response": {"error": "no"}}},
    ]


def test_gemini_signature_of_an_empty_text_returns():
    answer, _ = read("gemini", *gemini({"text": "hi"}, {"text": "", "thoughtSignature": "c2ln"}))
    parts = body("gemini", HELLO, answer, HumanMessage("Go on"))["contents"][1]["parts"]
    assert parts == [{"text": "hi"}, {"text": "", "thoughtSignature": "c2ln"}]


def test_gemini_calls_of_others_are_not_checked():
    foreign = AIMessage("", tool_calls=[call("a", value=1), call("b", value=2)])
    results = (ToolMessage("1", tool_call_id="a"), ToolMessage("2", tool_call_id="b"))
    parts = body("gemini", HELLO, foreign, *results)["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == ["skip_thought_signature_validator", None]


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MISSING_THOUGHT_SIGNATURE"])
def test_gemini_broken_ends_can_be_tried_again(reason: str):
    with pytest.raises(ProviderUnavailable, match=reason):
        read("gemini", *gemini(reason=reason))


def test_gemini_blocked_questions_say_why():
    with pytest.raises(ProviderRejected, match="PROHIBITED_CONTENT"):
        read("gemini", {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}})


def test_gemini_images_by_address_are_not_fetched_here():
    image = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/internal.png"}}
    sent = body("gemini", HumanMessage([{"type": "text", "text": "Look"}, image]))
    assert "inlineData" not in str(sent)


# --- Files


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
def test_files_are_sent_as_what_they_are(provider: str):
    sent = str(body(provider, FILES))
    assert sent.count("application/pdf") == 1
    assert "Grüße" in sent
    assert "text/plain" not in sent
    blind = str(body(provider, FILES, facts=ModelFacts(images=False, pdf=False)))
    assert UNSEEN_IMAGE in blind
    assert "a PDF file named a.pdf" in blind.replace("A PDF", "a PDF")
    assert "base64" not in blind


# --- OpenAI-shaped providers

STOPPED = (
    HELLO,
    AIMessage("", tool_calls=[call("abcdefghi", value=1)]),
    ToolMessage("1", tool_call_id="abcdefghi"),
    HumanMessage("Never mind"),
)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("mistral", "m"),
        ("openrouter", "mistralai/devstral-small"),
        ("tu", "mistral-small-3.2-24b"),
        ("groq", "mistral-saba-24b"),
    ],
)
def test_mistral_hears_that_a_turn_was_stopped(provider: str, model: str):
    roles = [message["role"] for message in chat_body(provider, *STOPPED, model=model)["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]


def test_others_need_no_bridge():
    roles = [message["role"] for message in chat_body("tu", *STOPPED, model="qwen-coder-30b")["messages"]]
    assert roles == ["user", "assistant", "tool", "user"]


@pytest.mark.parametrize("provider", ["mistral", "groq", "moonshot", "bigmodel", "tu", "ollama", "openrouter"])
def test_relayed_files_are_sent_as_what_they_are(provider: str):
    (message,) = chat_body(provider, FILES, images=True)["messages"]
    kinds = [part["type"] for part in message["content"]]
    assert kinds == ["text", "image_url", "file" if provider == "openrouter" else "text", "text"]
    assert "Grüße" in message["content"][3]["text"]
    (blind,) = chat_body(provider, FILES, images=False)["messages"]
    assert UNSEEN_IMAGE in str(blind)


@pytest.mark.parametrize("provider", ["ollama", "moonshot"])
def test_images_by_address_are_told_where_only_bytes_are_taken(provider: str):
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    (message,) = chat_body(provider, HumanMessage([{"type": "text", "text": "Look"}, image]))["messages"]
    assert message["content"][1]["type"] == "text"
    assert "https://example.org/a.png" in message["content"][1]["text"]


@pytest.mark.parametrize(("provider", "field"), [("bigmodel", "reasoning_content"), ("ollama", "reasoning")])
def test_own_reasoning_returns_beside_calls(provider: str, field: str):
    own = AIMessage(
        "",
        tool_calls=[call("abcdefghi", value=1)],
        additional_kwargs={"reasoning_content": "Hm."},
        response_metadata={"model_provider": provider},
    )
    sent = chat_body(provider, HELLO, own, ToolMessage("1", tool_call_id="abcdefghi"))
    assert sent["messages"][1][field] == "Hm."
    foreign = own.model_copy(update={"response_metadata": {"model_provider": "x"}})
    assert field not in chat_body(provider, HELLO, foreign, ToolMessage("1", tool_call_id="abcdefghi"))["messages"][1]


def adapted(provider: str, facts: ModelFacts | None = None, model: str = "m", **fields: Any) -> dict[str, Any]:
    request = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "stream": True, **fields}
    sent = PROVIDERS[provider].dialect.adapt(request, facts or ModelFacts())
    assert faults_by_sdk(provider, {key: value for key, value in sent.items() if key != "thinking"}) == []
    return sent


def test_mistral_is_sent_only_what_it_knows():
    named = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi", "name": "Zoe"}]
    sent = adapted("mistral", messages=named, user="u", store=True, seed=7, stream_options={"include_usage": True})
    assert set(sent) == {"model", "messages", "stream", "random_seed"}
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    with pytest.raises(ProviderRejected, match="logit_bias"):
        adapted("mistral", logit_bias={"5": 1})


@pytest.mark.parametrize("provider", ["moonshot", "bigmodel", "ollama", "tu"])
def test_developer_is_a_system_message_elsewhere(provider: str):
    sent = adapted(
        provider, messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    )
    assert sent["messages"][0]["role"] == "system"


def test_sampling_is_left_out_where_it_is_fixed():
    assert "temperature" not in adapted("moonshot", model="kimi-k3", temperature=0.2)
    assert adapted("moonshot", model="moonshot-v1", temperature=0.2)["temperature"] == 0.2
    assert "top_p" not in adapted("openrouter", ModelFacts(sampling=False), top_p=0.5)


def test_effort_is_put_in_the_words_of_the_provider():
    assert adapted("bigmodel", reasoning_effort="none")["thinking"] == {"type": "disabled"}
    assert adapted("bigmodel", reasoning_effort="high")["thinking"] == {"type": "enabled"}
    two = ModelFacts(reasoning=True, efforts=["none", "high"])
    assert adapted("mistral", two, reasoning_effort="xhigh")["reasoning_effort"] == "high"
    assert "reasoning_effort" not in adapted("groq", ModelFacts(reasoning=False), reasoning_effort="high")


def test_moonshot_schemas_have_types_and_no_references():
    (tool,) = adapted("moonshot", tools=[TOOL])["tools"]
    schema = tool["function"]["parameters"]
    assert "$ref" not in str(schema)
    assert schema["properties"]["node"]["properties"]["child"]["anyOf"]
    assert schema["properties"]["value"] == SCHEMA["properties"]["value"]


# --- A turn whose reasoning is refused


async def test_refused_reasoning_is_left_out_and_the_turn_goes_on():
    answer, _ = read("openai", *RESPONSE)
    fake = FakeProvider("openai")  # it has not issued that reasoning, so it refuses it
    await fake.start()
    pool = HttpPool()
    there = Endpoint(PROVIDERS["openai"], fake.url, True, KEY, pool, TimeLimits(), Wire.RESPONSES)
    try:
        provider = responses.make("m", there, THINKER, [TOOL], {})
        sink = Sink()
        again = await provider.stream([HELLO, answer, ToolMessage("done", tool_call_id="c1")], sink)
    finally:
        await pool.close()
        await fake.stop()
    assert again.content == "".join(sink.said) == "Hello from openai."
    assert ["sealed" in str(sent) for sent in fake.requests] == [True, False]


# --- Lists of models


@pytest.mark.parametrize("provider", ["anthropic", "gemini"])
async def test_lists_are_read_to_their_last_page(provider: str):
    fake = FakeProvider(provider)
    if provider == "anthropic":
        fake.models = {"data": [{"id": "one"}], "has_more": True, "last_id": "one"}
        fake.pages["one"] = {"data": [{"id": "two"}], "has_more": False, "last_id": "two"}
    else:
        fake.models = {"models": [{"name": "models/one"}], "nextPageToken": "p 2"}
        fake.pages["p 2"] = {"models": [{"name": "models/two"}]}
    await fake.start()
    pool = HttpPool()
    row = PROVIDERS[provider]
    try:
        listed = await list_models(Endpoint(row, fake.url, True, KEY, pool, TimeLimits(), row.wire))
    finally:
        await pool.close()
        await fake.stop()
    assert list(listed) == ["one", "two"]


# --- Refusals that another request can do without


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        ("invalid_encrypted_content", "The encrypted content could not be verified.", ReasoningRefused),
        (
            "invalid_request_error",
            "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a different conversation",
            ReasoningRefused,
        ),
        ("INVALID_ARGUMENT", "Function call is missing a thought_signature in functionCall parts.", ReasoningRefused),
        (
            "unsupported_value",
            "Your organization must be verified to generate reasoning summaries.",
            SummaryRefused,
        ),
        ("invalid_request_error", "max_tokens: too large", ProviderRejected),
    ],
)
def test_refusals_are_told_apart(code: str, reason: str, kind: type[Exception]):
    error = for_status(400, code, reason, provider="P", model="m", key_variable="K", secret=None)
    assert type(error) is kind
