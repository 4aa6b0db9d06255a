"""What a long history costs: `python -m bench.history`.

Conversations of 100 to 100,000 messages lie in one store. A turn is sent what fits CONTEXT_TOKENS=4000 of each, and a
page of 50 messages is read from its end and from its middle; that must not depend on how much lies before. Rounds go
through all conversations in turn, and ratios are of the same round. SQLite, and MongoDB's wire.
"""

import argparse
import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import aiohttp

from app.adapters.outbound.persistence.mongo import open_mongo
from app.adapters.outbound.persistence.sqlite import open_sqlite
from app.core.domain.conversation import Conversation
from app.core.domain.event import to_json
from app.core.domain.message import Message, MessageRole
from app.core.ports import Store
from bench import rig

SIZES = (100, 1_000, 10_000, 100_000)
TURNS = 30
PAGES = 60
LIMIT_TURN = {(10_000, 1_000): 1.2, (100_000, 10_000): 1.1}
LIMIT_PAGE = 1.5
LIMIT_BYTES = 3.0
WORDS = ("stream", "history", "a", "model", "answer", "of", "tool", "result", "number", "blue", "green", "not", "or")


def build(conversation: Conversation, size: int) -> list[Message]:
    """`size` messages of plausible text: questions, tool calls with their results, and answers."""
    chance = random.Random(size)
    messages: list[Message] = []
    for seq in range(1, size + 1):
        place = seq % 4
        role = (MessageRole.ASSISTANT, MessageRole.USER, MessageRole.ASSISTANT, MessageRole.TOOL)[place]
        words = " ".join(chance.choices(WORDS, k=60 if place == 0 else 20))
        call = {"id": f"call_{seq - place}", "name": "multiply", "args": {"a": seq, "b": place}, "type": "tool_call"}
        metadata = {
            0: {"model": "openai@bench", "finish_reason": "stop", "usage": {"input_tokens": 900, "output_tokens": 70}},
            1: {},
            2: {"tool_calls": [{**call, "id": f"call_{seq}"}], "model": "openai@bench", "finish_reason": "tool_calls"},
            3: {"tool_call_id": f"call_{seq - 1}", "name": "multiply", "status": "success"},
        }[place]
        parent = messages[-1].id if messages else None
        messages.append(
            Message(
                conversation_id=conversation.id,
                role=role,
                content="" if place == 2 else str(seq * place) if place == 3 else words,
                metadata=metadata,
                seq=seq,
                parent_id=parent,
            )
        )
    return messages


async def fill(store: Store) -> tuple[dict[int, str], int]:
    """A conversation of each size; their ids, and the bytes of all messages as JSON."""
    ids: dict[int, str] = {}
    total = 0
    for size in SIZES:
        conversation = Conversation(user_id="local", title=f"{size} messages", message_count=size)
        messages = build(conversation, size)
        conversation.head_message_id = messages[-1].id
        await store.conversations.restore(conversation, messages)
        ids[size] = conversation.id
        total += sum(len(to_json(message.to_wire()).encode()) for message in messages)
    await store.close()
    return ids, total


def bytes_in(folder: str) -> int:
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


async def time_turns(url: str, conversation_id: str) -> float:
    """The median time of a turn, in milliseconds."""
    client = rig.Turns(rig.ws_url(url))
    async with aiohttp.ClientSession() as session:
        await client.run(session, TURNS, conversation_id)
    return statistics.median(client.whole) * 1_000


async def time_pages(url: str, conversation_id: str, before: int | None) -> float:
    """The median time of a page of 50 messages, in milliseconds."""
    path = f"{url}/api/conversations/{conversation_id}/messages?limit=50" + (f"&before={before}" if before else "")
    times: list[float] = []
    async with aiohttp.ClientSession() as session:
        for _ in range(PAGES):
            began = time.perf_counter()
            async with session.get(path) as answer:
                assert len((await answer.json())["items"]) == 50
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1_000


def measure(name: str, url: str, ids: dict[int, str], rounds: int) -> bool:
    """Print what turns and pages cost; whether a limit is missed."""
    turns: dict[int, list[float]] = {size: [] for size in SIZES}
    pages: dict[tuple[int, str], list[float]] = {}
    for size in SIZES:
        asyncio.run(time_turns(url, ids[size]))
    for number in range(rounds):
        for size in SIZES if number % 2 else reversed(SIZES):
            turns[size].append(asyncio.run(time_turns(url, ids[size])))
        for size in SIZES if number % 2 else reversed(SIZES):
            for place, before in (("end", None), ("middle", size // 2 + 1)):
                pages.setdefault((size, place), []).append(asyncio.run(time_pages(url, ids[size], before)))

    def ratio(of: list[float], to: list[float]) -> float:
        return statistics.median(a / b for a, b in zip(of, to, strict=True))

    missed = False
    print(f"\n{name}: turns within CONTEXT_TOKENS=4000, {rounds} rounds of {TURNS}")
    for size in SIZES:
        print(f"  {size:>7} messages  {statistics.median(turns[size]):6.2f} ms a turn")
    for (larger, smaller), limit in LIMIT_TURN.items():
        found = ratio(turns[larger], turns[smaller])
        missed |= found > limit
        print(f"  {larger} against {smaller}: {found:.2f} (at most {limit})")
    print(f"{name}: pages of 50 messages, {rounds} rounds of {PAGES}")
    for place in ("end", "middle"):
        times = "  ".join(f"{size}: {statistics.median(pages[size, place]):.2f} ms" for size in SIZES)
        found = ratio(pages[SIZES[-1], place], pages[SIZES[0], place])
        missed |= found > LIMIT_PAGE
        print(f"  from the {place:6} {times}  {SIZES[-1]} against {SIZES[0]}: {found:.2f} (at most {LIMIT_PAGE})")
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-mongo", action="store_true")
    options = parser.parse_args()
    missed = False
    with ExitStack() as stack:
        base_url = stack.enter_context(rig.upstream())
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        ids, total = asyncio.run(fill(open_sqlite(Path(folder))))
        share = bytes_in(folder) / total
        missed |= share > LIMIT_BYTES
        print(f"SQLite: {share:.2f} bytes for each byte of message JSON (at most {LIMIT_BYTES})")
        with rig.service(base_url, data_dir=folder, CONTEXT_TOKENS="4000") as url:
            missed |= measure("SQLite", url, ids, options.rounds)
        if not options.no_mongo:
            mongodb_url = stack.enter_context(rig.mongo())
            database = f"bench_{os.getpid()}"

            async def fill_mongo() -> dict[int, str]:
                return (await fill(await open_mongo(mongodb_url, database, driver="pymongo")))[0]

            ids = asyncio.run(fill_mongo())
            settings = {"CONTEXT_TOKENS": "4000", "MONGODB_DATABASE": database}
            with rig.service(base_url, mongodb_url=mongodb_url, **settings) as url:
                missed |= measure("MongoDB's wire", url, ids, options.rounds)
    print(f"\nlimits: {'MISSED' if missed else 'kept'}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
