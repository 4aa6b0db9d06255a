"""The declared tools, and what is generated from them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.core.domain.declared_tools import DECLARED_TOOLS
from tests.node import run_node

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts" / "tool_schemas.py"
GENERATED = ROOT / "frontend" / "src" / "generated"
NUMBERS = st.one_of(
    st.integers(-3, 30),
    st.sampled_from(
        [0, 1, 100, 101, 3_600, 3_600.5, 2**53 - 1, 2**53, 2**53 + 2, -(2**53), 1e300, 10**400, 1.5, 3.0, -0.0]
    ),
    st.floats(allow_nan=False, allow_infinity=False),
)
TEXTS = st.one_of(
    st.text(max_size=5),
    st.sampled_from(
        ["", "a", "a-b", "a--b", "A", "a\n", "é", "😀" * 80, "😀" * 81, "x" * 80, "x" * 81, "x" * 500, "x" * 501]
    ),
    st.sampled_from(["x" * 20_000, "x" * 20_001]),
)
VALUES = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
JSON = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def cases(name: str) -> st.SearchStrategy[Any]:
    """Arguments for a tool: mostly right, and wrong in every way."""
    fields = DECLARED_TOOLS[name].parameters.model_fields
    right: dict[str, st.SearchStrategy[Any]] = {
        "position": st.fixed_dictionaries({"x": NUMBERS, "y": NUMBERS}),
        "workflow": st.dictionaries(st.text(max_size=3), VALUES, max_size=2),
        "slug": st.sampled_from(["a", "a-b", "1"]),
        "value": VALUES,
        **dict.fromkeys(("nodeId", "sourceNodeId", "sourceSlot", "targetNodeId", "targetSlot"), st.integers(0, 9)),
        **dict.fromkeys(("includeNodeDetails", "includeLayout", "includeWidgetOptions", "fullFormat"), st.booleans()),
        **dict.fromkeys(("timeout", "limit"), st.integers(1, 100)),
    }
    fitting = st.fixed_dictionaries({field: right.get(field, TEXTS) for field in fields})
    guess = {field: st.one_of(right.get(field, TEXTS), VALUES, NUMBERS, JSON) for field in fields}
    shaped = st.fixed_dictionaries({}, optional=guess)
    whole = st.fixed_dictionaries(guess)
    extra = st.tuples(whole, st.dictionaries(st.sampled_from(["other", ""]), VALUES, min_size=1)).map(
        lambda two: two[0] | two[1]
    )
    return st.one_of(fitting, whole, shaped, extra, JSON)


def accepts(name: str, case: Any) -> bool:
    try:
        DECLARED_TOOLS[name].parameters.model_validate_json(json.dumps(case))
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("name", DECLARED_TOOLS)
async def test_zod_takes_and_refuses_what_pydantic_does(name: str, tmp_path: Path):
    found: list[Any] = []

    @settings(max_examples=150, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(cases(name))
    def collect(case: Any) -> None:
        found.append(case)

    collect()
    (tmp_path / "cases.json").write_text(json.dumps(found))
    verdicts = json.loads(await run_node("zod.mjs", name, str(tmp_path / "cases.json")))
    ours = [accepts(name, case) for case in found]
    differing = [
        (case, mine, theirs) for case, mine, theirs in zip(found, ours, verdicts, strict=True) if mine != theirs
    ]
    assert differing == []
    assert any(ours)
    assert not all(ours)


def test_what_is_generated_is_not_stale():
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_stale_schema_fails_the_check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    code = f"""
import runpy, sys
sys.argv = ["tool_schemas.py", "--check"]
from app.core.domain import declared_tools
declared_tools.DECLARED_TOOLS["addNode"] = declared_tools.DeclaredTool("Something else.", declared_tools.AddNode)
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "make schemas" in done.stderr


def test_the_schemas_say_what_the_models_take():
    schemas = json.loads((GENERATED / "tools.json").read_text())
    assert list(schemas) == list(DECLARED_TOOLS)
    assert schemas["connectNodes"]["inputSchema"]["required"] == [
        "sourceNodeId",
        "sourceSlot",
        "targetNodeId",
        "targetSlot",
    ]
    assert schemas["addNode"]["inputSchema"]["properties"]["position"]["anyOf"][0]["properties"]["x"] == {
        "type": "number"
    }
