"""The summary of a results directory by load, arm and run: where comparisons and figures start."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from simsched.compare.arms import Arm, Load, is_chosen
from simsched.compare.statistics import Ratio, paired_ratio
from simsched.errors import InputError
from simsched.metrics import ALL_METRICS, GROWTH
from simsched.results import RUN_OPTIONS
from simsched.text.arm_names import Labels, arm_name, in_view, name_arms, parse_labels, resolved
from simsched.text.labels import higher_is_better
from simsched.text.selection import same_value

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
    "mean_session_completion_ms",
    "p99_session_completion_ms",
    "mean_session_slowdown",
)
"""What is compared unless metrics are named; those without values are left out."""


@dataclass(frozen=True)
class Samples:
    """The values of a results directory by load, arm and run."""

    arms: dict[str, Arm]
    """Name -> what was chosen, in the order of the grid."""
    loads: list[Load]
    """Of each, the options that vary; a directory with one load has one empty dict."""
    values: dict[tuple[int, str, str], dict[Any, float]]
    """(index of the load, arm, metric) -> run -> value; runs of one seed share the key."""
    cells: dict[tuple[int, str], list[str]] = field(default_factory=dict)
    """(index of the load, arm) -> cell names."""
    rates: list[float | None] = field(default_factory=list)
    """Of each load, its request rate, also where that does not vary."""
    capacities: dict[tuple[int, str], float] = field(default_factory=dict)
    """(index of the load, arm) -> the requests/s that its engine can serve, as was estimated for FCFS."""
    labels: Labels = field(default_factory=dict)
    """Those of `Results.labels` that tell its arms apart."""

    @property
    def names(self) -> list[str]:
        """The arms' names."""
        return list(self.arms)

    @property
    def capacity(self) -> list[float | None]:
        """Of each load, the estimate that all of its arms share; None: they differ, or it is not known."""
        found: list[float | None] = []
        for load in range(len(self.loads)):
            known = {self.capacities.get((load, arm)) for arm in self.arms if (load, arm) in self.cells}
            found.append(known.pop() if len(known) == 1 else None)
        return found

    def verdicts(self, load: int, arm: str) -> list[bool]:
        """Of the runs of which it is known: were they in steady state?"""
        return [bool(value) for value in self.values.get((load, arm, "steady"), {}).values()]

    def steady(self, load: int, arm: str) -> bool | None:
        """Was every run in steady state? None: not known of any."""
        known = self.verdicts(load, arm)
        return all(known) if known else None

    def growing(self, load: int, arm: str) -> bool:
        """Does the backlog of its runs grow for sure, in the mean?"""
        return self.steady(load, arm) is False and (self.mean(load, arm, "growth_low") or 0.0) > 0

    def mean(self, load: int, arm: str, metric: str) -> float | None:
        """Over runs; None where undefined."""
        runs = self.values.get((load, arm, metric))
        return sum(runs.values()) / len(runs) if runs else None

    def ratio(self, load: int, arm: str, baseline: str, metric: str) -> Ratio | None:
        """Of one arm to another over the runs that both have; None where undefined."""
        a, b = (self.values.get((load, name, metric), {}) for name in (arm, baseline))
        runs = [run for run in a if run in b]
        if not runs or min(min(a[run], b[run]) for run in runs) <= 0:
            return None
        return paired_ratio([a[run] for run in runs], [b[run] for run in runs])

    def overall(self, arm: str, baseline: str, metric: str) -> Ratio | None:
        """The geometric mean over loads of the ratio, with its interval over runs."""
        logs: dict[Any, list[float]] = {}
        for load in range(len(self.loads)):
            a, b = (self.values.get((load, name, metric), {}) for name in (arm, baseline))
            for run in a:
                if run in b and a[run] > 0 and b[run] > 0:
                    logs.setdefault(run, []).append(math.log(a[run] / b[run]))
        full = [sum(each) / len(each) for each in logs.values() if len(each) == len(self.loads)]
        return paired_ratio([math.exp(each) for each in full], [1.0] * len(full)) if full else None

    def unfinished(self, load: int, arm: str) -> int:
        """Requests without an end, summed over runs."""
        return self.total(load, arm, "unfinished")

    def total(self, load: int, arm: str, metric: str) -> int:
        """A number of requests, summed over runs."""
        return round(sum(self.values.get((load, arm, metric), {}).values()))

    def share(self, load: int) -> float | None:
        """A load's request rate over the capacity; None where it has no finite rate, or that is not known."""
        rate, most = self.rates[load], self.capacity[load]
        return rate / most if most and rate is not None and math.isfinite(rate) else None

    def seconds_of_arrivals(self, load: int) -> float | None:
        """About how long requests arrive; None without a finite rate."""
        rate = self.rates[load]
        if rate is None or not math.isfinite(rate):
            return None
        found = [self.mean(load, arm, "num_requests") for arm in self.arms]
        requests = next((each for each in found if each), None)
        return requests / rate if requests else None

    def highest(self, among: Collection[int] | None = None) -> int:
        """The index of the load (of those `among`) with the largest share of the capacity, or the highest
        request rate where that is not known; of several, the last."""

        def height(i: int) -> tuple[float, int]:
            share, rate = self.share(i), self.rates[i]
            return share if share is not None else -1.0 if rate is None else float(rate), i

        return max(range(len(self.loads)) if among is None else among, key=height)

    def order(self, load: int, metric: str) -> list[str]:
        """The arms, best first; those without a value are left out."""
        means = {arm: self.mean(load, arm, metric) for arm in self.arms}
        sign = -1 if higher_is_better(metric) else 1
        known = [(sign * value, arm) for arm, mean in means.items() if (value := rounded(mean)) is not None]
        return [arm for _, arm in sorted(known, key=lambda each: each[0])]


def rounded(mean: float | None) -> float | None:
    """A mean without the rounding noise of its sums, so that arms whose ratio is `identical` are equal."""
    return None if mean is None else float(f"{mean:.11g}")


def swept_options(results: Results) -> tuple[list[str], list[str]]:
    """The options of a cell but for run and seed, and those of them that vary."""
    options = [name for name in next(iter(results.cells.values())) if name not in RUN_OPTIONS]
    return options, [name for name in options if results.summary[name].n_unique() > 1]


def fixed_options(results: Results, where: Mapping[str, Any] | None) -> dict[str, Any]:
    """`where` with the values that cells have, for what may have been typed (`"256"` for 256).

    Raises:
        InputError: no such option, or no cell with that value.
    """
    options, _ = swept_options(results)
    found: dict[str, Any] = {}
    for name, wanted in (where or {}).items():
        if name not in options:
            raise InputError(f"where {name}: no such option; expected some of {', '.join(options)}")
        values = results.summary[name].unique(maintain_order=True).to_list()
        text = "none" if wanted is None else str(wanted)
        fitting = [value for value in values if value == wanted or same_value(value, text)]
        if not fitting:
            shown = ", ".join(map(str, values[:12]))
            raise InputError(f"{results.path}: no cell with {name} {wanted}; expected one of {shown}")
        found[name] = fitting[0]
    return found


def samples_of(
    results: Results, also: Collection[str] = (), where: Mapping[str, Any] | None = None
) -> Samples:
    """The summary of a results directory, by load, arm and run.

    Args:
        results: the directory.
        also: options to keep though they don't vary.
        where: options to hold fixed: only the cells that have these values, and what else varies there.

    Raises:
        InputError: `where` fits no cell, or labels leave two arms with one name.
    """
    fixed = fixed_options(results, where)
    rows = [
        row for row in results.summary.to_dicts() if all(row[name] == value for name, value in fixed.items())
    ]
    if not rows:
        shown = ", ".join(f"{name} {value}" for name, value in fixed.items())
        raise InputError(f"{results.path}: no cell with {shown}")
    options, _ = swept_options(results)
    varying = [name for name in options if name in also or len({row[name] for row in rows}) > 1]
    of_load = [name for name in varying if not is_chosen(name)]
    of_arm = [name for name in varying if is_chosen(name)]
    numbers = {name for name in (*ALL_METRICS, *GROWTH, "steady") if name in rows[0]}
    loads: list[Load] = []
    values: dict[tuple[int, str, str], dict[Any, float]] = {}
    cells: dict[tuple[int, str], list[str]] = {}
    rates: list[float | None] = []
    capacities: dict[tuple[int, str], float] = {}
    estimates = results.manifest.get("capacity", {})
    labels = in_view(results.labels, rows, of_arm)
    chosen = [{"policy": row["policy"], **{name: row[name] for name in of_arm}} for row in rows]
    arms = name_arms(chosen, of_arm, labels)
    for row in ascending(rows, of_load):
        load = {name: row[name] for name in of_load}
        if load not in loads:
            loads.append(load)
            rates.append(row.get("request_rate"))
        index, name = loads.index(load), arm_name(row, of_arm, labels)
        cells.setdefault((index, name), []).append(row["cell"])
        if row["cell"] in estimates:
            capacities[index, name] = estimates[row["cell"]]
        for metric in numbers:
            if row[metric] is not None:
                run = (row.get("run"), row.get("seed"))
                values.setdefault((index, name, metric), {})[run] = float(row[metric])
    for (index, name, metric), served in values.items():
        most = capacities.get((index, name), math.inf)
        if metric == "request_throughput" and max(served.values()) > 1.1 * most:
            capacities = {}  # they do not count prefix hits, and here they are many
            break
    return Samples(arms, loads, values, cells, rates, capacities, labels)


def with_labels(directories: Sequence[Results], texts: Sequence[str]) -> list[Results]:
    """Results directories whose arms are called as these labels say (`simsched.text.arm_names.parse_labels`).

    Raises:
        InputError: a label of that form that fits no arm of any, or labels that leave two arms with one name.
    """
    if not texts:
        return list(directories)
    options = dict.fromkeys(name for each in directories for name in swept_options(each)[0])
    labels = parse_labels(texts, list(options))
    varying = {name for each in directories for name in swept_options(each)[1]}
    arms = [arm for each in directories for arm in samples_of(each, also=varying).arms.values()]
    labels = resolved(labels, arms)
    named = [
        replace(each, labels=labels | {name: of for name, of in each.labels.items() if name not in labels})
        for each in directories
    ]
    for each in named:
        samples_of(each)  # refuses arms of one name
    return named


def stated(results: Results, load: Load, where: Mapping[str, Any] | None = None) -> Load:
    """A load with its request rate and workload also where those do not vary: what a figure must say."""
    fixed = {**fixed_options(results, where), **load}
    for row in results.summary.to_dicts():
        if all(row[name] == value for name, value in fixed.items()):
            known = {name: row[name] for name in ("request_rate", "workload") if row.get(name) is not None}
            return {**known, **load}
    return load


def ascending(rows: Sequence[dict[str, Any]], options: Sequence[str]) -> list[dict[str, Any]]:
    """Rows by these options: numbers ascending (what was not given first), words as they come."""

    def places(name: str) -> dict[Any, int]:
        found = list(dict.fromkeys(row[name] for row in rows))
        if all(value is None or isinstance(value, int | float) for value in found):
            found.sort(key=lambda value: -math.inf if value is None else float(value))
        return {value: place for place, value in enumerate(found)}

    place = {name: places(name) for name in options}
    return sorted(rows, key=lambda row: [place[name][row[name]] for name in options])


def choose_metrics(summary: pl.DataFrame, wanted: Sequence[str] | None) -> list[str]:
    """The wanted metrics, or the default ones that have values.

    Raises:
        InputError: an unknown metric.
    """
    if wanted is None:
        return [name for name in DEFAULT_METRICS if name in summary.columns and summary[name].count()]
    for name in wanted:
        if name not in ALL_METRICS or name not in summary.columns:
            known = [each for each in ALL_METRICS if each in summary.columns]
            raise InputError(f"--metric {name}: unknown; expected some of {', '.join(known)}")
    return list(wanted)
