"""What searches cost, and what they cost others: `python -m bench.search`.

A store of --conversations with ten messages each, of 30,000 words as often as words are in a language (Zipf). Each query
is asked in turn, from two letters that begin most messages to a word that is nowhere; none may take longer than the limit,
but it may be refused as too broad. Then turns are measured alone and beside four users who type searches, in alternating
rounds of one run. Figures in docs/decisions.md are with --conversations 100000, which is a million messages.
"""

import argparse
import asyncio
import itertools
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import aiohttp

from app.adapters.outbound.persistence.sqlite import open_sqlite
from bench import rig

MESSAGES = 10
WORDS_EACH = 30
LETTERS = "etaoinshrdlucmfwypvbgkjqxz"
LIMIT_MS = 300.0
LIMIT_TURNS = 1.2
SEARCHERS = 4
PAUSE = 0.15
"""Seconds between the searches of one who types."""


def vocabulary(count: int = 30_000) -> list[str]:
    """Different words, the most frequent first, with letters as frequent as in English."""
    chance = random.Random(1)
    words: dict[str, None] = {}
    while len(words) < count:
        length = min(12, max(2, int(chance.gauss(6, 2.5))))
        words["".join(chance.choices(LETTERS, weights=range(26, 0, -1), k=length))] = None
    return list(words)


def fill(folder: Path, conversations: int) -> list[str]:
    """A store with so many conversations; its words."""
    asyncio.run(open_sqlite(folder).close())
    words = vocabulary()
    chance = random.Random(2)
    frequency = list(itertools.accumulate(1 / (place + 2) for place in range(len(words))))

    def text(number: int) -> list[str]:
        return chance.choices(words, cum_weights=frequency, k=number)

    def messages() -> Iterator[tuple[object, ...]]:
        for number in range(1, conversations + 1):
            said = text(MESSAGES * WORDS_EACH)
            for seq in range(1, MESSAGES + 1):
                role = "user" if seq % 2 else "assistant"
                content = " ".join(said[(seq - 1) * WORDS_EACH : seq * WORDS_EACH])
                parent = f"m{seq - 1}" if seq > 1 else None
                yield number << 32 | seq, number, f"m{seq}", parent, role, content, number

    with closing(sqlite3.connect(folder / "atelier.sqlite3", isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.executemany(
            "INSERT INTO conversations (number, id, user_id, title, head_message_id, spans, forks, message_count, last_seq,"
            " created_at, updated_at) VALUES (?, ?, 'local', ?, ?, '[[1,null]]', '[]', ?, ?, ?, ?)",
            (
                (n, f"c{n:07}", " ".join(text(5)), f"m{MESSAGES}", MESSAGES, MESSAGES, n, chance.randrange(10**9))
                for n in range(1, conversations + 1)
            ),
        )
        connection.executemany(
            "INSERT INTO messages (place, conversation, id, parent_id, role, content, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
            messages(),
        )
        for _, sql in triggers:
            connection.execute(sql)
        for index in ("search_index", "message_text"):
            if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (index,)).fetchone():
                connection.execute(f"INSERT INTO {index} ({index}) VALUES ('rebuild')")
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return words


def queries(words: list[str]) -> dict[str, str]:
    return {
        "one letter": words[0][0],
        "two letters": words[0][:2],
        "the most frequent word": words[0],
        "two frequent words": f"{words[0]} {words[1]}",
        "eight words of two letters": " ".join(sorted({word[:2] for word in words[:40]})[:8]),
        "a word of 1 in 100 messages": words[600],
        "a rare word": words[-1],
        "a word that is nowhere": "zzzzqqqq",
    }


async def ask(session: aiohttp.ClientSession, url: str, q: str) -> tuple[float, int, int]:
    """Milliseconds, the status, and how many were found."""
    began = time.perf_counter()
    async with session.get(f"{url}/api/conversations", params={"q": q, "limit": "50"}) as answer:
        found = await answer.json()
    return (time.perf_counter() - began) * 1_000, answer.status, len(found.get("items", []))


async def measure_queries(url: str, words: list[str], times: int) -> bool:
    missed = False
    async with aiohttp.ClientSession() as session:
        for name, q in queries(words).items():
            answers = [await ask(session, url, q) for _ in range(times + 1)][1:]
            took, slowest = statistics.median(ms for ms, _, _ in answers), max(ms for ms, _, _ in answers)
            said = {(status, found) for _, status, found in answers}
            missed |= took > LIMIT_MS
            outcome = ", ".join(f"{found} found" if status == 200 else f"refused ({status})" for status, found in said)
            print(f"  {name:28} {took:8.1f} ms, at most {slowest:8.1f} ms   {outcome}")
    return missed


async def type_searches(url: str, words: list[str], number: int) -> None:
    """Search as one who types does: each word letter by letter, with an answer awaited before the next pause."""
    chance = random.Random(number)
    async with aiohttp.ClientSession() as session:
        while True:
            word = chance.choice(words[:200])
            for length in range(1, len(word) + 1):
                await ask(session, url, word[:length])
                await asyncio.sleep(PAUSE)


async def time_turns(url: str, turns: int) -> tuple[float, float]:
    """The median and the longest time of a turn, in milliseconds."""
    client = rig.Turns(rig.ws_url(url))
    async with aiohttp.ClientSession() as session:
        await client.run(session, turns)
    return statistics.median(client.whole) * 1_000, max(client.whole) * 1_000


async def measure_turns(url: str, words: list[str], rounds: int, turns: int) -> bool:
    await time_turns(url, turns)
    alone, beside, longest = list[float](), list[float](), list[float]()
    for _ in range(rounds):
        alone.append((await time_turns(url, turns))[0])
        searchers = [asyncio.create_task(type_searches(url, words, n)) for n in range(SEARCHERS)]
        median, most = await time_turns(url, turns)
        for searcher in searchers:
            searcher.cancel()
        await asyncio.gather(*searchers, return_exceptions=True)
        beside.append(median)
        longest.append(most)
    ratio = statistics.median(b / a for a, b in zip(alone, beside, strict=True))
    print(
        f"  turns alone {statistics.median(alone):.1f} ms, beside {SEARCHERS} who search {statistics.median(beside):.1f} ms"
    )
    print(f"  ratio {ratio:.2f} (at most {LIMIT_TURNS}); the longest turn beside them took {max(longest):.0f} ms")
    return ratio > LIMIT_TURNS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conversations", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, rig.upstream() as base_url:
        began = time.perf_counter()
        words = fill(Path(folder), options.conversations)
        size = (Path(folder) / "atelier.sqlite3").stat().st_size
        took = time.perf_counter() - began
        print(f"{options.conversations * MESSAGES:,} messages, {size / 1e6:,.0f} MB, made in {took:.0f} s")
        with rig.service(base_url, data_dir=folder) as url:
            print(f"searches, {options.times} times each (at most {LIMIT_MS:.0f} ms)")
            missed = asyncio.run(measure_queries(url, words, options.times))
            missed |= asyncio.run(measure_turns(url, words, options.rounds, options.turns))
    print(f"\nlimits: {'MISSED' if missed else 'kept'}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
