"""Which policy is better, on which metric, at which load, by how much, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from simsched.errors import InputError
from simsched.labels import higher_is_better
from simsched.statistics import LEVEL, Ratio, holm, kendall_tau, paired_ratio

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
class Row:
    """One policy against the baseline on one metric, at one load."""

    metric: str
    load: Load
    policy: str
    value: float | None
    """Mean over runs; None where the metric is undefined."""
    ratio: Ratio | None
    """To the baseline; None for the baseline itself, and where it is undefined (a zero, no common run)."""
    p_holm: float | None
    """P value, adjusted over the policies compared at this metric and load."""
    unfinished: int
    """Requests that never finished, summed over runs: the other numbers leave them out."""
    bound: float | None = None
    """Least possible mean on these traces, in the metric's unit (`simsched.bounds`)."""

    @property
    def significant(self) -> bool | None:
        """Does it differ from the baseline? None with one run: cannot be said."""
        return None if self.p_holm is None else self.p_holm < LEVEL

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        ratio = self.ratio
        return {
            "metric": self.metric,
            **json_load(self.load),
            "policy": self.policy,
            "value": self.value,
            "ratio": ratio.ratio if ratio else None,
            "ci95": [ratio.low, ratio.high] if ratio and ratio.low is not None else None,
            "p_holm": self.p_holm,
            "significant": self.significant,
            "runs": ratio.n if ratio else None,
            "unfinished": self.unfinished,
            "bound": self.bound,
            "value_over_bound": self.value / self.bound if self.value and self.bound else None,
        }


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


@dataclass(frozen=True)
class Comparison:
    """Every policy of a results directory against one of them."""

    baseline: str
    samples: Samples
    metrics: list[str]
    rows: list[Row]
    """By metric, load, then policy in the order of the grid."""
    runs: int
    notes: list[str]
    """What a reader must know: no intervals, no bounds, unfinished requests."""

    @property
    def policies(self) -> list[str]:
        return self.samples.policies

    @property
    def loads(self) -> list[Load]:
        return self.samples.loads

    def taus(self) -> dict[tuple[int, str], float]:
        """Kendall's tau between the order of the policies on the first metric and on each metric.

        Returns:
            (index of the load, metric) -> tau; NaN with one policy. 1: the metrics agree; -1: opposite.
        """
        reference = self.metrics[0]
        found = {}
        for load in range(len(self.loads)):
            for metric in self.metrics:
                pairs = [
                    (self.samples.mean(load, policy, reference), self.samples.mean(load, policy, metric))
                    for policy in self.policies
                ]
                known = [(x, y) for x, y in pairs if x is not None and y is not None]
                sign = -1 if higher_is_better(metric) != higher_is_better(reference) else 1
                found[load, metric] = sign * kendall_tau([x for x, _ in known], [y for _, y in known])
        return found

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "baseline": self.baseline,
            "policies": self.policies,
            "runs": self.runs,
            "rows": [row.to_dict() for row in self.rows],
            "order": [
                {
                    **json_load(self.loads[load]),
                    "metric": metric,
                    "order": self.samples.order(load, metric),
                    "kendall_tau": None if math.isnan(tau) else tau,
                }
                for (load, metric), tau in self.taus().items()
            ],
            "notes": self.notes,
            "verdict": verdict(self),
        }

    def to_table(self) -> str:
        """Everything, as text."""
        from simsched.compare_text import comparison_text

        return comparison_text(self)


def compare(
    results: Results,
    baseline: str = "fcfs",
    *,
    metrics: Sequence[str] | None = None,
    bounds: Mapping[str, Mapping[str, float]] | None = None,
) -> Comparison:
    """Each policy against the baseline, on each metric and load, over runs of the same seeds.

    Args:
        results: a finished results directory.
        baseline: a policy of it, by its full specification, or by its name where that is unambiguous.
        metrics: columns of the summary; None: `DEFAULT_METRICS`.
        bounds: cell -> metric -> least possible value (`simsched.distance.bounds_of_results`).

    Raises:
        InputError: the baseline or a metric is not there.
    """
    samples = samples_of(results)
    name = find_policy(samples.policies, baseline)
    chosen = choose_metrics(results.summary, metrics)
    rows = []
    for metric in chosen:
        for load in range(len(samples.loads)):
            rows += _rows(samples, metric, load, name, bounds or {})
    runs = max((len(each) for each in samples.values.values()), default=0)
    return Comparison(name, samples, chosen, rows, runs, _notes(samples, runs))


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


def _rows(
    samples: Samples, metric: str, load: int, baseline: str, bounds: Mapping[str, Mapping[str, float]]
) -> list[Row]:
    others = [policy for policy in samples.policies if policy != baseline]
    ratios = {policy: samples.ratio(load, policy, baseline, metric) for policy in others}
    p_values = {policy: each.p for policy, each in ratios.items() if each and each.p is not None}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    rows = []
    for policy in samples.policies:
        least = [bounds.get(cell, {}).get(metric) for cell in samples.cells.get((load, policy), ())]
        known = [each for each in least if each is not None]
        rows.append(
            Row(
                metric=metric,
                load=samples.loads[load],
                policy=policy,
                value=samples.mean(load, policy, metric),
                ratio=ratios.get(policy),
                p_holm=adjusted.get(policy),
                unfinished=samples.unfinished(load, policy),
                bound=sum(known) / len(known) if known and len(known) == len(least) else None,
            )
        )
    return rows


def _notes(samples: Samples, runs: int) -> list[str]:
    notes = []
    if runs < 2:
        notes.append("One run: no intervals, and no difference can be called significant (--num-runs 3).")
    for policy in samples.policies:
        count = sum(samples.unfinished(load, policy) for load in range(len(samples.loads)))
        if count:
            notes.append(
                f"{policy} left {count:,} requests unfinished; its numbers leave them out, so it cannot win."
            )
    return notes


def verdict(comparison: Comparison, metrics: Sequence[str] = ()) -> list[str]:
    """Lines that say who wins on which metric at the highest load, and over all loads, and by how much.

    Args:
        comparison: what `compare` found.
        metrics: which of its metrics to judge; none: latency per token (mean, P99), mean TTFT and TPOT.
    """
    from simsched.compare_text import verdict_lines

    return verdict_lines(comparison, metrics)
