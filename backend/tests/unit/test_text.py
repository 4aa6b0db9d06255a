import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.domain.errors import InvalidFrame
from app.core.domain.text import MAX_DEPTH, check_json, check_text, clean_json, clean_text, is_clean

anything = st.text(alphabet=st.characters(exclude_categories=()))
wild = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | anything | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(anything | st.integers(), inner, max_size=3),
    max_leaves=10,
)


@given(anything)
def test_cleaned_text_goes_everywhere(text: str):
    cleaned = clean_text(text)
    assert is_clean(cleaned)
    assert cleaned.encode().decode() == cleaned
    assert clean_text(cleaned) == cleaned


@given(anything)
def test_clean_text_is_left_as_it_is(text: str):
    if is_clean(text):
        assert clean_text(text) is text
        assert check_text(text, "it") is text
    else:
        with pytest.raises(InvalidFrame, match="it holds a NUL"):
            check_text(text, "it")


@given(wild)
def test_cleaned_json_is_taken_by_every_writer(value: Any):
    cleaned = clean_json(value)
    assert orjson.loads(orjson.dumps(cleaned)) == cleaned
    assert json.loads(json.dumps(cleaned, allow_nan=False)) == cleaned
    assert check_json(cleaned, "it") == cleaned


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("a\0b", "it"),
        ({"x": ["\ud800"]}, "it.x[0]"),
        ({"\0": 1}, "it"),
        ([math.nan], "it[0]"),
        ({"a": math.inf}, "it.a"),
        ([2**63], "it[0]"),
        ([-(2**63) - 1], "it[0]"),
    ],
)
def test_what_no_store_takes_is_refused_by_its_place(value: Any, place: str):
    with pytest.raises(InvalidFrame) as failure:
        check_json(value, "it")
    assert failure.value.message.startswith(place + " ")


def test_depth_is_bounded():
    deep: Any = 1
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    with pytest.raises(InvalidFrame, match="nested"):
        check_json(deep, "it")
    assert "…" in json.dumps(clean_json(deep), ensure_ascii=False)


def test_great_numbers_become_floats_or_text():
    assert clean_json(2**64) == float(2**64)
    assert clean_json(10**400) == hex(10**400)
    assert clean_json([math.nan, -math.inf]) == [None, None]
