"""From a real journal to a data set that `datasets` loads, and a journal out and in again."""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import orjson
import pytest
from trl.data_utils import is_conversational

from flywheel.export.card import _FIELDS, _REASONS
from flywheel.export.dataset import export
from flywheel.export.formats import FORMATS
from flywheel.export.options import ExportOptions, Format, Margins, Prompt
from flywheel.export.pipeline import Tally, examples
from flywheel.journal import Entry, Journal, JournalOptions, Keep
from flywheel.opinions import (
    DemonstrationRating,
    Feedback,
    FeedbackKind,
    PreferenceRating,
    SafetyRating,
    Side,
    Strength,
)
from flywheel.records import Attempt, AttemptKind, ChoiceRecord, RecordedMessage
from flywheel.sqlite.journal import SqliteJournal
from flywheel.transfer import dump, load
from guard.types import Flag
from tests.fakes.turns import turn_record

TREES = ("pear", "apple", "quince", "plum", "cherry", "medlar", "walnut", "hazel", "fig", "olive")
SPLITS = {"train": 0.6, "validation": 0.2, "test": 0.2}


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    path = tmp_path / "journal" / "journal.sqlite"
    async with SqliteJournal(path, JournalOptions(keep=Keep.ALL)) as opened:
        yield opened


async def filled(journal: Journal, count: int = 40) -> None:
    """Conversations about trees, of two turns each; every second turn of them is rated."""
    for n in range(count):
        tree, other = TREES[n % 10], TREES[n // 10 % 10]
        place = f"in garden number {n // 10} by the {other} tree"
        record = turn_record(
            f"turn-{n}",
            conversation_id=f"c{n // 2}",
            time=1_790_000_000.0 + n,
            flags={Flag.UNSAFE_PROMPT},
            messages=(
                RecordedMessage(role="user", text="Hello"),
                RecordedMessage(role="assistant", text="Hello, what would you like to know?"),
                RecordedMessage(role="user", text=f"When do I prune the {tree} tree {place}?"),
            ),
            choices=(ChoiceRecord(index=0, reply=f"A {tree} is pruned in winter {place}."),),
            attempts=(
                Attempt(kind=AttemptKind.ORIGINAL, reply=f"Never prune {tree} {n}.", safety=0.2),
                Attempt(
                    kind=AttemptKind.STEER, reply=f"Prune the {tree} {n}.", safety=0.9, chosen=True
                ),
            ),
        )
        await journal.record(record)
        if n % 2:
            await rate(journal, record.turn_id, n)


async def rate(journal: Journal, turn_id: str, n: int) -> None:
    common: dict[str, Any] = {"item_id": f"item-{n}", "turn_id": turn_id, "time": 1.0 + n}
    for rater in ("ann", "bob", "cho"):
        await journal.add_rating(SafetyRating(**common, rater_id=rater, score=1 + n % 5))
        await journal.add_rating(
            PreferenceRating(
                **common,
                rater_id=rater,
                left="attempt-0",
                right="attempt-1",
                chosen=Side.RIGHT,
                strength=Strength.SLIGHTLY,
                left_safe=True,
                right_safe=True,
            )
        )
    await journal.add_rating(DemonstrationRating(**common, rater_id="ann", text=f"In frost {n}."))
    await journal.feedback(Feedback.of(turn_id, "ada", FeedbackKind.THUMBS_UP, 2.0))


def options(format: Format, **changes: Any) -> ExportOptions:
    return ExportOptions(format, splits=SPLITS, **changes)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def rows(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*.jsonl")):
        yield from map(orjson.loads, path.read_bytes().splitlines())


async def test_the_same_journal_gives_the_same_bytes(journal: Journal, tmp_path: Path) -> None:
    await filled(journal)
    for parquet in (False, True):
        chosen = options(Format.PREFERENCE, parquet=parquet)
        await export(journal, chosen, tmp_path / "one")
        await export(journal, chosen, tmp_path / "two")
        assert files(tmp_path / "one") == files(tmp_path / "two")


@pytest.mark.parametrize("format", Format)
async def test_datasets_loads_every_format_as_conversations(
    journal: Journal, tmp_path: Path, format: Format
) -> None:
    # Ghost wants turns without flags; the others want adversarial ones.
    await filled(journal)
    if format is Format.GHOST:
        for n in range(10):
            await journal.record(ghostly(n))
    loaded = {}
    for parquet in (False, True):
        out = tmp_path / f"{format}-{parquet}"
        manifest = await export(journal, options(format, parquet=parquet), out)
        assert manifest["kept"] > 0
        loaded[parquet] = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
        assert {name: len(split) for name, split in loaded[parquet].items()} == {
            name: split["rows"] for name, split in manifest["splits"].items()
        }
    for name, split in loaded[False].items():
        assert split.to_list() == loaded[True][name].to_list()
        assert is_conversational(split[0])


def ghostly(n: int) -> Any:
    messages = [
        RecordedMessage(role="user" if k % 2 == 0 else "assistant", text=f"{TREES[n]} leaf {k}")
        for k in range(5)
    ]
    reply = (ChoiceRecord(index=0, reply=f"Leaves of the {TREES[n]} fall late."),)
    return turn_record(f"g{n}", conversation_id=f"g{n}", messages=messages, choices=reply)


async def test_a_data_set_that_was_exported_anew_is_loaded_anew(
    journal: Journal, tmp_path: Path
) -> None:
    await filled(journal, 4)
    out, cache = tmp_path / "out", str(tmp_path / "cache")
    chosen = ExportOptions(Format.PROMPTS, splits={"train": 1.0}, near_duplicates=None)
    for conversations in (2, 1):
        await export(journal, chosen, out)
        loaded = datasets.load_dataset(str(out), cache_dir=cache, split="train")
        assert len(loaded) == 2 * conversations
        await journal.erase("c0", "ada")


async def test_the_manifest_counts_every_turn_and_names_every_file(
    journal: Journal, tmp_path: Path
) -> None:
    await filled(journal)
    await journal.record(turn_record("silent", messages=None, choices=(), attempts=()))
    manifest = await export(journal, options(Format.SAFETY), tmp_path / "out")
    assert manifest == json.loads((tmp_path / "out" / "manifest.json").read_bytes())
    assert (manifest["turns"], manifest["kept"]) == (41, 20)
    assert manifest["dropped"] == {"no_content": 1, "nothing_for_this_format": 20}
    found = list(rows(tmp_path / "out"))
    assert sorted(row["turn_id"] for row in found) == sorted(f"turn-{n}" for n in range(1, 40, 2))
    assert sum(split["rows"] for split in manifest["splits"].values()) == len(found)
    assert {split["file"] for split in manifest["splits"].values()} == {
        path.name for path in (tmp_path / "out").glob("*.jsonl")
    }


async def test_a_conversation_is_never_on_two_sides(journal: Journal, tmp_path: Path) -> None:
    await filled(journal)
    await export(journal, options(Format.PROMPTS), tmp_path / "out")
    seen: dict[str, set[int]] = {}
    for path in (tmp_path / "out").glob("*.jsonl"):
        turns = [orjson.loads(line)["turn_id"] for line in path.read_bytes().splitlines()]
        seen[path.stem] = {int(turn.removeprefix("turn-")) // 2 for turn in turns}
    assert len(seen) == 3
    assert sum(map(len, seen.values())) == len(set().union(*seen.values())) == 20


async def test_what_was_erased_is_left_out(journal: Journal, tmp_path: Path) -> None:
    await filled(journal)
    await journal.erase("c3", "ada")
    await export(journal, options(Format.PROMPTS), tmp_path / "out")
    turns = {row["turn_id"] for row in rows(tmp_path / "out")}
    assert len(turns) == 38
    assert not turns & {"turn-6", "turn-7"}


async def test_what_is_erased_during_an_export_is_left_out(
    journal: Journal, tmp_path: Path
) -> None:
    await filled(journal)
    erased = False

    def erasing(tally: Tally) -> None:
        nonlocal erased
        erased = erased or tally.turns > 20

    class Interrupted(SqliteJournal):
        async def page(self, after: int = 0, limit: int = 100, *, flagged: bool = False) -> Any:
            found = await super().page(after, limit, flagged=flagged)
            if erased:
                await journal.erase("c1", "ada")
            return found

    path = tmp_path / "journal" / "journal.sqlite"
    async with Interrupted(path, JournalOptions(keep=Keep.ALL)) as interrupted:
        await export(interrupted, options(Format.PROMPTS), tmp_path / "out", progress=erasing)
    assert not {row["turn_id"] for row in rows(tmp_path / "out")} & {"turn-2", "turn-3"}


async def test_near_duplicates_and_evaluation_data_are_left_out(
    journal: Journal, tmp_path: Path
) -> None:
    await filled(journal, 10)
    for n in range(3):
        await journal.record(turn_record(f"same-{n}", conversation_id=f"other-{n}"))
    benchmark = tmp_path / "benchmark.jsonl"
    question = "When do I prune the fig tree in garden number 0 by the pear tree?"
    benchmark.write_text(json.dumps({"question": question}), encoding="utf-8")
    chosen = options(Format.PROMPTS, decontaminate=(benchmark,))
    manifest = await export(journal, chosen, tmp_path / "out")
    assert manifest["dropped"] == {"contaminated": 1, "near_duplicate": 2}
    assert manifest["options"]["decontaminate"][0]["file"] == "benchmark.jsonl"


async def test_an_export_replaces_an_earlier_one_and_nothing_else(
    journal: Journal, tmp_path: Path
) -> None:
    await filled(journal, 4)
    out = tmp_path / "out"
    await export(journal, options(Format.PREFERENCE, prompt=Prompt.IMPLICIT), out)
    await export(journal, options(Format.PREFERENCE, margins=Margins.NONE), out)
    assert "margin" not in next(rows(out))
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ValueError, match="something else"):
        await export(journal, options(Format.PREFERENCE), precious)
    assert (precious / "thesis.txt").read_text(encoding="utf-8") == "mine"


async def test_the_first_example_of_a_large_journal_takes_one_page(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(journal, 400)
    asked: list[int] = []
    page = journal.page

    async def counted(after: int, limit: int, *, flagged: bool = False) -> Sequence[Entry]:
        asked.append(after)
        return await page(after, limit, flagged=flagged)

    monkeypatch.setattr(journal, "page", counted)
    made = examples(journal, options(Format.PROMPTS), tally := Tally())
    await anext(made)
    assert tally.turns == 1
    assert asked == [0], "nothing is read ahead"
    await made.aclose()  # type: ignore[attr-defined]


async def test_a_dump_read_into_another_journal_exports_the_same(
    journal: Journal, tmp_path: Path
) -> None:
    await filled(journal)
    lines = tmp_path / "turns.jsonl"
    with lines.open("wb") as file:
        async for line in dump(journal):
            file.write(line)
    aside = tmp_path / "quarantine"
    other = tmp_path / "other" / "journal.sqlite"
    async with SqliteJournal(other, JournalOptions(keep=Keep.ALL)) as second:
        for _ in range(2):
            seen = await load(second, lines, aside)
            assert (seen.turns, seen.corrupt, seen.refused) == (40, 0, 0)
        assert not aside.exists()
        for format in FORMATS:
            await export(journal, options(format), tmp_path / "one")
            await export(second, options(format), tmp_path / "two")
            assert files(tmp_path / "one") == files(tmp_path / "two")


async def test_corrupt_and_newer_lines_are_put_aside_and_erased_turns_stay_erased(
    journal: Journal, tmp_path: Path
) -> None:
    await filled(journal, 4)
    await journal.erase("c0", "ada")
    good, gone = (
        turn_record(f"new-{c}", conversation_id=c).model_dump_json() for c in ("c9", "c0")
    )
    newer = json.dumps({**json.loads(good), "schema_version": 99})
    bad = [good[: len(good) // 2], "[]", '{"record": 1}', '{"schema_version": 1}']
    path, aside = tmp_path / "turns.jsonl", tmp_path / "aside"
    path.write_text("\n".join([good, newer, gone, *bad]), encoding="utf-8")
    seen = await load(journal, path, aside)
    assert (seen.turns, seen.corrupt, seen.newer, seen.refused) == (1, 4, 1, 1)
    assert aside.read_text(encoding="utf-8").splitlines() == [newer, *bad]
    assert (await journal.turn("new-c9")).record.turn_id == "new-c9"


def test_the_card_explains_every_reason_and_every_column_that_the_code_has() -> None:
    folder = Path(__file__).parents[2] / "flywheel" / "export"
    code = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    for reason in _REASONS:
        assert code.count(f'"{reason}"') >= 2, reason
    for column in _FIELDS:
        assert code.count(f'"{column}"') >= 2, column
