"""Where the service of a data folder is reached, for commands on the same machine."""

from pathlib import Path

from app.adapters.outbound.private_file import write_private
from app.core.domain.errors import StorageUnavailable


class AddressFile:
    """A file with the address of the process that serves the data folder. After a crash it is out of date: ask there."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> str | None:
        """The address that was written last; None where there is none."""
        try:
            return self._path.read_text(encoding="utf-8").strip() or None
        except (OSError, ValueError):
            return None

    def write(self, address: str) -> None:
        """Say where the service is; a folder that cannot be written only makes this hint missing."""
        try:
            write_private(self._path, f"{address}\n".encode())
        except StorageUnavailable:
            self.remove()

    def remove(self) -> None:
        """The service ends."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return
