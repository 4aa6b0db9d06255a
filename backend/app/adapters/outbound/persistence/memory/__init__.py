"""A store in memory: for tests, and for conversations that need not last."""

from app.adapters.outbound.persistence.memory.store import MemoryStore

__all__ = ["MemoryStore"]
