"""A run that ends its process each time is given up in the end, on every store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.adapters.outbound.llm_providers.catalog import ModelCatalog
from app.adapters.outbound.run_log.memory import MemoryRunLog
from app.core.domain.message import Message, MessageRole
from app.core.domain.run import RunStatus
from app.core.domain.user import User
from app.core.ports import ITurnRecorder, Store, Turn
from app.core.services.driver import MAX_TAKEOVERS
from app.core.services.prompt import PromptService
from app.core.services.run_limits import RunLimits
from app.core.services.runs import RunService, Send
from app.core.services.skills import SkillService
from app.settings import Settings

ANN = User(id="ann", name="Ann")
CALL = {"id": "call_1", "name": "add", "args": {}, "type": "tool_call"}


class Agent:
    """Answers every message but those that end its process."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.steps = 0

    async def run(self, turn: Turn, recorder: ITurnRecorder) -> None:
        asked = next(m for m in reversed(turn.history) if m.role is MessageRole.USER)
        if asked.text == "poison":
            if self.steps:
                self.steps -= 1
                await self._call_a_tool(turn, recorder)
            self.begun.set()
            await asyncio.Event().wait()
        answer = Message(id=recorder.begin_answer(), conversation_id=turn.conversation_id, role=MessageRole.ASSISTANT)
        recorder.text("fine")
        await recorder.close([answer.model_copy(update={"content": "fine"})])

    async def _call_a_tool(self, turn: Turn, recorder: ITurnRecorder) -> None:
        message = Message(id=recorder.begin_answer(), conversation_id=turn.conversation_id, role=MessageRole.ASSISTANT)
        message.metadata["tool_calls"] = [CALL]
        await recorder.calls_tools(message, {})

    async def preview(self, turn: Turn) -> None:
        raise NotImplementedError


@asynccontextmanager
async def process(store: Store, agent: Agent) -> AsyncIterator[RunService]:
    """A process that serves the store, up to its end in the middle of whatever it does."""
    settings = Settings(_env_file=None, default_model="demo@offline")
    prompts = PromptService(SkillService(store.skills))
    service = RunService(store, MemoryRunLog(), agent, ModelCatalog(settings), RunLimits(), prompts)
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


async def one_more_process(store: Store, agent: Agent) -> None:
    agent.begun.clear()
    async with process(store, agent):
        async with asyncio.timeout(20):
            await agent.begun.wait()


async def test_a_run_that_ends_every_process_is_given_up(store: Store) -> None:
    agent = Agent()
    async with process(store, agent) as service:
        run = await service.send(ANN, Send("poison"))
        queued = await service.send(ANN, Send("Hello", conversation_id=run.conversation_id))
        await agent.begun.wait()
    for _ in range(MAX_TAKEOVERS):
        await one_more_process(store, agent)
    async with process(store, agent) as service:
        [*_, end] = await service.wait(ANN, run.id)
        assert (end.type, end.data["code"], end.data["retryable"]) == ("error", "interrupted", True)
        await service.wait(ANN, queued.id)
    ended = await store.runs.get(run.id, ANN.id)
    assert ended is not None
    assert (ended.status, ended.error and ended.error["code"]) == (RunStatus.FAILED, "interrupted")
    history = await store.messages.get_by_conversation_id(run.conversation_id)
    assert [message.text for message in history] == ["poison", "Hello", "fine"]


@pytest.mark.parametrize("taken_over", [1, MAX_TAKEOVERS])
async def test_a_stored_step_begins_the_count_again(store: Store, taken_over: int) -> None:
    agent = Agent()
    async with process(store, agent) as service:
        run = await service.send(ANN, Send("poison"))
        await agent.begun.wait()
    for number in range(taken_over):
        agent.steps = number == taken_over - 1
        await one_more_process(store, agent)
    for _ in range(MAX_TAKEOVERS):
        await one_more_process(store, agent)
    async with process(store, agent) as service:
        [*_, end] = await service.wait(ANN, run.id)
    assert (end.type, end.data["code"]) == ("error", "interrupted")
    history = await store.messages.get_by_conversation_id(run.conversation_id)
    assert [message.role.value for message in history] == ["user", "assistant", "tool"]
    assert "failed before" in history[-1].text
