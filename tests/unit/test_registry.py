"""Versions are written once, compared pair by pair, promoted through shadow, and taken back."""

import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flywheel.registry import aliases
from flywheel.registry.gate import Margins, Metric, decide
from flywheel.registry.promotion import NotPromoted, Rules, compare, enter, promote
from flywheel.registry.versions import Kind, Registry, RegistryError

RULES = Rules(Margins(items=40), shadow_turns=30)
Rows = list[dict[str, Any]]


def rows(violation: float = 0.2, false_refusal: float = 0.1, helpfulness: float = 0.6) -> Rows:
    """60 items of each metric: the first share of them violates, or is refused."""
    found: Rows = []
    for i in range(60):
        found.append({"key": f"a{i}", "metric": "violation", "value": float(i < 60 * violation)})
        refused = float(i < 60 * false_refusal)
        found.append({"key": f"h{i}", "metric": "false_refusal", "value": refused})
        found.append({"key": f"h{i}", "metric": "helpfulness", "value": helpfulness})
    return found


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def add(registry: Registry, tmp_path: Path) -> Callable[..., str]:
    def one(evaluation: Rows, kind: Kind = Kind.CHAT, **more: Any) -> str:
        source = tmp_path / "adapter"
        source.mkdir(exist_ok=True)
        (source / "adapter_model.safetensors").write_bytes(random.Random(0).randbytes(64))
        return registry.add(kind, source, evaluation=evaluation, **more).name

    return one


def test_versions_are_counted_and_know_their_parent_data_and_files(
    registry: Registry, add: Callable[..., str]
) -> None:
    add(rows(), note="first")
    add(rows(), parent="V1", data={"kept.jsonl": "abc"}, metrics={"violation": 0.2})
    assert registry.names(Kind.CHAT) == ["V1", "V2"]
    second = registry.verified(Kind.CHAT, "V2")
    assert (second.parent, second.data, second.metrics["violation"]) == (
        "V1", {"kept.jsonl": "abc"}, 0.2,
    )  # fmt: skip
    assert second.files["adapter_model.safetensors"].bytes == 64
    assert len(registry.evaluation(Kind.CHAT, "V2")) == 180


def test_others_than_who_registered_may_read_a_version(registry: Registry, tmp_path: Path) -> None:
    source = tmp_path / "private"
    source.mkdir(0o700)
    (source / "adapter_model.safetensors").touch(0o600)
    registry.add(Kind.CHAT, source)
    folder = registry.files(Kind.CHAT, "V1")
    assert folder.parent.stat().st_mode & 0o777 == folder.stat().st_mode & 0o777 == 0o755
    assert (folder / "adapter_model.safetensors").stat().st_mode & 0o777 == 0o644


def test_two_that_register_at_once_get_two_versions(
    registry: Registry, add: Callable[..., str]
) -> None:
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda _: add(rows()), range(8)))
    assert sorted(names) == sorted(registry.names(Kind.CHAT)) == [f"V{n}" for n in range(1, 9)]


def test_a_registration_that_fails_leaves_the_others_as_they_were(
    registry: Registry, add: Callable[..., str], tmp_path: Path
) -> None:
    add(rows())
    before = sorted(p for p in registry.root.rglob("*"))
    with pytest.raises(TypeError):
        add([{"key": object()}])
    with pytest.raises(RegistryError, match="no folder with a model"):
        registry.add(Kind.CHAT, tmp_path / "nothing")
    with pytest.raises(RegistryError, match="there is no chat V7"):
        add(rows(), parent="V7")
    assert sorted(p for p in registry.root.rglob("*")) == before


def test_a_file_that_was_changed_is_never_served(
    registry: Registry, add: Callable[..., str]
) -> None:
    add(rows())
    file = registry.files(Kind.CHAT, "V1") / "adapter_model.safetensors"
    file.write_bytes(b"other")
    with pytest.raises(RegistryError, match="not what was registered"):
        aliases.go_live(registry, Kind.CHAT, "V1")
    assert aliases.read(registry, Kind.CHAT).live == "V0"


def test_the_same_values_pass_and_a_worsening_does_not() -> None:
    same = decide(rows(), rows(), RULES.margins)
    assert [(f.metric, f.passes, f.low, f.high) for f in same] == [
        (metric, True, 0.0, 0.0) for metric in Metric
    ]
    worse = decide(rows(), rows(violation=0.5, helpfulness=0.5), RULES.margins)
    assert [f.passes for f in worse] == [False, True, False]
    assert worse[0].low > 0.15
    assert worse[2].high == pytest.approx(0.1)


def test_better_is_not_worse() -> None:
    better = decide(rows(), rows(0.0, 0.0, 0.9), RULES.margins)
    assert all(f.passes and f.high <= 0 for f in better)


def test_pairs_are_compared_and_not_means() -> None:
    """Prompts differ far more than versions do; only pairing sees a small, even worsening."""
    chance = random.Random(3)
    hard = {f"p{i}": chance.random() * 0.9 for i in range(60)}
    old = [{"key": k, "metric": "helpfulness", "value": v + 0.1} for k, v in hard.items()]
    new = [{"key": k, "metric": "helpfulness", "value": v} for k, v in hard.items()]
    [found] = decide(old, new, Margins(items=40), [Metric.HELPFULNESS])
    assert [found.low, found.high] == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize(("kept", "needed"), [(60, 61), (1, 1), (0, 1)])
def test_too_few_common_items_do_not_pass(kept: int, needed: int) -> None:
    """Of one item alone nothing can be ruled out."""
    some = [row for row in rows() if row["metric"] == "violation"][:kept]
    [found] = decide(rows(), some, Margins(items=needed), [Metric.VIOLATION])
    assert not found.passes
    assert f"on {kept} common items, of {max(2, needed)} that are needed" in found.why


def sums(solved: int, of: int = 60) -> Rows:
    return [{"key": f"s{i}", "metric": "gsm8k", "value": float(i < solved)} for i in range(of)]


@pytest.mark.parametrize(
    ("measured", "passes"),
    [(sums(30), True), (sums(15), False), ([], False), (sums(10, 10), False)],
)
def test_a_benchmark_of_the_live_version_is_measured_anew_and_may_not_drift(
    registry: Registry, add: Callable[..., str], measured: Rows, passes: bool
) -> None:
    aliases.go_live(registry, Kind.CHAT, add([*rows(), *sums(30)]))
    found = compare(registry, Kind.CHAT, "V1", add([*rows(), *measured]), RULES.margins)
    assert [f.metric for f in found] == [*Metric, "gsm8k"]
    assert [f.passes for f in found] == [True, True, True, passes]


def test_a_benchmark_that_is_new_is_not_compared(
    registry: Registry, add: Callable[..., str]
) -> None:
    first, second = add(rows()), add([*rows(), *sums(0)])
    assert len(compare(registry, Kind.CHAT, first, second, RULES.margins)) == len(Metric)


@pytest.mark.parametrize(
    "bad",
    [
        {"key": "a", "metric": "violation"},
        {"key": "a", "metric": "violation", "value": 1.5},
        {"key": "a", "metric": "violation", "value": "nan"},
    ],
)
def test_a_value_that_is_none_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(RegistryError):
        decide([bad], rows(), RULES.margins)


def test_the_way_to_live_and_one_step_back(registry: Registry, add: Callable[..., str]) -> None:
    first, second = add(rows()), add(rows(violation=0.1), parent="V1")
    aliases.go_live(registry, Kind.CHAT, first)
    with pytest.raises(RegistryError, match="not in shadow"):
        promote(registry, Kind.CHAT, second, RULES)
    enter(registry, Kind.CHAT, second, RULES)
    assert aliases.read(registry, Kind.CHAT).shadow == second
    with pytest.raises(NotPromoted, match="of 30 that are needed"):
        promote(registry, Kind.CHAT, second, RULES)
    mirror(registry, second, live=first, turns=30, shadow_violates=0)
    now, _ = promote(registry, Kind.CHAT, second, RULES)
    assert (now.live, now.previous, now.shadow) == (second, first, None)
    assert aliases.roll_back(registry, Kind.CHAT).live == first
    assert aliases.roll_back(registry, Kind.CHAT).live == second
    history = (registry.root / "chat" / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["live"] for line in history] == [
        first, first, second, first, second,
    ]  # fmt: skip


def test_what_fails_in_shadow_does_not_go_live(registry: Registry, add: Callable[..., str]) -> None:
    first, second = add(rows()), add(rows())
    aliases.go_live(registry, Kind.CHAT, first)
    enter(registry, Kind.CHAT, second, RULES)
    mirror(registry, second, live=first, turns=30, shadow_violates=10)
    with pytest.raises(NotPromoted, match="the mirrored turns"):
        promote(registry, Kind.CHAT, second, RULES)
    assert aliases.read(registry, Kind.CHAT).live == first


def test_a_worse_version_does_not_even_enter_shadow(
    registry: Registry, add: Callable[..., str]
) -> None:
    first, second = add(rows()), add(rows(false_refusal=0.4))
    aliases.go_live(registry, Kind.CHAT, first)
    with pytest.raises(NotPromoted, match="false_refusal") as refused:
        enter(registry, Kind.CHAT, second, RULES)
    assert [f.metric for f in refused.value.findings if not f.passes] == ["false_refusal"]
    assert aliases.read(registry, Kind.CHAT).shadow is None


def test_a_live_version_that_was_never_measured_stops_promotion(
    registry: Registry, add: Callable[..., str]
) -> None:
    with pytest.raises(RegistryError, match="V0, was never measured"):
        enter(registry, Kind.CHAT, add(rows()), RULES)


def test_a_reward_model_is_compared_on_what_it_is_for(
    registry: Registry, add: Callable[..., str]
) -> None:
    first, second = add(rows(), Kind.SAFETY), add(rows(helpfulness=0.0), Kind.SAFETY)
    aliases.go_live(registry, Kind.SAFETY, first)
    assert len(enter(registry, Kind.SAFETY, second, RULES)) == 2
    assert promote(registry, Kind.SAFETY, second, RULES)[0].live == second


def test_going_back_where_nothing_was_before_is_refused(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="no other chat version"):
        aliases.roll_back(registry, Kind.CHAT)


def mirror(registry: Registry, name: str, *, live: str, turns: int, shadow_violates: int) -> None:
    path = registry.root / "chat" / f"shadow-{name}.jsonl"
    with path.open("w") as file:
        for i in range(turns):
            row = {
                "turn_id": f"t{i}",
                "live_version": live,
                "live": {"violation": 0.0, "helpfulness": 0.5},
                "shadow": {"violation": float(i < shadow_violates), "helpfulness": 0.5},
            }
            file.write(json.dumps(row) + "\n")
