"""Requests in the words of OpenAI-shaped providers."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.outbound.llm_providers.dialect import ANY_IDS, NINE_CHARACTERS, WORDS, CallIds, Renaming
from app.adapters.outbound.llm_providers.providers import PROVIDERS
from app.core.domain.errors import ProviderRejected
from app.core.ports import ModelFacts

HELLO = [{"role": "user", "content": "Hello"}]
TOOLS = [{"type": "function", "function": {"name": "add"}}]
NAMED = {"type": "function", "function": {"name": "add"}}


@pytest.mark.parametrize("ids", [ANY_IDS, NINE_CHARACTERS, WORDS])
@given(call_id=st.text(max_size=60), turn=st.integers(0, 3))
def test_an_id_fits_and_is_always_the_same(ids: CallIds, call_id: str, turn: int):
    fitted = ids.fit(call_id, turn)
    assert ids.pattern.fullmatch(fitted)
    assert ids.fit(call_id, turn) == fitted
    assert fitted == call_id or turn or not ids.pattern.fullmatch(call_id)


@given(st.lists(st.text(alphabet=string.ascii_letters, max_size=3), max_size=30))
def test_no_id_is_given_to_two_calls(call_ids: list[str]):
    renaming = Renaming(NINE_CHARACTERS)
    fitted = [renaming.of_calls([call_id])[0] for call_id in call_ids]
    assert len(set(fitted)) == len(call_ids)
    assert renaming.of_result("unknown") == renaming.of_result("unknown")


@pytest.mark.parametrize(
    ("provider", "choice"),
    [
        ("bigmodel", "required"),
        ("bigmodel", NAMED),
        ("ollama", "required"),
        ("moonshot", "required"),
        ("moonshot", NAMED),
    ],
)
def test_a_choice_that_a_provider_has_not_is_refused_in_words(provider: str, choice: object):
    dialect = PROVIDERS[provider].dialect
    with pytest.raises(ProviderRejected, match=re.escape(dialect.title)):
        dialect.adapt({"messages": HELLO, "tools": TOOLS, "tool_choice": choice}, ModelFacts(reasoning=True))


def test_a_model_that_does_not_think_can_be_made_to_call_a_tool():
    adapted = PROVIDERS["moonshot"].dialect.adapt({"messages": HELLO, "tools": TOOLS, "tool_choice": "required"})
    assert adapted["tool_choice"] == "required"


def test_where_none_is_not_known_the_tools_are_left_out():
    request = {"messages": HELLO, "tools": TOOLS, "tool_choice": "none", "parallel_tool_calls": True}
    assert PROVIDERS["ollama"].dialect.adapt(request) == {"messages": HELLO}
    assert request["tools"] == TOOLS  # the request itself stays as it was


def test_mistral_is_spoken_to_in_its_own_words():
    request = {
        "messages": [{"role": "assistant", "content": None, "tool_calls": [_call("call_abc")]}, _result("call_abc")],
        "tools": TOOLS,
        "tool_choice": "required",
        "max_completion_tokens": 5,
        "seed": 1,
        "stream_options": {"include_usage": True},
        "stop": None,
    }
    adapted = PROVIDERS["mistral"].dialect.adapt(request)
    call_id = adapted["messages"][0]["tool_calls"][0]["id"]
    assert re.fullmatch("[a-zA-Z0-9]{9}", call_id)
    assert adapted["messages"][1]["tool_call_id"] == call_id
    assert "content" not in adapted["messages"][0]
    rest = {key: value for key, value in adapted.items() if key != "messages"}
    assert rest == {"tools": TOOLS, "tool_choice": "any", "max_tokens": 5, "random_seed": 1}


def test_arguments_that_are_no_object_are_sent_as_one():
    request = {"messages": [{"role": "assistant", "tool_calls": [_call("c", '{"a": ')]}, _result("c")]}
    adapted = PROVIDERS["openai"].dialect.adapt(request)
    assert adapted["messages"][0]["tool_calls"][0]["function"]["arguments"] == '{"malformed":"{\\"a\\": "}'


def _call(call_id: str, arguments: str = "{}") -> dict[str, object]:
    return {"id": call_id, "type": "function", "function": {"name": "add", "arguments": arguments}}


def _result(call_id: str) -> dict[str, object]:
    return {"role": "tool", "tool_call_id": call_id, "content": "3"}
