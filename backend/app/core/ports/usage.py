"""What the application asks of the place where tokens are counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class UsageRow:
    """The tokens of a user with one model on one day.

    Attributes:
        day: in UTC, as `YYYY-MM-DD`.
        conversation_id: empty for requests that belong to none.
        requests: answers of the model.
    """

    day: str
    user_id: str
    model: str
    conversation_id: str = ""
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class IUsageRepository(Protocol):
    """Sums of tokens. They outlive the conversations that they were spent in."""

    async def add(self, rows: Sequence[UsageRow]) -> None:
        """Add the figures of `rows` to what stands there for their day, user, model and conversation."""
        ...

    async def sums(
        self, user_id: str, *, since: str, until: str, conversation_id: str | None = None
    ) -> Sequence[UsageRow]:
        """A row for each day from `since` to `until` (both included) and model, in that order."""
        ...
