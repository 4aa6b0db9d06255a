"""Asks ComfyUI's own frontend for the prompt of each official template, and records the fingerprints.

Run `make oracle` after a release of ComfyUI is added, with its frontend and template packages installed as in `.ci/run`.
"""

import asyncio
import gzip
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from playwright.async_api import async_playwright

from tests.comfyui.frontend import ComfyUIWithFrontend, files
from tests.comfyui.templates import RELEASES, Release, fingerprints, object_info, templates

START = 90_000
_CONVERT = """async (workflow) => {
    const quiet = {showMissingNodesDialog: false, showMissingModelsDialog: false};
    await window.app.loadGraphData(workflow, true, false, null, quiet);
    return (await window.app.graphToPrompt()).output;
}"""


class _Server(ComfyUIWithFrontend):
    """Serves a frontend with a whole node list."""

    def __init__(self, version: str, static: Path, nodes: dict[str, Any]) -> None:
        super().__init__(version, static)
        self._nodes = nodes

    async def _object_info(self, request: web.Request) -> web.Response:
        return web.json_response(self._nodes)


async def prompts(release: Release, workflows: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The prompt in API format that the frontend makes of each workflow."""
    static, chromium = files(release.frontend), shutil.which("chromium")
    if static is None or chromium is None:
        sys.exit(f"comfyui-frontend-package {release.frontend} or Chromium is missing; .ci/run installs both.")
    server = _Server(release.frontend, static, object_info(release.comfyui))
    await server.start()
    try:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = await browser.new_page(viewport={"width": 320, "height": 240})
            await page.goto(server.url, timeout=START)
            await page.wait_for_function(
                "window.app?.graph && Object.keys(window.LiteGraph.registered_node_types).length > 400", timeout=START
            )
            await page.evaluate("window.app.canvas.draw = () => {}")  # drawing takes most of the time
            made = {name: await page.evaluate(_CONVERT, workflow) for name, workflow in workflows.items()}
            await browser.close()
    finally:
        await server.stop()
    return made


async def main() -> None:
    """Record what the frontends make of all templates."""
    for release in RELEASES:
        nodes, made = object_info(release.comfyui), await prompts(release, templates(release))
        recorded = {
            name: fingerprints({key: node for key, node in prompt.items() if node["class_type"] in nodes}, nodes)
            for name, prompt in made.items()
        }
        release.record.write_bytes(gzip.compress(orjson.dumps(recorded), mtime=0))
        sys.stdout.write(f"{release}: {len(recorded)} templates recorded\n")


if __name__ == "__main__":
    asyncio.run(main())
