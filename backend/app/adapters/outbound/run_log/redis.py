"""The events of runs in Redis Streams, and commands to the process that drives a run: what makes several servers one.

What this process drives is read from its own memory; the stream of a run serves everybody else. An event's number is
its id in the stream, so that writing one again after a lost answer changes nothing. Redis is not what keeps a run: where
it has lost events, a reader is told, and reads them from the store.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, cast

import orjson
from prometheus_client import Counter
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from app.adapters.outbound.run_log.memory import EVENT_BYTES, MemoryRunLog
from app.core.domain.errors import StorageUnavailable
from app.core.domain.event import RunEvent
from app.core.ports.run_log import EventsGone, IRunFeed

logger = logging.getLogger(__name__)

EVENTS_A_RUN = 20_000
EVENTS_A_BATCH = 500
PENDING_BYTES = 64 * 1024 * 1024
"""Bytes of the events that wait for a Redis that is away; the oldest go when there are more."""

RUNNING_SECONDS = 7 * 24 * 3600
ENDED_SECONDS = 3600
LAST_WRITES_SECONDS = 2.0
SETTLE_SECONDS = 1.0
"""How long a run that comes to wait waits for Redis; whoever attaches then reads the store."""

BLOCK_MILLISECONDS = 5_000
READ_AHEAD = 2_000
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
COMMANDS = "atelier:commands"
MALFORMED = Counter("atelier_redis_malformed", "Messages and entries in Redis that are not what this service writes")


def _key(run_id: str) -> str:
    return f"atelier:run:{run_id}"


async def connect(url: str) -> Redis:
    """A client of the Redis at `url`.

    Raises:
        StorageUnavailable: it does not answer; the message names the setting.
    """
    try:
        # Whoever uses it tries again by itself, and knows what may be sent twice.
        client = Redis.from_url(url, socket_connect_timeout=5, retry=Retry(NoBackoff(), 0), protocol=2)
        await client.ping()  # pyright: ignore[reportGeneralTypeIssues, reportUnknownMemberType]
    except (RedisError, OSError, ValueError) as error:
        raise StorageUnavailable(
            "Redis cannot be reached. Check REDIS_URL and that Redis runs; without REDIS_URL one server does without it."
        ) from error
    return client


class RedisRunLog:
    """An `IRunLog` that several processes share."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._local = MemoryRunLog()
        self._feeds: dict[str, set[_Feed]] = {}
        self._pending = _Pending()
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._written = asyncio.Event()
        self._writer = asyncio.create_task(self._write_all(), name="redis run log")

    def append(self, event: RunEvent) -> None:
        """Add the run's next event here, and soon to its stream."""
        self._local.append(event)
        self._pending.append(event)
        self._idle.clear()
        self._more.set()

    def restore(self, run_id: str, events: Sequence[RunEvent]) -> None:
        """Add events here, and soon to the run's stream; the stream refuses those that it has."""
        self._local.restore(run_id, events)
        self._pending.extend(events)
        self._idle.clear()
        self._more.set()

    def notify(self, notice: RunEvent) -> None:
        """Tell those who listen at this process."""
        self._local.notify(notice)

    async def settle(self) -> None:
        """Wait until everything that has been appended by now is in Redis, if that can be reached."""
        last = self._pending.last
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                while last is not None and last in self._pending:
                    self._written.clear()
                    await self._written.wait()

    async def follow(self, run_id: str, after: int, wake: Callable[[], None]) -> IRunFeed | None:
        """A feed from this process's memory, or from the stream; None where neither has those events."""
        local = await self._local.follow(run_id, after, wake)
        if local is not None:
            return self._feed(run_id, after, wake, local)
        first = await self._first(run_id)
        return None if first is None or after < first - 1 else self._feed(run_id, after, wake, None)

    async def follow_rest(self, run_id: str, wake: Callable[[], None]) -> tuple[int, IRunFeed]:
        """A feed of all that is there of the run, and of all that will come."""
        if self._local.knows(run_id):
            begins_after, local = await self._local.follow_rest(run_id, wake)
            return begins_after, self._feed(run_id, begins_after, wake, local)
        first = await self._first(run_id)
        begins_after = first - 1 if first else 0
        return begins_after, self._feed(run_id, begins_after, wake, None)

    def release(self, run_id: str) -> None:
        """This process does not drive the run any more: its listeners go on from the stream."""
        self._local.forget(run_id)
        for feed in self._feeds.get(run_id, ()):
            feed.go_remote()

    async def close(self) -> None:
        """Write what is still to be written, if Redis is there, and stop."""
        try:
            async with asyncio.timeout(LAST_WRITES_SECONDS):
                await self._idle.wait()
        except TimeoutError:
            logger.warning("%d events could not be written to Redis", len(self._pending))
        self._writer.cancel()
        await asyncio.gather(self._writer, return_exceptions=True)
        await self._client.aclose()

    def _feed(self, run_id: str, after: int, wake: Callable[[], None], local: IRunFeed | None) -> "_Feed":
        feed = _Feed(self._client, run_id, after, wake, local, self._forget)
        self._feeds.setdefault(run_id, set()).add(feed)
        return feed

    def _forget(self, run_id: str, feed: "_Feed") -> None:
        feeds = self._feeds.get(run_id)
        if feeds is not None:
            feeds.discard(feed)
            if not feeds:
                del self._feeds[run_id]

    async def _first(self, run_id: str) -> int | None:
        """The number of the first event in the run's stream."""
        try:
            found: list[Any] = await self._client.xrange(_key(run_id), count=1)  # pyright: ignore
        except RedisError as error:
            logger.warning("Redis cannot be read: %s", type(error).__name__)
            return None
        return int(found[0][0].split(b"-")[0]) if found else None

    async def _write_all(self) -> None:
        """Write events in batches; when Redis is away, keep them and try again."""
        pause = FIRST_PAUSE
        while True:
            await self._more.wait()
            self._more.clear()
            while self._pending:
                batch = self._pending.first(EVENTS_A_BATCH)
                try:
                    await self._write(batch)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
                    logger.warning("events wait for Redis: %s", type(error).__name__)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, LONGEST_PAUSE)
                    continue
                pause = FIRST_PAUSE
                self._pending.remove(batch)
                self._written.set()
            self._idle.set()

    async def _write(self, batch: list[RunEvent]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for event in batch:
            key = _key(event.run_id)
            if not _can_be_written(event):
                continue
            pipeline.xadd(key, {"e": event.json}, id=f"{event.seq}-0", maxlen=EVENTS_A_RUN, approximate=True)  # pyright: ignore
            if event.ends:
                pipeline.expire(key, ENDED_SECONDS)
            elif event.type in ("accepted", "started", "reset"):
                pipeline.expire(key, RUNNING_SECONDS)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        for answer in answers:
            # An event that is there already is refused for its id: it had been written, and the answer was lost.
            if isinstance(answer, Exception) and not isinstance(answer, ResponseError):
                raise answer


class _Pending:
    """Events that are not written yet, oldest first, as many bytes as may wait."""

    def __init__(self, budget: int = PENDING_BYTES) -> None:
        self._events: deque[RunEvent] = deque()
        self._size = 0
        self._budget = budget

    def __len__(self) -> int:
        return len(self._events)

    def __contains__(self, event: RunEvent) -> bool:
        return event in self._events

    @property
    def last(self) -> RunEvent | None:
        """The newest event."""
        return self._events[-1] if self._events else None

    def append(self, event: RunEvent) -> None:
        """Add an event; the oldest go where there is no room."""
        self._events.append(event)
        self._size += event.compact() + EVENT_BYTES
        while self._size > self._budget and len(self._events) > 1:
            self._drop_first()

    def extend(self, events: Sequence[RunEvent]) -> None:
        """Add events."""
        for event in events:
            self.append(event)

    def first(self, limit: int) -> list[RunEvent]:
        """The oldest events, at most `limit`."""
        return list(islice(self._events, limit))

    def remove(self, batch: Sequence[RunEvent]) -> None:
        """Remove the events of a batch from the front; some may have gone meanwhile."""
        for event in batch:
            if self._events and self._events[0] is event:
                self._drop_first()

    def _drop_first(self) -> None:
        self._size -= self._events.popleft().compact() + EVENT_BYTES


class _Feed:
    """One listener: it reads from memory while the run is driven here, and from the stream otherwise."""

    def __init__(
        self,
        client: Redis,
        run_id: str,
        after: int,
        wake: Callable[[], None],
        local: IRunFeed | None,
        forget: Callable[[str, "_Feed"], None],
    ) -> None:
        self._client = client
        self._run_id = run_id
        self._after = after
        self._wake = wake
        self._local = local
        self._forget = forget
        self._leaves_memory = local is None
        self._arrived: deque[RunEvent] = deque()
        self._room = asyncio.Event()
        self._gone = False
        self._ended = False
        self._reader: asyncio.Task[None] | None = None
        if local is None:
            self._read_stream()

    def read(self, limit: int) -> list[RunEvent]:
        """The next events, at most `limit`."""
        if self._local is not None:
            batch = self._local.read(limit)
            self._seen(batch)
            if batch or not (self._leaves_memory or self._gone):
                return batch
            self._local.close()
            self._local = None
            self._read_stream()
        if not self._arrived and self._gone:
            raise EventsGone
        batch = [self._arrived.popleft() for _ in range(min(limit, len(self._arrived)))]
        self._seen(batch)
        self._room.set()
        return batch

    @property
    def ended(self) -> bool:
        """Whether the run's last event has been read."""
        return self._ended

    def go_remote(self) -> None:
        """Read on from the stream once what is in memory has been read."""
        self._leaves_memory = True
        self._wake()

    def give_up(self) -> None:
        """Nothing more will come."""
        self._gone = True
        self._wake()

    def close(self) -> None:
        """Stop listening."""
        self._forget(self._run_id, self)
        if self._local is not None:
            self._local.close()
        if self._reader is not None:
            self._reader.cancel()

    def _seen(self, batch: list[RunEvent]) -> None:
        if batch:
            self._after = batch[-1].seq
            self._ended = batch[-1].ends

    def _read_stream(self) -> None:
        self._reader = asyncio.create_task(self._read_all(self._after), name=f"stream of {self._run_id}")

    async def _read_all(self, after: int) -> None:
        key, pause = _key(self._run_id), FIRST_PAUSE
        while True:
            try:
                found: Any = await self._client.xread(
                    {key: f"{after}-0"}, count=EVENTS_A_BATCH, block=BLOCK_MILLISECONDS
                )  # pyright: ignore
                pause = FIRST_PAUSE
            except (RedisError, OSError):
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            for _, fields in found[0][1] if found else ():
                event = _event(fields)
                if event is None:
                    self._gone = True
                    self._wake()
                    return
                if event.seq != after + 1 and event.type != "reset":
                    self._gone = True
                    self._wake()
                    return
                after = event.seq
                self._arrived.append(event)
                if event.ends:
                    self._wake()
                    return
            if found:
                self._wake()
            while len(self._arrived) > READ_AHEAD:
                self._room.clear()
                await self._room.wait()


def _can_be_written(event: RunEvent) -> bool:
    """Whether an event has a text; one without is left out, so that those behind it are written."""
    try:
        return bool(event.json)
    except (TypeError, ValueError):
        logger.exception("event %d of run %s cannot be written to Redis", event.seq, event.run_id)
        return False


def _event(fields: Mapping[bytes, bytes]) -> RunEvent | None:
    """The event in an entry of a stream; None where the entry is not one that this service wrote."""
    try:
        data: dict[str, Any] = orjson.loads(fields[b"e"])
        return RunEvent(data["seq"], data["type"], data)
    except (KeyError, TypeError, ValueError):
        MALFORMED.inc()
        logger.warning("an entry in the stream of a run is not an event")
        return None


class RedisCommands:
    """Commands for the process that drives a run, sent to all; whom they do not concern ignores them."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._listener: asyncio.Task[None] | None = None

    async def send(self, command: dict[str, Any]) -> bool:
        """Tell all processes; whether anybody listens."""
        try:
            heard: int = await self._client.publish(COMMANDS, orjson.dumps(command))  # pyright: ignore
        except (RedisError, OSError) as error:
            logger.warning("a command could not be sent: %s", type(error).__name__)
            return False
        return heard > 0

    def listen(self, handle: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        """Hand every command to `handle` until `close`."""
        self._listener = asyncio.create_task(self._listen(handle), name="redis commands")

    async def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)

    async def _listen(self, handle: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                async with self._client.pubsub(ignore_subscribe_messages=True) as channel:  # pyright: ignore
                    await channel.subscribe(COMMANDS)  # pyright: ignore
                    pause = FIRST_PAUSE
                    async for message in channel.listen():  # pyright: ignore
                        await _carry_out(message["data"], handle)  # pyright: ignore[reportUnknownArgumentType]
            except Exception as error:  # noqa: BLE001 - whatever it is, it is listened again
                logger.warning("commands of other servers are not heard: %s", type(error).__name__)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)


async def _carry_out(text: bytes, handle: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    """Hand one command to `handle`; one that is malformed, or fails, does not keep the next ones from being heard."""
    try:
        command: Any = orjson.loads(text)
        if not isinstance(command, dict) or not isinstance(cast("dict[str, Any]", command).get("run_id"), str):
            raise ValueError("not a command")
    except ValueError:
        MALFORMED.inc()
        logger.warning("a message of %d bytes on Redis' channel %s is not a command", len(text), COMMANDS)
        return
    try:
        await handle(cast("dict[str, Any]", command))
    except Exception:
        logger.exception("a command of another server could not be carried out")
