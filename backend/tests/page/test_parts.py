"""The page's own small parts, in Node."""

from tests.node import NODE_22, run_node


async def test_the_parts_of_the_page():
    said = await run_node("--experimental-strip-types", "--no-warnings", "--test", "page.mjs", node=NODE_22)
    assert "# fail 0" in said or "ℹ fail 0" in said
    assert "pass 6" in said
