"""ComfyUI with its real frontend: the package that it ships, the answers that it needs to start, and our tab in it."""

from pathlib import Path
from typing import Any

from aiohttp import web

from tests.comfyui.fake import OBJECT_INFO, FakeComfyUI

ROOT = Path(__file__).parents[3]
TAB = ROOT / "comfyui" / "web"
PREFIXES = ("", "/api")
VERSIONS = ("1.27.10", "1.58.1")
"""The frontends that the tab is tried in: node ids are numbers in the old one and texts in the new one."""
FOLDER = ROOT / ".venv" / "comfyui-frontends"
"""Where they are, a folder each: `.ci/run` puts them there."""
LOADERS = {
    "ImageOnlyCheckpointLoader": "ckpt_name",
    "LoraLoaderModelOnly": "lora_name",
    "StyleModelLoader": "style_model",
    "GLIGENLoader": "gligen_name",
}
"""Node types that the frontend takes for granted and the recorded server's subset does not have."""


def files(version: str) -> Path | None:
    """The folder of a frontend's files; None where it is not there."""
    folder = FOLDER / version / "comfyui_frontend_package" / "static"
    return folder if folder.is_dir() else None


class ComfyUIWithFrontend(FakeComfyUI):
    """The server.

    Attributes:
        settings: ComfyUI's settings.
    """

    def __init__(self, version: str, static: Path) -> None:
        super().__init__()
        self._static = static
        self.settings: dict[str, Any] = {"Comfy.TutorialCompleted": True, "Comfy.InstalledVersion": version}

    def add_routes(self, app: web.Application) -> None:
        """The routes of the server, each also behind `/api`."""
        super().add_routes(app)
        answers: dict[str, Any] = {
            "/users": {"storage": "server", "migrated": True},
            "/i18n": {},
            "/extensions": ["/extensions/atelier/atelier.js"],
            "/userdata": [],
            "/experiment/models": [],
            "/embeddings": [],
            "/history": {},
            "/workflow_templates": {},
            "/node_replacements": {},
            "/features": {},
            "/global_subgraphs": {},
            "/jobs": {"jobs": [], "pagination": {"offset": 0, "limit": 200, "total": 0, "has_more": False}},
        }
        for path, answer in answers.items():
            self._add(app, "GET", path, _answering(answer))
        self._add(app, "GET", "/settings", self._get_settings)
        self._add(app, "POST", "/settings", self._set_settings)
        self._add(app, "POST", "/settings/{id}", self._set_setting)
        self._add(app, "GET", "/userdata/{file}", _missing)
        self._add(app, "POST", "/userdata/{file}", _answering({}))
        app.router.add_get("/", self._index)
        app.router.add_static("/extensions/atelier", TAB)
        app.router.add_static("/", self._static)

    @staticmethod
    def _add(app: web.Application, method: str, path: str, handler: Any) -> None:
        for prefix in PREFIXES:
            app.router.add_route(method, prefix + path, handler)

    async def _index(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(self._static / "index.html")

    async def _object_info(self, request: web.Request) -> web.Response:
        return web.json_response(OBJECT_INFO | {name: _loader(name, field) for name, field in LOADERS.items()})

    async def _get_settings(self, request: web.Request) -> web.Response:
        return web.json_response(self.settings)

    async def _set_settings(self, request: web.Request) -> web.Response:
        self.settings |= await request.json()
        return web.Response()

    async def _set_setting(self, request: web.Request) -> web.Response:
        self.settings[request.match_info["id"]] = await request.json()
        return web.Response()


def _loader(name: str, field: str) -> dict[str, Any]:
    shown = {
        "display_name": name,
        "description": "",
        "category": "loaders",
        "python_module": "nodes",
        "output_node": False,
    }
    outputs: dict[str, Any] = {"output": ["MODEL"], "output_name": ["MODEL"], "output_is_list": [False]}
    return {
        "name": name,
        "input": {"required": {field: [[], {}]}},
        "input_order": {"required": [field]},
        **outputs,
        **shown,
    }


def _answering(answer: Any) -> Any:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response(answer)

    return handler


async def _missing(request: web.Request) -> web.Response:
    raise web.HTTPNotFound
