"""SQLite with one writer thread that commits what waits as one transaction.

Many tasks write at once; each waits until its own work is on the disk. While one commit
runs, the next batch gathers, so a hundred writers share one fsync. WAL mode lets readers
read meanwhile; `synchronous=FULL` makes a commit survive a power cut, not only `kill -9`,
and is affordable because it is shared.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, Self, TypeVar

from flywheel.journal import JournalUnavailable

Work = Callable[[sqlite3.Connection], Any]
T = TypeVar("T")

_BATCH: Final = 512
_READERS: Final = 2
_BUSY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Migration:
    """A change of the tables, applied once; the order of the list is the order of history."""

    name: str
    sql: str


@dataclass(slots=True)
class _Job(Generic[T]):
    """Work that waits. alone: outside any transaction, as some PRAGMAs want it."""

    work: Work
    future: asyncio.Future[T]
    alone: bool = False
    result: Any = None
    error: Exception | None = None

    def settle(self) -> None:
        if self.future.done():  # its task was cancelled; the work was done all the same
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Database:
    """One SQLite file. Opening and every call raise JournalUnavailable.

    read_only: leave the file as it is, tables included; it must be there.
    patient: opening does not raise; every write tries again until the file can be opened.
    """

    def __init__(
        self,
        path: Path,
        migrations: Sequence[Migration],
        *,
        read_only: bool = False,
        patient: bool = False,
    ) -> None:
        self.failures = 0
        self._path = path
        self._migrations = migrations
        self._read_only = read_only
        self._patient = patient
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._closed = True

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._readers = ThreadPoolExecutor(_READERS, "journal-reader")
        if self._read_only:
            await self.read(_nothing)
            return self
        opened: asyncio.Future[None] = self._loop.create_future()
        self._writer = threading.Thread(target=self._write_all, args=(opened,), name="journal")
        self._writer.start()
        try:
            await opened
        except BaseException:
            self._jobs.put(None)
            await asyncio.to_thread(self._writer.join)
            raise
        self._closed = False
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Finish what waits, then close."""
        self._closed = True
        if not self._read_only:
            self._jobs.put(None)
            await asyncio.to_thread(self._writer.join)
        await asyncio.to_thread(self._readers.shutdown)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run work in a transaction. Once this returns, the disk has it."""
        return await self._submit(work, alone=False)

    async def alone(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run work in the writer thread, outside any transaction."""
        return await self._submit(work, alone=True)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run work on a connection that cannot write, beside the writer."""

        def run() -> T:
            with closing(self._connect()) as connection:
                connection.execute("PRAGMA query_only = ON")
                connection.execute("BEGIN")
                return work(connection)

        try:
            return await self._loop.run_in_executor(self._readers, run)
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    async def _submit(self, work: Callable[[sqlite3.Connection], T], *, alone: bool) -> T:
        if self._read_only:
            raise JournalUnavailable("the journal was opened for reading alone")
        if self._closed:
            raise JournalUnavailable("the journal is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Job(work, future, alone))
        return await future

    def _connect(self) -> sqlite3.Connection:
        name = f"{self._path.resolve().as_uri()}?mode={'ro' if self._read_only else 'rwc'}"
        connection = sqlite3.connect(name, uri=True, timeout=_BUSY_S, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.text_factory = _text
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = self._connect()
        try:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
            migrate(connection, self._migrations)
        except BaseException:
            connection.close()
            raise
        return connection

    def _write_all(self, opened: asyncio.Future[None]) -> None:
        connection, failure = self._try_to_open()
        refused = None if self._patient else failure
        self._loop.call_soon_threadsafe(_Job(_nothing, opened, error=refused).settle)
        while refused is None and (job := self._jobs.get()) is not None:
            connection = self._work_off(connection, self._gather(job))
            del job  # while this thread waits it holds on to nobody's turn
        if connection is not None:
            connection.close()

    def _work_off(
        self, connection: sqlite3.Connection | None, batch: list[_Job[Any]]
    ) -> sqlite3.Connection | None:
        failure = None
        if connection is None:
            connection, failure = self._try_to_open()
        if connection is not None:
            self._run(connection, batch)
        else:
            for job in batch:
                job.error = failure
        self._loop.call_soon_threadsafe(_settle, batch)
        return connection

    def _try_to_open(self) -> tuple[sqlite3.Connection | None, JournalUnavailable | None]:
        try:
            return self._open(), None
        except (sqlite3.Error, OSError) as error:
            return None, self._unavailable(error)

    def _gather(self, first: _Job[Any]) -> list[_Job[Any]]:
        """What can share one commit: all that waits, up to a job that wants to be alone."""
        batch = [first]
        while not batch[-1].alone and len(batch) < _BATCH:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            batch.append(job)
        return batch

    def _run(self, connection: sqlite3.Connection, batch: list[_Job[Any]]) -> None:
        together = [job for job in batch if not job.alone]
        try:
            if together:
                connection.execute("BEGIN IMMEDIATE")
                for job in together:
                    _attempt(connection, job)
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            for job in together:
                job.error = self._unavailable(error)
        for job in batch:
            if job.alone:
                try:
                    job.result = job.work(connection)
                except sqlite3.Error as error:
                    job.error = self._unavailable(error)
                except Exception as error:  # raised again in the task that asked
                    job.error = error

    def _unavailable(self, error: Exception) -> JournalUnavailable:
        self.failures += 1
        return JournalUnavailable(f"{self._path.name}: {error}")


def _attempt(connection: sqlite3.Connection, job: _Job[Any]) -> None:
    """One job of many in a transaction: if it refuses, the others are not touched."""
    connection.execute("SAVEPOINT job")
    try:
        job.result = job.work(connection)
    except (sqlite3.OperationalError, sqlite3.InternalError):
        raise
    except Exception as error:  # raised again in the task that asked
        connection.execute("ROLLBACK TO job")
        job.error = error
    connection.execute("RELEASE job")


def _text(raw: bytes) -> str:
    """Text that is no UTF-8 is the reader's to refuse, not a failure of the whole file."""
    return raw.decode(errors="surrogateescape")


def _nothing(connection: sqlite3.Connection) -> None: ...


def _settle(batch: list[_Job[Any]]) -> None:
    for job in batch:
        job.settle()


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> None:
    """Apply what is new, all of it or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY)")
    applied = {row[0] for row in connection.execute("SELECT name FROM migrations")}
    for migration in migrations:
        if migration.name not in applied:
            for statement in migration.sql.split(";"):
                connection.execute(statement)
            connection.execute("INSERT INTO migrations VALUES (?)", (migration.name,))
    connection.execute("COMMIT")
