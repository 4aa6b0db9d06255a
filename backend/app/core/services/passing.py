"""Turns that nothing is kept of: the agent answers a history that comes with the request, and forgets it."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from app.core.domain.declared_tools import GRAPH_TOOLS
from app.core.domain.errors import AtelierError, RateLimited, describe
from app.core.domain.event import RunEvent
from app.core.domain.ids import new_id
from app.core.domain.message import Message
from app.core.domain.run import Run
from app.core.domain.tool import ALL_TOOLS, Approval
from app.core.domain.user import User
from app.core.ports import IAgent, Step, Turn
from app.core.services.repair import repair
from app.core.services.run_limits import RunLimits
from app.core.services.turn import CountTokens, TurnRecorder

_NEED_A_CONVERSATION = tuple(GRAPH_TOOLS)
"""Tools whose work is kept with a conversation: there is none."""


class PassingTurns:
    """Runs turns whose events go to the one who asked, and nowhere else."""

    def __init__(self, agent: IAgent, limits: RunLimits, count: CountTokens) -> None:
        self._agent = agent
        self._limits = limits
        self._count = count
        self._running = 0

    async def run(
        self, user: User, model: str, history: Sequence[Message], *, with_tools: bool = True
    ) -> AsyncGenerator[list[RunEvent]]:
        """The events of a turn behind `history`, in batches, to its end. Who stops listening stops the turn.

        A tool that needs the user's approval is refused: there is nobody to ask. Without `with_tools` none is offered.

        Raises:
            RateLimited: as many turns run as may.
        """
        if self._running >= self._limits.max_runs:
            raise RateLimited("The service is busy with as many answers as it can give at once. Try again in a moment.")
        run = Run(conversation_id=new_id(), user_id=user.id, model=model, message_id=history[-1].id)
        pipe = _Pipe()
        recorder = TurnRecorder(run, "", pipe, pipe, self._uncounted)
        turn = Turn(
            run_id=run.id,
            conversation_id=run.conversation_id,
            user_id=user.id,
            model=model,
            history=repair(history),
            policy=self._limits.policy(
                dict.fromkeys(_NEED_A_CONVERSATION if with_tools else (ALL_TOOLS,), Approval.DENY), can_ask=False
            ),
        )
        self._running += 1
        running = asyncio.create_task(self._run(turn, recorder))
        running.add_done_callback(lambda _: pipe.more.set())
        try:
            while not running.done() or pipe.events:
                await pipe.more.wait()
                pipe.more.clear()
                if pipe.events:
                    events, pipe.events = pipe.events, []
                    yield events
            running.result()
        finally:
            self._running -= 1
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _run(self, turn: Turn, recorder: TurnRecorder) -> None:
        try:
            await self._agent.run(turn, recorder)
        except AtelierError as error:
            await recorder.failed(error)
        except Exception as error:
            await recorder.failed(describe(error))
            raise

    def _uncounted(self, user_id: str, model: str, usage: Mapping[str, Any], conversation_id: str = "") -> None:
        """Count the tokens, but for no conversation: there is none."""
        self._count(user_id, model, usage)


class _Pipe:
    """What a recorder stores and tells, handed to the one who listens."""

    def __init__(self) -> None:
        self.events: list[RunEvent] = []
        self.more = asyncio.Event()

    async def commit(self, step: Step) -> bool:
        return False

    def append(self, event: RunEvent) -> None:
        self.events.append(event)
        self.more.set()

    def restore(self, run_id: str, events: Sequence[RunEvent]) -> None:
        """There is nothing to go back to."""

    def notify(self, notice: RunEvent) -> None:
        """Nothing is stored, so no store is waited for."""

    async def settle(self) -> None:
        """Nobody else reads."""
