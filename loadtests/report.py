"""The benchmarks' page: its figures are written anew, the words around them stay."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from loadtests import aims

PAGE = Path("docs/benchmarks.md")
PLOTS = Path("docs/benchmarks")
BEGIN, END = "<!-- figures: written by make bench -->", "<!-- end of figures -->"
Json = dict[str, Any]


def write(results: Json) -> None:
    """Put figures and plots of these results into the page. Raises ValueError without its marks."""
    PLOTS.mkdir(parents=True, exist_ok=True)
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} has lost the marks between which its figures stand")
    text = f"{before}{BEGIN}\n\n{figures(results)}\n{END}{after}"
    PAGE.write_text(text, encoding="utf-8")
    _plot(results)


def figures(results: Json) -> str:
    """What the page says between its marks."""
    found = [section(results[part]) for part, section in _SECTIONS.items() if part in results]
    named = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return "\n".join([*_aims(results), *chain.from_iterable(found), f"Versions: {named}.\n"])


def _table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return ["| " + " | ".join(map(str, line)) + " |" for line in lines] + [""]


def _aims(results: Json) -> list[str]:
    table = _table(["aim", "measured", "holds"], [*aims.rows(results)])
    return ["## Aims\n", *table]


def _begin(title: str, part: Json) -> list[str]:
    """Heading, and the command with the machine that it ran on."""
    m = part["machine"]
    cpu = f"{m['cores']} cores of {m['cpu']}" if m["cores"] else f"{m['cpu']}, cores not recorded"
    return [
        f"## {title}\n",
        f"`{part['command']}`, {m['time']}, {cpu}, Python {m['python']}, "
        f"load average {m['load']} at the start.\n",
    ]


def _relay(part: Json) -> Iterator[str]:
    yield from _begin("Relaying", part)
    rows = [
        [name, c["concurrency"], f"{c['cpu_us_per_chunk']:.0f}", f"{c['cpu_ms_per_request']:.2f}"]
        for name, costs in part["figures"]["servers"].items()
        for c in costs
    ]
    yield from _table(["server", "streams", "CPU µs a chunk", "CPU ms a request"], rows)


def _peers(part: Json) -> Iterator[str]:
    servers = part["figures"]["servers"]
    ours = servers["safechat, guarded"]["cpu_us_per_chunk"]
    yield from _begin("Beside other servers", part)
    rows = [
        [
            name,
            f"{c['cpu_us_per_chunk']:.0f}",
            f"{c['cpu_ms_per_request']:.1f}",
            f"{c['cpu_us_per_chunk'] / ours:.1f}",
            c["failed"],
        ]
        for name, c in servers.items()
    ]
    yield from _table(
        ["server", "CPU µs a chunk", "CPU ms a request", "times ours", "failed"], rows
    )
    yield "![CPU of a chunk](benchmarks/peers.svg)\n"


def _crowd(part: Json) -> Iterator[str]:
    c = part["figures"]
    yield from _begin("A thousand streams at once", part)
    yield (
        f"{c['streams']} streams, {c['failed']} failed; the slowest took "
        f"{c['slowest_to_median']:.2f} times as long as the median ({c['median_s']:.1f} s); the "
        f"gateway's memory peaked at {c['peak_mb']:.0f} MB.\n"
    )


def _turns(part: Json) -> Iterator[str]:
    t = part["figures"]
    yield from _begin("Late turns", part)
    yield (
        f"Turn 20 of a conversation took {t['turn_20_ms']:.0f} ms of CPU in gateway and guard, "
        f"turn 3 {t['turn_3_ms']:.0f} ms: {t['ratio']:.2f} times as much.\n"
    )


def _judging(part: Json) -> Iterator[str]:
    yield from _begin("One verdict", part)
    yield "A call of each judge on a turn of 128 tokens, by the clock, nobody else asking:\n"
    rows = [[judge, f"{ms:.1f} ms"] for judge, ms in part["figures"].items()]
    yield from _table(["judge", "a call"], rows)


def _guarded(part: Json) -> Iterator[str]:
    yield from _begin("The guard on the real model", part)
    rows = [
        [
            f"{r['streams']:.0f}",
            f"{r['engine_tokens_per_second']:.0f}",
            f"{r['gateway_tokens_per_second']:.0f}",
            f"{r['ratio']:.2f} ({r['ratio_low']:.2f}–{r['ratio_high']:.2f})",
            f"{r['cpu_ratio']:.2f}",
            f"{r['engine_first_ms']:.0f} → {r['gateway_first_ms']:.0f}",
            f"{r['engine_per_token_ms']:.1f} → {r['gateway_per_token_ms']:.1f}",
            f"{r['engine_cpu_ms']:.1f} + {r['gateway_cpu_ms']:.2f}",
        ]
        for r in part["figures"]["levels"]
    ]
    headings = ["streams", "tokens/s, engine", "gateway", "ratio", "ratio by CPU"]
    headings += ["first text, ms", "per token, ms", "CPU ms a token, engine + gateway"]
    yield from _table(headings, rows)
    yield "![Throughput](benchmarks/guarded.svg)\n"


def _overhead(part: Json) -> Iterator[str]:
    f = part["figures"]
    yield from _begin("One stream alone", part)
    yield (
        f"{f['pairs']} pairs of the same greedy reply ({f['blocked']} more were blocked, "
        f"{f['differing']} differed).\n"
    )
    names = {"first_ms": "first text", "per_token_ms": "per token", "total_ms": "whole reply"}
    rows = [
        [
            name,
            f"{f[key]['engine']:.0f} ms",
            f"{f[key]['gateway']:.0f} ms",
            f"{f[key]['difference']:+.1f} ms ({f[key]['low']:+.1f} … {f[key]['high']:+.1f})",
        ]
        for key, name in names.items()
    ]
    yield from _table(["median", "engine", "gateway", "difference (95 % interval)"], rows)


def _outside(part: Json) -> Iterator[str]:
    yield from _begin("Clients of other projects", part)
    rows = [
        [
            client,
            side,
            f"{f['completed']} ({f['failed']} failed)",
            *(f"{f[n]:.0f}" for n in ("output_throughput", "median_ttft_ms")),
        ]
        for client, sides in part["figures"].items()
        for side, f in sides.items()
    ]
    yield from _table(["client", "against", "requests", "tokens/s", "first token, ms"], rows)


def _soak(part: Json) -> Iterator[str]:
    f = part["figures"]
    yield from _begin("Conversation at half load", part)
    yield (
        f"{f['minutes']:.0f} minutes, {f['users']} users, {f['counted']['received']} requests; "
        f"outcomes that nobody can explain: {len(f['unexplained'])}; the gateway's memory was "
        f"{f['early_mb']:.0f} MB after the warm-up, and {f['late_mb']:.0f} MB at last.\n"
    )


_SECTIONS: dict[str, Callable[[Json], Iterator[str]]] = {
    "relay": _relay,
    "peers": _peers,
    "crowd": _crowd,
    "turns": _turns,
    "judging": _judging,
    "guarded": _guarded,
    "overhead": _overhead,
    "outside": _outside,
    "soak": _soak,
}


def _plot(results: Json) -> None:
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "safechat", "font.size": 9})
    if "peers" in results:
        servers = results["peers"]["figures"]["servers"]
        figure, axes = plt.subplots(figsize=(6, 2.4))
        axes.barh(list(servers), [c["cpu_us_per_chunk"] for c in servers.values()])
        axes.set(xscale="log", xlabel="CPU µs a streamed chunk")
        axes.invert_yaxis()
        _save(figure, "peers")
    if "guarded" in results:
        levels = results["guarded"]["figures"]["levels"]
        figure, axes = plt.subplots(figsize=(6, 2.4))
        for side in ("engine", "gateway"):
            speeds = [r[f"{side}_tokens_per_second"] for r in levels]
            axes.plot([r["streams"] for r in levels], speeds, marker="o", label=side)
        axes.set(xscale="log", xlabel="streams", ylabel="tokens a second")
        axes.set_xticks([r["streams"] for r in levels], [f"{r['streams']:.0f}" for r in levels])
        axes.legend()
        _save(figure, "guarded")


def _save(figure: Figure, name: str) -> None:
    figure.savefig(PLOTS / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
