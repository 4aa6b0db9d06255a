"""What the application asks of the way to the process that drives a run, where several serve the same store."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol


class IRunCommands(Protocol):
    """Carries commands to all processes; the one whom a command concerns carries it out."""

    async def send(self, command: dict[str, Any]) -> bool:
        """Tell all processes; whether anybody listens. It may be lost on the way: who sends it can send it again."""
        ...

    def listen(self, handle: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        """Hand every command to `handle`."""
        ...


class NoOtherProcess:
    """The commands of a service that is alone."""

    async def send(self, command: dict[str, Any]) -> bool:
        """There is nobody to tell."""
        return False

    def listen(self, handle: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        """There is nobody to hear."""
