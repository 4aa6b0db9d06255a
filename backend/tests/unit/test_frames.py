import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.inbound.frames import AttachFrame, BadFrame, CancelFrame, MessageFrame, PingFrame, parse_frame
from app.core.domain.run import OnBusy


def refused(text: str | bytes) -> BadFrame:
    with pytest.raises(BadFrame) as failure:
        parse_frame(text)
    return failure.value


def test_every_frame_is_read():
    assert parse_frame('{"type": "message", "content": "Hi"}') == MessageFrame(type="message", content="Hi")
    whole = {
        "type": "message",
        "content": [{"type": "text", "text": "Hi"}],
        "conversation_id": "c",
        "message_id": "m",
        "model": "demo@offline",
        "client_tools": ["draw"],
        "on_busy": "reject",
        "unknown": 1,
    }
    frame = parse_frame(json.dumps(whole))
    assert isinstance(frame, MessageFrame)
    assert (frame.on_busy, frame.client_tools, frame.message_id) == (OnBusy.REJECT, ["draw"], "m")
    assert parse_frame('{"type": "attach", "run_id": "r", "after": 7}') == AttachFrame(
        type="attach", run_id="r", after=7
    )
    assert parse_frame('{"type": "cancel", "run_id": "r"}') == CancelFrame(type="cancel", run_id="r")
    assert parse_frame('{"type": "ping", "id": [1]}') == PingFrame(type="ping", id=[1])


@pytest.mark.parametrize(
    ("text", "code", "kind", "said"),
    [
        ("", "invalid_frame", None, "not JSON"),
        ("hello", "invalid_frame", None, "not JSON"),
        ('{"type": "ping"', "invalid_frame", None, "not JSON"),
        ("[]", "invalid_frame", None, "object"),
        ("null", "invalid_frame", None, "object"),
        ("{}", "invalid_frame", None, "no type"),
        ('{"type": 5}', "unknown_type", None, "None"),
        ('{"type": "dance"}', "unknown_type", "dance", "dance"),
        ('{"type": "message"}', "invalid_frame", "message", "content"),
        ('{"type": "message", "content": 5}', "invalid_frame", "message", "content"),
        (
            '{"type": "message", "content": "a", "conversation_id": "../x"}',
            "invalid_frame",
            "message",
            "conversation_id",
        ),
        ('{"type": "message", "content": "a", "on_busy": "wait"}', "invalid_frame", "message", "on_busy"),
        ('{"type": "message", "content": "\\u0000"}', "invalid_frame", "message", "NUL"),
        ('{"type": "message", "content": "\\ud800"}', "invalid_frame", None, "hex escape"),
        ('{"type": "message", "content": [{"text": "no type"}]}', "invalid_frame", "message", "no type"),
        ('{"type": "message", "content": [{"type": "x", "n": 1e999}]}', "invalid_frame", "message", "finite"),
        ('{"type": "attach", "run_id": "r", "after": -1}', "invalid_frame", "attach", "after"),
        ('{"type": "attach", "run_id": "r", "after": 1e30}', "invalid_frame", "attach", "after"),
        ("[" * 100_000, "invalid_frame", None, "not JSON"),
    ],
)
def test_what_is_no_frame_is_told_why(text: str, code: str, kind: str | None, said: str):
    bad = refused(text)
    assert bad.error.code == code
    assert bad.in_reply_to == kind
    assert said in bad.error.message


@given(st.binary(max_size=200))
def test_no_bytes_break_it(data: bytes):
    try:
        parse_frame(data)
    except BadFrame as bad:
        assert bad.error.code in ("invalid_frame", "unknown_type")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(
    ["content", "conversation_id", "message_id", "model", "client_tools", "on_busy", "run_id", "after", "id"]
)


@given(st.sampled_from(["message", "attach", "cancel", "ping", "dance"]), st.dictionaries(fields, values, max_size=5))
def test_no_shape_breaks_it(kind: str, body: dict[str, Any]):
    try:
        frame = parse_frame(json.dumps({**body, "type": kind}))
    except BadFrame as bad:
        assert bad.error.code in ("invalid_frame", "unknown_type")
        json.dumps(bad.error.to_wire()).encode()
    else:
        assert frame.type == kind
