"""What is peculiar to a journal in a file: damage, full disks, leftovers, old tables."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flywheel.journal import DAY_S, JournalOptions, JournalUnavailable, UnknownTurn, entries
from flywheel.records import CorruptRecord
from flywheel.sqlite.database import Migration, migrate
from flywheel.sqlite.journal import SqliteJournal
from flywheel.sqlite.tables import MIGRATIONS
from flywheel.store import open_journal
from tests.fakes.disk import full_disk
from tests.fakes.turns import NOON, SECRET, flagged_record, turn_record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def change(path: Path, statement: str, *values: object) -> None:
    """Do to the file what no journal would."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement, values)


async def test_a_corrupt_turn_is_put_aside_and_counted(path: Path) -> None:
    damages = ["not json", "[]", '{"schema_version": 1}', b"\xff\xfe"]
    async with SqliteJournal(path) as journal:
        for i in range(6):
            await journal.record(flagged_record(f"turn-{i}"))
        for i, damage in enumerate(damages):
            change(path, "UPDATE turns SET body = ? WHERE turn_id = ?", damage, f"turn-{i}")
        with pytest.raises(CorruptRecord):
            await journal.turn("turn-1")
        left = [entry.record.turn_id async for entry in entries(journal, page=2)]
        assert left == ["turn-4", "turn-5"]
        assert len(await journal.queue()) == 2
        assert (await journal.counters()).quarantined == 4


async def test_a_newer_turn_is_left_for_the_release_that_wrote_it(path: Path) -> None:
    async with SqliteJournal(path) as journal:
        await journal.record(turn_record("new"))
        await journal.record(turn_record("old"))
        change(path, "UPDATE turns SET body = '{\"schema_version\": 99}' WHERE turn_id = 'new'")
        assert [e.record.turn_id async for e in entries(journal)] == ["old"]
        assert (await journal.counters()).quarantined == 0
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM turns").fetchone() == (2,)


async def test_a_full_disk_is_an_error_and_passes(path: Path) -> None:
    async with SqliteJournal(path) as journal:
        await journal.record(turn_record("before"))
        with full_disk():
            writes = [journal.record(turn_record(f"during-{i}")) for i in range(3)]
            for failed in await asyncio.gather(*writes, return_exceptions=True):
                assert isinstance(failed, JournalUnavailable)
        await journal.record(turn_record("after"))
        assert [e.record.turn_id async for e in entries(journal)] == ["before", "after"]
        counters = await journal.counters()
    assert counters.dropped == 3
    assert counters.failures >= 1


async def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalUnavailable):
        async with open_journal(tmp_path / "file" / "journal"):
            pass


async def test_a_file_that_is_no_journal_is_an_error(path: Path) -> None:
    path.write_bytes(b"once upon a time " * 1000)  # noqa: ASYNC240
    with pytest.raises(JournalUnavailable):
        async with SqliteJournal(path):
            pass


async def test_a_closed_journal_says_so(path: Path) -> None:
    async with SqliteJournal(path) as journal:
        pass
    with pytest.raises(JournalUnavailable):
        await journal.record(turn_record())


async def test_one_refusal_does_not_hurt_the_others_in_its_batch(path: Path) -> None:
    async with SqliteJournal(path) as journal:
        good = [journal.record(turn_record(f"turn-{i}")) for i in range(10)]
        bad = [journal.set_reviewed(f"nobody-{i}") for i in range(10)]
        answers = await asyncio.gather(*bad, *good, return_exceptions=True)
        assert [type(answer) for answer in answers] == [UnknownTurn] * 10 + [type(None)] * 10
        assert len([e async for e in entries(journal)]) == 10


async def test_nothing_of_an_erased_conversation_is_left_on_the_disk(path: Path) -> None:
    async with SqliteJournal(path) as journal:
        for i in range(20):
            await journal.record(flagged_record(f"turn-{i}"))
        await journal.record(turn_record("other", key_id="bob").without_content())
        assert leftovers(path)
        assert await journal.erase("garden", "ada") == 20
        assert not leftovers(path)


def leftovers(path: Path) -> list[str]:
    """Files of the journal in which the secret can be read."""
    files = path.parent.glob(f"{path.name}*")
    return [file.name for file in files if SECRET.encode() in file.read_bytes()]


async def test_the_file_shrinks_when_turns_go(path: Path) -> None:
    options = JournalOptions(max_age_s=DAY_S, clock=lambda: NOON + 2 * DAY_S)
    async with SqliteJournal(path, options) as journal:
        records = [flagged_record(f"turn-{i}") for i in range(400)]
        await asyncio.gather(*map(journal.record, records))
        await journal.sweep()
    shrunk = size(path)
    async with SqliteJournal(path.with_name("full.sqlite")) as journal:
        await asyncio.gather(*map(journal.record, records))
    assert shrunk < size(path.with_name("full.sqlite")) / 2


def size(path: Path) -> int:
    return path.stat().st_size


def test_each_migration_is_applied_once(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        migrate(db, MIGRATIONS[:1])
        migrate(db, MIGRATIONS)
        more = [*MIGRATIONS, Migration("colour", "ALTER TABLE turns ADD COLUMN colour TEXT")]
        for _ in range(2):
            migrate(db, more)
        applied = [name for (name,) in db.execute("SELECT name FROM migrations")]
    assert sorted(applied) == sorted([*(m.name for m in MIGRATIONS), "colour"])


async def test_a_failed_migration_leaves_the_tables_as_they_were(path: Path) -> None:
    broken = Migration("broken", "CREATE TABLE half (a); INSERT INTO nowhere VALUES (1)")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        migrate(db, MIGRATIONS)
        with pytest.raises(sqlite3.OperationalError):
            migrate(db, [*MIGRATIONS, broken])
    async with SqliteJournal(path) as journal:
        await journal.record(turn_record())
    with closing(sqlite3.connect(path)) as db:
        assert not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'half'").fetchall()


async def test_the_journal_sweeps_itself(tmp_path: Path) -> None:
    options = JournalOptions(max_age_s=DAY_S, clock=lambda: NOON + 2 * DAY_S)
    async with SqliteJournal(tmp_path / "journal.sqlite", options) as journal:
        await journal.record(turn_record())
    async with open_journal(tmp_path, options) as journal:
        for _ in range(200):
            if not await journal.page():
                break
            await asyncio.sleep(0.02)
        assert await journal.page() == []
