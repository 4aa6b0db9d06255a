"""One SQLite file: a thread that writes, threads that read or search, and commits that many writers share."""

import asyncio
import contextlib
import fcntl
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

from app.adapters.outbound.persistence.sqlite import search_index
from app.adapters.outbound.persistence.sqlite.clean_end import leave_mark, take_mark
from app.adapters.outbound.persistence.sqlite.errors import damaged, is_damage, unavailable
from app.adapters.outbound.persistence.sqlite.migrations import MIGRATIONS, migrate
from app.adapters.outbound.private_file import make_private, not_writable, open_private
from app.core.domain.errors import AtelierError, SearchTooBroad, StorageDamaged, StorageUnavailable

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]

logger = logging.getLogger(__name__)

BATCH = 64
"""Writes that may share one commit."""

READERS = 2
SEARCH_SECONDS = 0.25
"""How long a search may take."""

_OPERATIONS = 20_000
"""SQLite looks at the clock each time it has done so many operations of a search."""

_REBUILD_AGAIN_SECONDS = 60.0


class Database:
    """Runs functions over connections to one file, off the event loop.

    A write function runs in a transaction of its own: all it did is on disk when `write` returns, or nothing.
    Writes that arrive while another is being committed share the next commit, each under a savepoint.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = lock_folder(path)
        self._rebuild_at = 0.0
        opened: list[sqlite3.Connection] = []
        try:
            opened.append(_open_whole(path))
            opened += [_connect(path, read_only=True) for _ in range(READERS + 1)]
            writer, searcher, *readers = opened
        except Exception as error:
            for connection in opened:
                connection.close()
            self._lock.close()
            if isinstance(error, sqlite3.Error):
                raise unavailable(error, path.parent) from error
            if isinstance(error, OSError):
                raise not_writable(error) from error
            raise
        self._writes = _Worker("sqlite-write", [writer], _run_writes, batch=BATCH, after=self._index_changes)
        self._reads = _Worker("sqlite-read", readers, _run_reads)
        self._searches = _Worker("sqlite-search", [searcher], _run_searches)

    async def write(self, job: Job[T]) -> T:
        """Run `job` in a transaction and return what it returned, once that is on disk.

        Raises:
            StorageUnavailable: nothing of it was kept.
        """
        return await self._writes.run(job)

    async def read(self, job: Job[T]) -> T:
        """Run `job` on what is committed.

        Raises:
            StorageUnavailable: the file cannot be read.
        """
        return await self._reads.run(job)

    async def search(self, job: Job[T]) -> T:
        """Run `job` on what is committed, for a limited time, in a thread that nothing else waits for.

        Raises:
            SearchTooBroad: the time is over.
            StorageUnavailable: the file cannot be read.
        """
        await self._writes.run(_nothing, alone=True)  # what was written before is in the index then
        try:
            return await self._searches.run(job)
        except StorageDamaged:
            await self._writes.run(self._rebuild_index, alone=True)
            return await self._searches.run(job)

    async def faults(self) -> list[str]:
        """What is wrong with the file: SQLite's own check, and that of the search index."""
        return await self._writes.run(lambda connection: _find_faults(connection, may_write=True), alone=True)

    async def close(self) -> None:
        """Finish what is queued, and close the file."""
        for worker in (self._searches, self._reads, self._writes):
            await asyncio.to_thread(worker.close)
        await asyncio.to_thread(leave_mark, self._path)
        self._lock.close()

    # --- in the thread that writes

    def _index_changes(self, connection: sqlite3.Connection) -> None:
        """Bring what was written into the search index; one that is damaged is built again."""
        if time.monotonic() < self._rebuild_at:
            return
        try:
            search_index.apply_changes(connection)
        except sqlite3.Error as error:
            logger.warning("the search index cannot be written: %s", error)
            if is_damage(error) or "no such table" in str(error):
                with contextlib.suppress(sqlite3.Error, StorageUnavailable):
                    self._rebuild_index(connection)

    def _rebuild_index(self, connection: sqlite3.Connection) -> None:
        try:
            search_index.rebuild(connection)
            self._rebuild_at = 0.0
        except (sqlite3.Error, StorageUnavailable) as error:
            self._rebuild_at = time.monotonic() + _REBUILD_AGAIN_SECONDS
            logger.error("the search index could not be built again: %s", error)
            raise


class ReadOnlyDatabase(Database):
    """The file beside the process that serves it: what is committed can be read, and nothing is written."""

    def __init__(self, path: Path) -> None:
        try:
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
            )
            connection.row_factory = sqlite3.Row
            [version] = connection.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error as error:
            raise unavailable(error, path.parent) from error
        if version != len(MIGRATIONS):
            connection.close()
            raise StorageUnavailable(
                f"The running Atelier keeps version {version} of the database, and this command reads version "
                f"{len(MIGRATIONS)}. Use the command of the running version, or stop the service."
            )
        self._reads = _Worker("sqlite-read", [connection], _run_reads)

    async def write(self, job: Job[T]) -> T:
        """Refuse: the file belongs to another process.

        Raises:
            StorageUnavailable: always.
        """
        raise StorageUnavailable(
            "Another Atelier is running on this data folder, so it can only be read. Stop it first."
        )

    async def read(self, job: Job[T]) -> T:
        """Run `job` on what is committed.

        Raises:
            StorageUnavailable: the file cannot be read.
        """
        return await self._reads.run(job)

    async def search(self, job: Job[T]) -> T:
        """Run `job` on what is committed.

        Raises:
            StorageUnavailable: the file cannot be read.
        """
        return await self._reads.run(job)

    async def faults(self) -> list[str]:
        """What is wrong with the file, as far as reading it shows."""
        return await self._reads.run(lambda connection: _find_faults(connection, may_write=False))

    async def close(self) -> None:
        """Close the file."""
        await asyncio.to_thread(self._reads.close)


class FolderInUse(StorageUnavailable):
    """Another process holds the data folder."""


def lock_folder(path: Path) -> IO[bytes]:
    """Hold the data folder of the database at `path`: the leases in it belong to one process at a time.

    Raises:
        FolderInUse: another process holds it.
        StorageUnavailable: the folder cannot be written.
    """
    try:
        make_private(path.parent)
        lock = open_private(path.with_suffix(".lock"), append=True)
    except OSError as error:
        raise not_writable(error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise FolderInUse(
            "Another Atelier is running on this data folder. Stop it, or choose another folder with DATA_DIR or --data-dir."
        ) from error
    return lock


def _open_whole(path: Path) -> sqlite3.Connection:
    """The connection that writes, once the file is known to be whole, new enough, and writable.

    Raises:
        StorageDamaged: the file is damaged, and not in its search index alone.
        StorageUnavailable: the file was written by a newer Atelier.
        sqlite3.Error: SQLite cannot use it.
    """
    is_clean = take_mark(path)
    open_private(path, append=True).close()
    connection = _connect(path)
    try:
        index_is_damaged = not is_clean and _check_after_unclean_end(connection, path)
        if index_is_damaged:
            search_index.discard(connection)
        migrate(connection, path)
        search_index.ensure(connection, thorough=not is_clean)
        touch(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_after_unclean_end(connection: sqlite3.Connection, path: Path) -> bool:
    """Read the whole file; whether it is damaged, and in its search index alone.

    Raises:
        StorageDamaged: something else is damaged.
    """
    logger.info("checking the database (%.0f MB): it was not closed cleanly", path.stat().st_size / 1e6)
    if not search_index.find_file_faults(connection, "quick_check"):
        return False
    if faults := list(search_index.find_table_faults(connection)):
        logger.error("the database is damaged: %s", "; ".join(faults[:3]))
        raise damaged()
    logger.warning("the database is damaged in its search index, which is built again")
    return True


def _find_faults(connection: sqlite3.Connection, *, may_write: bool) -> list[str]:
    if may_write:
        with contextlib.suppress(sqlite3.Error):
            search_index.apply_changes(connection)
    faults = search_index.find_file_faults(connection) or list(search_index.find_faults(connection))
    return faults or (list(search_index.find_deep_faults(connection)) if may_write else [])


def touch(connection: sqlite3.Connection) -> None:
    """Write what is there already: a transaction that changes nothing and still needs room on the disk."""
    [version] = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version:d}")


def _connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10, cached_statements=256)
    connection.row_factory = sqlite3.Row
    if not read_only:
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA cache_size = -8192")
    if read_only:
        connection.execute("PRAGMA query_only = ON")
    return connection


class _Task:
    """A function to run, and whom to tell.

    Attributes:
        alone: it runs by itself, with no transaction open.
    """

    __slots__ = ("alone", "error", "future", "job", "loop", "result")

    def __init__(self, job: Job[Any], *, alone: bool = False) -> None:
        self.job = job
        self.alone = alone
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.result: Any = None
        self.error: Exception | None = None

    @property
    def is_given_up(self) -> bool:
        """Whether whoever asked has gone."""
        return self.future.cancelled()

    def report(self) -> None:
        """Tell the loop of whoever waits, from another thread."""
        self.loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class _Worker:
    """Threads that run tasks from one queue, a connection each; those that run at once share a call of `run`.

    `after` runs behind each such call, when whoever waited has been told.
    """

    def __init__(
        self,
        name: str,
        connections: list[sqlite3.Connection],
        run: Callable[[sqlite3.Connection, list[_Task]], None],
        *,
        batch: int = 1,
        after: Callable[[sqlite3.Connection], None] | None = None,
    ) -> None:
        self._queue: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._run = run
        self._batch = batch
        self._after = after
        self._threads = [
            threading.Thread(target=self._work, args=(connection,), name=f"{name}-{number}", daemon=True)
            for number, connection in enumerate(connections)
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, job: Job[T], *, alone: bool = False) -> T:
        task = _Task(job, alone=alone)
        self._queue.put(task)
        return await task.future

    def close(self) -> None:
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self, connection: sqlite3.Connection) -> None:
        with contextlib.closing(connection):
            while (task := self._queue.get()) is not None:
                last = self._work_on(connection, task)
                if last:
                    return

    def _work_on(self, connection: sqlite3.Connection, first: _Task) -> bool:
        """Run `first` and what may run with it; whether the end of the queue was met."""
        tasks, behind = [first], list[_Task | None]()
        while len(tasks) < self._batch and not behind and not first.alone:
            try:
                more = self._queue.get_nowait()
            except queue.Empty:
                break
            (behind if more is None or more.alone else tasks).append(more)  # pyright: ignore[reportArgumentType]
        if first.alone:
            _attempt(connection, first)
        else:
            self._run(connection, tasks)
        for task in tasks:
            task.report()
        if self._after is not None and not first.alone:
            self._after(connection)
        if behind and behind[0] is not None:
            return self._work_on(connection, behind[0])
        return bool(behind)


def _run_writes(connection: sqlite3.Connection, tasks: list[_Task]) -> None:
    """Run all tasks and commit once. One that fails leaves the others untouched; a commit that fails fails all."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        for task in tasks:
            connection.execute("SAVEPOINT task")
            _attempt(connection, task)
            if task.error is not None:
                connection.execute("ROLLBACK TO task")
            connection.execute("RELEASE task")
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        cause = next((t.error for t in tasks if isinstance(t.error, StorageUnavailable)), unavailable(error))
        for task in tasks:
            if not isinstance(task.error, AtelierError):
                task.error = cause


def _nothing(connection: sqlite3.Connection) -> None:
    pass


def _run_reads(connection: sqlite3.Connection, tasks: list[_Task]) -> None:
    for task in tasks:
        if not task.is_given_up:
            _attempt(connection, task)


def _run_searches(connection: sqlite3.Connection, tasks: list[_Task]) -> None:
    for task in tasks:
        if task.is_given_up:
            continue
        deadline = time.monotonic() + SEARCH_SECONDS
        connection.set_progress_handler(lambda deadline=deadline: time.monotonic() > deadline, _OPERATIONS)
        _attempt(connection, task)
        connection.set_progress_handler(None, _OPERATIONS)


def _attempt(connection: sqlite3.Connection, task: _Task) -> None:
    try:
        task.result = task.job(connection)
    except sqlite3.OperationalError as error:
        interrupted = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT
        task.error = SearchTooBroad() if interrupted else unavailable(error)
        task.error.__cause__ = error
    except sqlite3.Error as error:
        task.error = unavailable(error)
        task.error.__cause__ = error
    except Exception as error:  # noqa: BLE001 - handed to the one who asked
        task.error = error
