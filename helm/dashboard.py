"""Grafana's dashboard, from the tables below. `make dashboard` writes the chart's copy.

    python -m helm.dashboard > helm/safechat/files/dashboard.json

One row for each question: is it safe, is it good, is it quick, is there room, does it learn.
"""

import sys
from dataclasses import dataclass

from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DatasourceVariable,
    QueryVariable,
    Row,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    VariableRefresh,
)

JOB = 'job=~"$job"'
SHARE, SECONDS, COUNT, RATE = "percentunit", "s", "short", "cps"
PROMETHEUS = DataSourceRef(type_val="prometheus", uid="${datasource}")


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph. queries: an expression by its legend. unit: as Grafana names it."""

    title: str
    unit: str
    queries: dict[str, str]
    says: str = ""


def quantile(share: float, metric: str, by: str = "", **labels: str) -> str:
    """Of a histogram, over what Grafana finds a fitting interval."""
    chosen = ", ".join([JOB, *(f'{name}="{value}"' for name, value in labels.items())])
    grouped = f"le, {by}" if by else "le"
    rate = f"rate({metric}_bucket{{{chosen}}}[$__rate_interval])"
    return f"histogram_quantile({share}, sum by ({grouped}) ({rate}))"


def hourly(metric: str, by: str, chosen: str = JOB) -> str:
    return f"sum by ({by}) (increase({metric}{{{chosen}}}[1h]))"


def flags(*names: str) -> str:
    return f'job:safechat_flags:ratio_rate1h{{{JOB}, flag=~"{"|".join(names)}"}}'


SAFETY = (
    Panel(
        "Unsafe turns, share of an hour",
        SHARE,
        {"{{flag}}": flags("unsafe_prompt", "unsafe_response")},
        "What the guard judged unsafe, blocked or not.",
    ),
    Panel(
        "Blocked, share of requests",
        SHARE,
        {"{{outcome}}": f'job:safechat_outcomes:ratio_rate5m{{{JOB}, outcome=~"blocked_.*"}}'},
    ),
    Panel(
        "Turns without a verdict, an hour",
        COUNT,
        {
            "shown unjudged": hourly("safechat_flags_total", "job", f'{JOB}, flag="unjudged"'),
            "failed": hourly("safechat_requests_total", "job", f'{JOB}, outcome="guard_failed"'),
        },
        "Unjudged text is shown only where guard.on_failure is open.",
    ),
    Panel(
        "Guard errors a second",
        RATE,
        {"{{error}}": f"sum by (error) (job:safechat_guard_errors:rate5m{{{JOB}}})"},
    ),
    Panel(
        "Judges left alone, and the policy",
        COUNT,
        {
            "{{circuit}} {{state}}": "max by (circuit, state) "
            f'(safechat_guard_circuit{{{JOB}, state!="closed"}})',
            "fails open": f"max(safechat_guard_fail_open{{{JOB}}})",
        },
    ),
    Panel(
        "Safety scores, the lowest twentieth",
        SHARE,
        {"{{stage}}": quantile(0.05, "safechat_guard_score", "stage", axis="safety")},
    ),
    Panel(
        "Drift of scores from the reference week",
        SHARE,
        {"{{axis}} of a {{stage}}": f"job:safechat_guard_score:drift{{{JOB}}}"},
        "Largest difference of the two cumulative distributions.",
    ),
    Panel(
        "Shown before a block, characters",
        COUNT,
        {
            "median": quantile(0.5, "safechat_shown_before_block_characters"),
            "95 %": quantile(0.95, "safechat_shown_before_block_characters"),
        },
        "All of them were judged safe when they were shown.",
    ),
)

QUALITY = (
    Panel(
        "Helpfulness scores",
        SHARE,
        {
            "median": quantile(0.5, "safechat_guard_score", axis="helpfulness"),
            "lowest tenth": quantile(0.1, "safechat_guard_score", axis="helpfulness"),
        },
    ),
    Panel(
        "Refused or unhelpful, share of an hour",
        SHARE,
        {"{{flag}}": flags("refusal", "false_refusal", "unhelpful")},
        "False refusals here are suspected, not confirmed.",
    ),
    Panel(
        "Suspected false refusals, an hour",
        COUNT,
        {
            "{{source}}: {{rule}}": hourly(
                "safechat_false_refusals_total", "source, rule", f'{JOB}, state="suspected"'
            )
        },
    ),
    Panel(
        "Second attempts, an hour",
        COUNT,
        {"{{kind}} {{result}}": hourly("safechat_second_attempts_total", "kind, result")},
    ),
    Panel(
        "What users said, an hour", COUNT, {"{{kind}}": hourly("safechat_feedback_total", "kind")}
    ),
)

LATENCY = (
    Panel(
        "Time to the first text",
        SECONDS,
        {
            "median": quantile(0.5, "safechat_time_to_first_token_seconds"),
            "95 %": f"job:safechat_time_to_first_token_seconds:p95_rate5m{{{JOB}}}",
        },
    ),
    Panel(
        "Time per token after the first",
        SECONDS,
        {
            "median": quantile(0.5, "safechat_time_per_output_token_seconds"),
            "95 %": f"job:safechat_time_per_output_token_seconds:p95_rate5m{{{JOB}}}",
        },
    ),
    Panel(
        "Waiting for a verdict, 95 %",
        SECONDS,
        {"{{stage}}": f"job:safechat_guard_wait_seconds:p95_rate5m{{{JOB}}}"},
    ),
    Panel(
        "One call of a reward model, 95 %",
        SECONDS,
        {"{{axis}}": quantile(0.95, "safechat_guard_batch_seconds", "axis")},
    ),
    Panel(
        "Held back when a turn ended, characters",
        COUNT,
        {"95 %": quantile(0.95, "safechat_held_characters")},
    ),
)

CAPACITY = (
    Panel(
        "Requests a second",
        "reqps",
        {"{{outcome}}": f"sum by (outcome) (job:safechat_requests:rate5m{{{JOB}}})"},
    ),
    Panel(
        "Turns in flight",
        COUNT,
        {"{{instance}}": f"safechat_turns_in_flight{{{JOB}}}"},
        "A gateway refuses more than limits.streams.",
    ),
    Panel(
        "Tokens a second",
        RATE,
        {"{{kind}}": f"sum by (kind) (job:safechat_tokens:rate5m{{{JOB}}})"},
    ),
    Panel(
        "Samples scored a second",
        RATE,
        {"{{axis}}": f"sum by (axis) (rate(safechat_guard_samples_total{{{JOB}}}[5m]))"},
    ),
    Panel(
        "Engine and Redis",
        COUNT,
        {
            "engine up {{instance}}": f"safechat_engine_up{{{JOB}}}",
            "engine restarts {{instance}}": f"safechat_engine_restarts{{{JOB}}}",
            "engine asked again, an hour": hourly("safechat_engine_retries_total", "job"),
            "Redis up {{instance}}": f"safechat_redis_up{{{JOB}}}",
            "Redis silent, an hour": hourly("safechat_redis_failures_total", "job"),
        },
    ),
    Panel(
        "Cores in use, by gateway",
        COUNT,
        {"{{instance}}": f"rate(process_cpu_seconds_total{{{JOB}}}[5m])"},
    ),
    Panel(
        "Memory, by gateway", "bytes", {"{{instance}}": f"process_resident_memory_bytes{{{JOB}}}"}
    ),
)

FLYWHEEL = (
    Panel(
        "Flagged turns",
        COUNT,
        {
            "waiting": f"max(safechat_journal_pending{{{JOB}}})",
            "reviewed": f"max(safechat_journal_reviewed{{{JOB}}})",
        },
    ),
    Panel(
        "Age of the oldest that waits",
        SECONDS,
        {"age": f"max(safechat_journal_oldest_pending_seconds{{{JOB}}})"},
    ),
    Panel(
        "Decided by raters, a day",
        COUNT,
        {
            "{{source}} {{state}}": "sum by (source, state) "
            f'(job:safechat_false_refusals:increase1d{{{JOB}, state!="suspected"}})'
        },
        "Confirmed: a harmless question was declined.",
    ),
    Panel(
        "Doubted refusals in the journal",
        COUNT,
        {"{{state}}": f"max by (state) (safechat_review_false_refusals{{{JOB}}})"},
    ),
    Panel(
        "Agreement of raters",
        SHARE,
        {"{{task}}": f"max by (task) (safechat_review_agreement{{{JOB}}})"},
        "Gwet's AC2; nothing until two have rated one item.",
    ),
    Panel(
        "Appeals, a day",
        COUNT,
        {
            "{{state}}": "sum by (state) "
            f'(job:safechat_false_refusals:increase1d{{{JOB}, rule="appeal"}})'
        },
    ),
    Panel(
        "Given to the journal, an hour",
        COUNT,
        {"{{result}}": hourly("safechat_journal_turns_total", "result")},
    ),
    Panel(
        "Trouble of the journal",
        COUNT,
        {
            f"{kind} {{{{instance}}}}": f"safechat_journal_{kind}{{{JOB}}}"
            for kind in ("spooled", "refused", "dropped", "failures", "quarantined")
        },
    ),
    Panel(
        "What does not add up",
        COUNT,
        {
            "requests {{instance}}": f"instance:safechat_requests:unaccounted{{{JOB}}}",
            "journal {{instance}}": f"instance:safechat_journal:missing{{{JOB}}}",
        },
        "Both are 0; that of the journal may be below for a moment.",
    ),
)

ROWS = {
    "Safety": SAFETY,
    "Quality": QUALITY,
    "Latency": LATENCY,
    "Capacity": CAPACITY,
    "Flywheel": FLYWHEEL,
}


def time_series(panel: Panel) -> TimeSeries:
    graph = TimeSeries().title(panel.title).description(panel.says).unit(panel.unit)
    graph = graph.datasource(PROMETHEUS).span(6).height(8).axis_soft_min(0)
    for letter, (legend, expression) in zip("ABCDEFGH", panel.queries.items(), strict=False):
        graph.with_target(Dataquery().expr(expression).legend_format(legend).ref_id(letter))
    return graph


def dashboard() -> str:
    """The dashboard as JSON, the same in every run."""
    board = Dashboard("SafeChat").uid("safechat").tags(["safechat"]).refresh("1m")
    board.time("now-24h", "now").tooltip(DashboardCursorSync.CROSSHAIR)
    board.with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
    board.with_variable(
        QueryVariable("job")
        .label("Deployment")
        .datasource(PROMETHEUS)
        .query("label_values(safechat_build_info, job)")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .include_all(True)
        .multi(True)
    )
    for title, panels in ROWS.items():
        board.with_row(Row(title))
        for panel in panels:
            board.with_panel(time_series(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


if __name__ == "__main__":
    sys.stdout.write(dashboard())
