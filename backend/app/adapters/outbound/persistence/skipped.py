"""Conversations that could not be taken over: each is logged once and counted, and the others go on."""

import logging

from prometheus_client import Counter

from app.core.domain.program import program

logger = logging.getLogger(__name__)

SKIPPED = Counter("atelier_conversations_skipped", "Times that a conversation could not be taken over and was skipped")


class Skipped:
    """What one repository skipped so far."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def note(self, conversation_id: str, error: Exception) -> None:
        """Count `error`, and log it the first time that this conversation fails."""
        SKIPPED.inc()
        if conversation_id not in self._logged:
            self._logged.add(conversation_id)
            logger.error(
                "conversation %s cannot be taken over and is skipped; `%s check` says what is wrong with it",
                conversation_id,
                program(),
                exc_info=error,
            )
