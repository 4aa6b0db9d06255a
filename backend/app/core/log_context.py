"""Which run the code that is running works for, so that its log lines can say so."""

from contextvars import ContextVar

current_run: ContextVar[str | None] = ContextVar("current_run", default=None)
