"""Pictures of what is being made, for as long as somebody may look at them: in memory, the newest of them."""

from collections import OrderedDict

from app.core.domain.ids import new_id
from app.core.services.tools import FILES

MAX_PREVIEWS = 128
MAX_BYTES = 64 * 1024 * 1024


class Previews:
    """Previews by id, each for its owner alone; the oldest go when there are too many."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[str, bytes, str]] = OrderedDict()
        self._bytes = 0

    def keep(self, user_id: str, preview: tuple[bytes, str]) -> str:
        """Keep a preview; its address."""
        data, media_type = preview
        preview_id = new_id()
        self._kept[preview_id] = (user_id, data, media_type)
        self._bytes += len(data)
        while len(self._kept) > MAX_PREVIEWS or (self._bytes > MAX_BYTES and len(self._kept) > 1):
            _, (_, oldest, _) = self._kept.popitem(last=False)
            self._bytes -= len(oldest)
        return FILES + preview_id

    def find(self, user_id: str, preview_id: str) -> tuple[bytes, str] | None:
        """A preview of this user: its bytes, and what they are."""
        found = self._kept.get(preview_id)
        return (found[1], found[2]) if found is not None and found[0] == user_id else None
