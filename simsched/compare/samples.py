"""The summary of a results directory by load, policy and run: where comparisons and figures start."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from simsched.compare.statistics import Ratio, paired_ratio
from simsched.errors import InputError
from simsched.text.labels import higher_is_better

if TYPE_CHECKING:
    import polars as pl

    from simsched.results import Results

PRIMARY = "mean_latency_per_token_ms"
DEFAULT_METRICS = (
    PRIMARY,
    "p99_latency_per_token_ms",
    "mean_ttft_ms",
    "p99_ttft_ms",
    "mean_tpot_ms",
    "mean_e2el_ms",
    "p99_max_waiting_time_ms",
    "request_goodput",
)
"""What is compared unless metrics are named; those without values are left out."""

Load = dict[str, Any]
"""Everything of a cell that is neither policy nor run: its swept options."""


def json_load(load: Load) -> Load:
    """A load for JSON, which has no infinity: a burst's rate is the string "inf"."""
    return {name: "inf" if value == math.inf else value for name, value in load.items()}


@dataclass(frozen=True)
class Samples:
    """The values of a results directory by load, policy and run."""

    policies: list[str]
    loads: list[Load]
    """Of each, the options that vary; a directory with one load has one empty dict."""
    values: dict[tuple[int, str, str], dict[Any, float]]
    """(index of the load, policy, metric) -> run -> value; runs of one seed share the key."""
    cells: dict[tuple[int, str], list[str]] = field(default_factory=dict)
    """(index of the load, policy) -> cell names."""

    def mean(self, load: int, policy: str, metric: str) -> float | None:
        """Over runs; None where undefined."""
        runs = self.values.get((load, policy, metric))
        return sum(runs.values()) / len(runs) if runs else None

    def ratio(self, load: int, policy: str, baseline: str, metric: str) -> Ratio | None:
        """Of one policy to another over the runs that both have; None where undefined."""
        a, b = (self.values.get((load, name, metric), {}) for name in (policy, baseline))
        runs = [run for run in a if run in b]
        if not runs or min(min(a[run], b[run]) for run in runs) <= 0:
            return None
        return paired_ratio([a[run] for run in runs], [b[run] for run in runs])

    def overall(self, policy: str, baseline: str, metric: str) -> Ratio | None:
        """The geometric mean over loads of the ratio, with its interval over runs."""
        logs: dict[Any, list[float]] = {}
        for load in range(len(self.loads)):
            a, b = (self.values.get((load, name, metric), {}) for name in (policy, baseline))
            for run in a:
                if run in b and a[run] > 0 and b[run] > 0:
                    logs.setdefault(run, []).append(math.log(a[run] / b[run]))
        full = [sum(each) / len(each) for each in logs.values() if len(each) == len(self.loads)]
        return paired_ratio([math.exp(each) for each in full], [1.0] * len(full)) if full else None

    def unfinished(self, load: int, policy: str) -> int:
        """Requests without an end, summed over runs."""
        return round(sum(self.values.get((load, policy, "unfinished"), {}).values()))

    def order(self, load: int, metric: str) -> list[str]:
        """The policies, best first; those without a value are left out."""
        means = {policy: self.mean(load, policy, metric) for policy in self.policies}
        sign = -1 if higher_is_better(metric) else 1
        known = [(sign * value, policy) for policy, value in means.items() if value is not None]
        return [policy for _, policy in sorted(known, key=lambda each: each[0])]


def swept_options(results: Results) -> tuple[list[str], list[str]]:
    """The options that make a load (neither policy nor run), and those of them that vary."""
    from simsched.results import RUN_OPTIONS

    options = [name for name in next(iter(results.cells.values())) if name not in ("policy", *RUN_OPTIONS)]
    return options, [name for name in options if results.summary[name].n_unique() > 1]


def samples_of(results: Results, also: Collection[str] = ()) -> Samples:
    """The summary of a results directory, by load, policy and run; `also`: options to keep if constant."""
    from simsched.results import RUN_OPTIONS

    summary = results.summary
    options, varying = swept_options(results)
    varying = [name for name in options if name in varying or name in also]
    metrics = [name for name in summary.columns if name not in ("cell", "policy", *RUN_OPTIONS, *options)]
    loads: list[Load] = []
    values: dict[tuple[int, str, str], dict[Any, float]] = {}
    cells: dict[tuple[int, str], list[str]] = {}
    for row in summary.iter_rows(named=True):
        load = {name: row[name] for name in varying}
        if load not in loads:
            loads.append(load)
        index, policy = loads.index(load), row["policy"]
        cells.setdefault((index, policy), []).append(row["cell"])
        for metric in metrics:
            if row[metric] is not None:
                run = (row.get("run"), row.get("seed"))
                values.setdefault((index, policy, metric), {})[run] = float(row[metric])
    return Samples(list(dict.fromkeys(summary["policy"])), loads, values, cells)


def find_policy(policies: Sequence[str], wanted: str) -> str:
    """The policy of this specification, or the only one of this name.

    Raises:
        InputError: there is none, or several have this name.
    """
    if wanted in policies:
        return wanted
    alike = [policy for policy in policies if policy.partition("(")[0] == wanted]
    if len(alike) == 1:
        return alike[0]
    raise InputError(f"--baseline {wanted}: not one policy of these results; expected {', '.join(policies)}")


def choose_metrics(summary: pl.DataFrame, wanted: Sequence[str] | None) -> list[str]:
    """The wanted metrics, or the default ones that have values.

    Raises:
        InputError: an unknown metric.
    """
    from simsched.metrics import METRICS

    if wanted is None:
        return [name for name in DEFAULT_METRICS if name in summary.columns and summary[name].count()]
    for name in wanted:
        if name not in METRICS or name not in summary.columns:
            raise InputError(f"--metric {name}: unknown; expected some of {', '.join(METRICS)}")
    return list(wanted)
