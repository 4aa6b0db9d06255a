"""Definitions of workflow tools, and what a call makes of a workflow."""

import json
import random
from copy import deepcopy
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.outbound import tool_files
from app.adapters.outbound.tool_files import ToolFiles
from app.core.domain.workflow import MAX_SEED, DefinitionError, ToolDefinition, WorkflowTool

ROOT = Path(__file__).parents[3]
WORKFLOW: dict[str, Any] = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 0, "steps": 20, "model": ["4", 0]}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "old", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["4", 1]}},
}


def tool(*fields: dict[str, Any], workflow: Any = WORKFLOW) -> WorkflowTool:
    return WorkflowTool(ToolDefinition.model_validate({"name": "t", "fields": list(fields)}), workflow)


def a_field(**changes: Any) -> dict[str, Any]:
    return {"name": "text", "type": "string", "mapping": {"node": 6, "attribute": "text"}, **changes}


def test_the_example_is_listed_word_for_word():
    (example,) = ToolFiles(ROOT / "config", ROOT / "workflows").tools().values()
    assert (example.name, example.description) == (
        "example",
        "Makes a picture from a text prompt (Stable Diffusion 1.5)",
    )
    assert example.input_schema == {
        "type": "object",
        "properties": {
            "positive_prompt": {"type": "string", "description": "What the picture shows"},
            "negative_prompt": {"type": "string", "description": "What the picture must not show", "default": ""},
            "seed": {
                "type": "integer",
                "description": "The seed; the same seed and prompts make the same picture. Random when left out",
            },
        },
        "required": ["positive_prompt"],
    }


def test_values_go_where_they_are_mapped_and_nowhere_else():
    made = tool(
        a_field(),
        a_field(name="both", mapping=[{"node": "7", "attribute": "inputs.text"}, {"node": 3, "attribute": "note"}]),
        a_field(name="steps", type="integer", constant=7, mapping={"node": "KSampler", "attribute": "steps"}),
    )
    assert "steps" not in made.input_schema["properties"]
    filled = made.fill({"text": "a cat", "both": "x"}, random.Random(1))
    expected = deepcopy(WORKFLOW)
    expected["6"]["inputs"]["text"] = "a cat"
    expected["7"]["inputs"]["text"] = expected["3"]["inputs"]["note"] = "x"
    expected["3"]["inputs"]["steps"] = 7
    assert filled == expected
    assert made.fill({}, random.Random(1))["6"]["inputs"]["text"] == "old"


def test_what_is_left_out_is_generated_or_has_its_default():
    seed = {"name": "seed", "type": "integer", "generator": "seed", "mapping": {"node": 3, "attribute": "seed"}}
    steps = {"name": "n", "type": "integer", "generator": "random", "minimum": 5, "maximum": 9}
    made = tool(seed, {**steps, "mapping": {"node": 3, "attribute": "steps"}}, a_field(default="default"))
    chance = random.Random(7)
    filled = [made.fill({}, chance) for _ in range(50)]
    assert all(0 <= f["3"]["inputs"]["seed"] <= MAX_SEED and 5 <= f["3"]["inputs"]["steps"] <= 9 for f in filled)
    assert len({f["3"]["inputs"]["seed"] for f in filled}) == 50
    assert {f["6"]["inputs"]["text"] for f in filled} == {"default"}
    assert made.fill({"seed": 5, "n": 6, "text": "t"}, chance)["3"]["inputs"] == {
        "seed": 5,
        "steps": 6,
        "model": ["4", 0],
    }


@pytest.mark.parametrize(
    ("fields", "place", "said"),
    [
        ([a_field(mapping={"node": 99, "attribute": "text"})], "fields[0] (text).mapping[0].node", "no node '99'"),
        (
            [a_field(mapping={"node": "CLIPTextEncode", "attribute": "text"})],
            "fields[0] (text).mapping[0].node",
            "6, 7",
        ),
        (
            [a_field(mapping={"node": 6, "attribute": "inputs.a.b"})],
            "fields[0] (text).mapping[0].attribute",
            "inputs.a",
        ),
        ([a_field(mapping=[])], "fields[0] (text).mapping", "no place"),
        ([a_field(), a_field()], "fields[1] (text)", "already"),
        ([a_field(generator="seed")], "fields[0] (text).generator", "numbers"),
        ([a_field(type="integer", generator="random")], "fields[0] (text).generator", "minimum"),
        ([a_field(type="integer", minimum=5, maximum=1)], "fields[0] (text).minimum", "greater"),
    ],
)
def test_a_definition_that_cannot_be_says_where(fields: list[dict[str, Any]], place: str, said: str):
    with pytest.raises(DefinitionError) as fault:
        tool(*fields)
    assert (fault.value.place, said in fault.value.message) == (place, True)


@pytest.mark.parametrize("workflow", [[], {}, {"1": {"inputs": {}}}, {"1": 7}, {"nodes": [], "links": []}])
def test_what_is_no_workflow_is_refused(workflow: Any):
    with pytest.raises(DefinitionError):
        tool(a_field(), workflow=workflow)


names = st.text(alphabet="abcdefgh_", min_size=1, max_size=6)
scalars = st.one_of(
    st.text(max_size=8), st.integers(-100, 100), st.booleans(), st.floats(allow_nan=False, allow_infinity=False)
)
nodes = st.dictionaries(
    st.integers(1, 30).map(str),
    st.fixed_dictionaries(
        {"class_type": st.sampled_from(["A", "B", "C"]), "inputs": st.dictionaries(names, scalars, max_size=4)}
    ),
    min_size=1,
    max_size=6,
)


@given(data=st.data(), workflow=nodes)
def test_whatever_is_mapped_stands_in_the_workflow_and_nothing_else_has_changed(data: st.DataObject, workflow: Any):
    places = data.draw(
        st.lists(st.tuples(st.sampled_from(sorted(workflow)), names), min_size=1, max_size=5, unique=True)
    )
    fields = [
        {"name": f"f{n}", "type": "string", "mapping": {"node": node, "attribute": f"inputs.{name}"}}
        for n, (node, name) in enumerate(places)
    ]
    values = {f"f{n}": data.draw(scalars) for n in range(len(places)) if data.draw(st.booleans())}
    filled = tool(*fields, workflow=workflow).fill(values, random.Random(0))
    expected = deepcopy(workflow)
    for number, (node, name) in enumerate(places):
        if f"f{number}" in values:
            expected[node]["inputs"][name] = values[f"f{number}"]
    assert filled == expected


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToolFiles:
    monkeypatch.setattr(tool_files, "LOOK_SECONDS", 0.0)
    for folder in ("config", "workflows"):
        (tmp_path / folder).mkdir()
    (tmp_path / "workflows" / "t.json").write_bytes(orjson.dumps(WORKFLOW))
    return ToolFiles(tmp_path / "config", tmp_path / "workflows", lambda: ["add"])


def definition(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "fields": [a_field()], "workflow": "t.json", **more}


def test_a_file_holds_an_array_or_an_object_and_a_bad_one_stops_nobody(files: ToolFiles, tmp_path: Path):
    config = tmp_path / "config"
    (config / "a.json").write_text(json.dumps([definition("one"), {"name": "bad name"}, definition("add")]))
    (config / "b.json").write_text(
        json.dumps({"tools": [definition("two"), definition("three", workflow="../t.json")]})
    )
    (config / "c.json").write_text("{")
    (config / "d.json").write_text("7")
    (config / "e.json").write_text(json.dumps([definition("two"), definition("four", workflow="none.json")]))
    assert list(files.tools()) == ["one", "two"]
    found = {(fault.file, fault.tool) for fault in files.faults()}
    assert found == {
        ("a.json", "bad name"),
        ("a.json", "add"),
        ("b.json", "three"),
        ("c.json", None),
        ("d.json", None),
        ("e.json", "two"),
        ("e.json", "four"),
    }


def test_changes_are_picked_up(files: ToolFiles, tmp_path: Path):
    assert files.tools() == {}
    path = tmp_path / "config" / "a.json"
    path.write_text(json.dumps([definition("one")]))
    first = files.tools()
    assert list(first) == ["one"]
    assert files.tools() is first
    path.write_text(json.dumps([definition("another")]))
    assert list(files.tools()) == ["another"]
    (tmp_path / "workflows" / "t.json").unlink()
    assert files.tools() == {}
    assert "t.json" in files.faults()[0].message


def test_nothing_is_overwritten(files: ToolFiles, tmp_path: Path):
    files.add("made", WORKFLOW, {"name": "made", "fields": [a_field()]})
    assert list(files.tools()) == ["made"]
    before = (tmp_path / "config" / "made.json").read_bytes()
    with pytest.raises(DefinitionError, match="already"):
        files.add("made", WORKFLOW, {"name": "made", "fields": []})
    assert (tmp_path / "config" / "made.json").read_bytes() == before
    with pytest.raises(DefinitionError):
        files.add("broken", WORKFLOW, {"name": "broken", "fields": [a_field(mapping={"node": 99, "attribute": "x"})]})
    assert not (tmp_path / "config" / "broken.json").exists()
