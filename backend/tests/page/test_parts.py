"""The page's own small parts, in Node."""

import pytest

from tests.node import NODE_22, run_node


@pytest.mark.parametrize(("program", "tests"), [("page.mjs", 8), ("math.mjs", 3)])
async def test_the_parts_of_the_page(program: str, tests: int):
    said = await run_node("--experimental-strip-types", "--no-warnings", "--test", program, node=NODE_22)
    assert "# fail 0" in said or "ℹ fail 0" in said
    assert f"pass {tests}" in said
