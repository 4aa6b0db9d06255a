"""Pieces of an answer on their way to a reader that takes its time."""

import asyncio

from app.adapters.outbound.llm_providers.openai_answers import Deltas


async def test_pieces_that_come_while_the_reader_is_busy_are_not_lost_at_the_end():
    pieces, go_on = Deltas(), asyncio.Event()

    async def answer() -> None:
        pieces.text("One ")
        await go_on.wait()
        pieces.text("two")

    asking = asyncio.create_task(answer())
    read: list[str] = []
    async for batch in pieces.until(asking):
        read += [delta["content"] for delta in batch]
        go_on.set()
        await asking
    assert read == ["One ", "two"]
