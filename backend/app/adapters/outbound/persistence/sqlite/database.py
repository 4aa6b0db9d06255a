"""One SQLite file: a thread that writes, threads that read, and commits that many writers share."""

import asyncio
import contextlib
import fcntl
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

from app.adapters.outbound.persistence.sqlite.migrations import migrate
from app.core.domain.errors import AtelierError, StorageUnavailable

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]

BATCH = 64
"""Writes that may share one commit."""


class Database:
    """Runs functions over connections to one file, off the event loop.

    A write function runs in a transaction of its own: all it did is on disk when `write` returns, or nothing.
    Writes that arrive while another is being committed share the next commit, each under a savepoint.
    """

    def __init__(self, path: Path) -> None:
        self._lock = _lock_folder(path)
        try:
            connection = _connect(path)
            migrate(connection)
            readers = [_connect(path, read_only=True) for _ in range(2)]
        except sqlite3.Error as error:
            self._lock.close()
            raise _unavailable(error) from error
        self._writes = _Worker("sqlite-write", [connection], _run_writes)
        self._reads = _Worker("sqlite-read", readers, _run_reads)

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

    async def close(self) -> None:
        """Finish what is queued, and close the file."""
        await asyncio.to_thread(self._reads.close)
        await asyncio.to_thread(self._writes.close)
        self._lock.close()


def _lock_folder(path: Path) -> IO[bytes]:
    """Hold the data folder: the leases in its file belong to one process at a time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("ab")
    except OSError as error:
        raise StorageUnavailable(
            f"The data folder cannot be written ({error.strerror}). Choose another one with DATA_DIR or --data-dir."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise StorageUnavailable(
            "Another Atelier is running on this data folder. Stop it, or choose another folder with DATA_DIR or --data-dir."
        ) from error
    return lock


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


def _unavailable(error: sqlite3.Error) -> StorageUnavailable:
    reason = str(error)
    if "full" in reason:
        return StorageUnavailable("The disk is full, so nothing more can be kept. Free some space and try again.")
    if "readonly" in reason or "read-only" in reason:
        return StorageUnavailable(
            "The data folder is read-only, so nothing can be kept. Make it writable and try again."
        )
    return StorageUnavailable(f"The database cannot be used ({reason}). Try again in a moment.")


class _Task:
    """A function to run, and whom to tell."""

    __slots__ = ("error", "future", "job", "loop", "result")

    def __init__(self, job: Job[Any]) -> None:
        self.job = job
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.result: Any = None
        self.error: Exception | None = None

    def tell(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class _Worker:
    """Threads that run tasks from one queue, a connection each."""

    def __init__(
        self, name: str, connections: list[sqlite3.Connection], run: Callable[[sqlite3.Connection, list[_Task]], None]
    ) -> None:
        self._queue: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._run = run
        self._threads = [
            threading.Thread(target=self._work, args=(connection,), name=f"{name}-{number}", daemon=True)
            for number, connection in enumerate(connections)
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, job: Job[T]) -> T:
        task = _Task(job)
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
                tasks = [task]
                last = False
                while len(tasks) < BATCH and not last:
                    try:
                        more = self._queue.get_nowait()
                    except queue.Empty:
                        break
                    last = more is None
                    if more is not None:
                        tasks.append(more)
                self._run(connection, tasks)
                for done in tasks:
                    done.loop.call_soon_threadsafe(done.tell)
                if last:
                    return


def _run_reads(connection: sqlite3.Connection, tasks: list[_Task]) -> None:
    for task in tasks:
        _attempt(connection, task)


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
        cause = next((t.error for t in tasks if isinstance(t.error, StorageUnavailable)), _unavailable(error))
        for task in tasks:
            if not isinstance(task.error, AtelierError):
                task.error = cause


def _attempt(connection: sqlite3.Connection, task: _Task) -> None:
    try:
        task.result = task.job(connection)
    except sqlite3.Error as error:
        task.error = _unavailable(error)
        task.error.__cause__ = error
    except Exception as error:  # noqa: BLE001 - handed to the one who asked
        task.error = error
