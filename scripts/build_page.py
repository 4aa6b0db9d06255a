"""A wheel carries the page built: the build hook that sees to it."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BuildPage(BuildHookInterface[Any]):
    """Builds the page before a wheel is made, where it is not built; an editable install is left to `make`."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See that `backend/app/web` is there.

        Raises:
            RuntimeError: it is not, and cannot be built.
        """
        root = Path(self.root)
        if version == "editable" or (root / "backend/app/web/index.html").is_file():
            return
        npm = shutil.which("npm")
        if npm is None:
            raise RuntimeError("The page is not built, and Node 20 or newer is not there to build it.")
        for command in (["ci", "--no-audit", "--no-fund"], ["run", "build"]):
            subprocess.run([npm, *command], cwd=root / "frontend", check=True)
