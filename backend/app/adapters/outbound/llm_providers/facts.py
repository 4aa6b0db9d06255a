"""What is known of models: a table that comes with the service, what providers say, and what the operator writes.

`models.json` is made by `scripts/model_facts.py`. A file of the same shape in the data folder goes before it, field by
field; prices there are US dollars for a million tokens.
"""

import logging
import time
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import orjson
from pydantic import ValidationError

from app.core.domain.time import utc_now
from app.core.ports import ModelFacts

logger = logging.getLogger(__name__)

NOTHING = ModelFacts()
LOOK_SECONDS = 1.0
"""How often it is looked whether the operator's file has changed."""

RETIRES_SOON = timedelta(days=90)
"""How long before its end a model is marked, and no longer good enough as a provider's default."""

_TABLE = Path(__file__).with_name("models.json")


class FactBook:
    """Facts by `provider@model`.

    Args:
        own: the operator's file; it need not be there.
    """

    def __init__(self, own: Path) -> None:
        self._own = own
        self._read_at: int | None = None
        self._look_again_at = 0.0
        self._written: dict[str, dict[str, Any]] = {}
        self._told: dict[str, dict[str, Any]] = {}
        self._merged: dict[str, ModelFacts] = {}

    def tell(self, facts: dict[str, dict[str, Any]]) -> None:
        """Take what a provider says of its models."""
        self._told |= facts
        self._merged.clear()

    def of(self, model: str) -> ModelFacts:
        """What is known of `model`."""
        self._read_own()
        known = self._merged.get(model)
        if known is None:
            sources = (_table(), self._told, self._written)
            fields: dict[str, Any] = {}
            for source in sources:
                fields |= {key: value for key, value in source.get(model, {}).items() if value is not None}
            known = self._merged[model] = ModelFacts(**fields) if fields else NOTHING
        return known

    def known(self, provider: str) -> list[str]:
        """The models of a provider that the table and the operator's file name."""
        self._read_own()
        prefix = f"{provider}@"
        names = dict.fromkeys([*self._written, *_table()])
        return [name for name in names if name.startswith(prefix)]

    def in_service(self, provider: str, name: str) -> str:
        """`name`, or the model that its provider recommends instead once it has retired."""
        seen = {name}
        while is_retired(facts := self.of(f"{provider}@{name}")) and facts.successor and facts.successor not in seen:
            name = facts.successor
            seen.add(name)
        return name

    def _read_own(self) -> None:
        if time.monotonic() < self._look_again_at:
            return
        self._look_again_at = time.monotonic() + LOOK_SECONDS
        try:
            changed_at = self._own.stat().st_mtime_ns
        except OSError:
            changed_at = None
        if changed_at == self._read_at:
            return
        self._read_at = changed_at
        self._merged.clear()
        self._written = {}
        if changed_at is None:
            return
        try:
            document: Any = orjson.loads(self._own.read_bytes())
            self._written = {name: _checked(fields) for name, fields in cast("dict[str, Any]", document).items()}
        except (OSError, ValueError, AttributeError, TypeError, ValidationError) as error:
            reason = "; ".join(e["msg"] for e in error.errors()) if isinstance(error, ValidationError) else error
            logger.warning("%s in the data folder is not used: %s", self._own.name, reason)


def is_retired(facts: ModelFacts, today: date | None = None) -> bool:
    """Whether the provider has shut the model down."""
    return facts.retires is not None and facts.retires <= (today or utc_now().date())


def retires_soon(facts: ModelFacts, today: date | None = None) -> bool:
    """Whether the provider shuts the model down within `RETIRES_SOON`."""
    return facts.retires is not None and facts.retires - (today or utc_now().date()) < RETIRES_SOON


def _checked(fields: Any) -> dict[str, Any]:
    return ModelFacts.model_validate(fields).model_dump(exclude_unset=True)


@lru_cache(maxsize=1)
def _table() -> dict[str, dict[str, Any]]:
    return orjson.loads(_TABLE.read_bytes())
