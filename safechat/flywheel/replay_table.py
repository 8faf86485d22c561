"""What a replay found, as tables for a terminal."""

from collections.abc import Iterator

from rich.table import Table

from flywheel.replay.report import Report


def tables(report: Report) -> Iterator[Table]:
    """Verdicts and flags before and after, then scores, then turns that changed."""
    title = f"{report.turns:,} turns run again, {report.changed:,} would change"
    changes = Table("what", "turns", "before", "after", "gained", "lost", title=title)
    for name, change in report.changes.items():
        if change.before or change.after:
            cells = (change.known, change.before, change.after, change.gained, change.lost)
            changes.add_row(name, *(f"{cell:,}" for cell in cells))
    yield changes
    scores = Table("score", "turns", "before", "after", "mean move", "moved over 0.1")
    for name, shift in report.scores.items():
        means = (f"{mean:.3f}" for mean in (shift.before, shift.after, shift.move))
        scores.add_row(name, f"{shift.known:,}", *means, f"{shift.far:,}")
    yield scores
    if report.examples:
        examples = Table("change", "for example")
        for name, turn_ids in sorted(report.examples.items()):
            examples.add_row(name, "\n".join(turn_ids[:3]))
        yield examples
    missing = {**report.errors, **report.left_out}
    if missing:
        incomplete = Table("not run to its end", "turns")
        for reason, number in sorted(missing.items()):
            incomplete.add_row(reason, f"{number:,}")
        yield incomplete
