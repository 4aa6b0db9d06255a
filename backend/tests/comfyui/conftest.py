"""The service with the example tool, with a ComfyUI and without one."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.client import Service
from tests.comfyui.fake import FakeComfyUI
from tests.integration.conftest import Start, start, upstream  # noqa: F401 - fixtures

ROOT = Path(__file__).parents[3]


@pytest.fixture
def example(tmp_path: Path) -> None:
    """The example tool in the test's folders."""
    for folder in ("config", "workflows"):
        shutil.copytree(ROOT / folder, tmp_path / folder)


@pytest.fixture
async def comfyui() -> AsyncIterator[FakeComfyUI]:
    server = FakeComfyUI()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def plain(start: Start, example: None) -> Service:  # noqa: F811
    """Without ComfyUI."""
    return await start()


@pytest.fixture
async def service(start: Start, example: None, comfyui: FakeComfyUI) -> Service:  # noqa: F811
    return await start(comfyui_url=comfyui.url, comfyui_timeout=30)
