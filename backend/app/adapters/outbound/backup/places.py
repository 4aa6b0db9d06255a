"""What belongs to an installation, and where it lies."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.adapters.outbound.persistence.sqlite.store import FILE

DATABASE = "database.sqlite3"
MANIFEST = "manifest.json"
SECRETS = ("token", "keys.json")
_NAME = re.compile(
    r"manifest\.json|database\.sqlite3|models\.json|mcp\.json|token|keys\.json"
    r"|(config|workflows)/[^/\\\x00-\x1f]{1,200}\.json|files/[A-Za-z0-9_-]{1,64}/[A-Za-z0-9_-]{1,128}(\.json)?"
)
"""Every name that an archive may have in it. None leads out of a folder."""


@dataclass(frozen=True, slots=True)
class Places:
    """The folders and files of an installation.

    Attributes:
        data: the data folder.
        files: the folder of files that tools make.
        config: the folder of the tools' definitions.
        workflows: the folder of their workflows.
        mcp: the file that lists MCP servers.
    """

    data: Path
    files: Path
    config: Path
    workflows: Path
    mcp: Path

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.data / FILE

    def of(self, name: str) -> Path:
        """Where what an archive has under `name` belongs."""
        first, _, rest = name.partition("/")
        if rest:
            return {"files": self.files, "config": self.config, "workflows": self.workflows}[first] / rest
        return {DATABASE: self.database, "mcp.json": self.mcp}.get(name, self.data / name)

    def present(self, *, secrets: bool) -> Iterator[tuple[str, Path]]:
        """What there is beside the database: names in an archive, and paths."""
        names = ["models.json", "mcp.json", *(SECRETS if secrets else ())]
        yield from ((name, self.of(name)) for name in names if self.of(name).is_file())
        for name, folder in (("config", self.config), ("workflows", self.workflows)):
            yield from ((f"{name}/{path.name}", path) for path in sorted(folder.glob("*.json")) if path.is_file())
        for path in sorted(self.files.glob("*/*")):
            if path.is_file() and path.suffix in ("", ".json"):
                yield f"files/{path.parent.name}/{path.name}", path


def is_allowed(name: str) -> bool:
    """Whether an archive may have something of this name in it."""
    return _NAME.fullmatch(name) is not None
