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
    rates: list[float | None] = field(default_factory=list)
    """Of each load, its request rate, also where that does not vary."""
    capacity: list[float | None] = field(default_factory=list)
    """Of each load, the requests/s that its engine can serve; None: not known."""

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

    def share(self, load: int) -> float | None:
        """A load's request rate over the capacity; None where it has no finite rate, or that is not known."""
        rate, most = self.rates[load], self.capacity[load]
        return rate / most if most and rate is not None and math.isfinite(rate) else None

    def seconds_of_arrivals(self, load: int) -> float | None:
        """About how long requests arrive; None without a finite rate."""
        rate, requests = self.rates[load], self.mean(load, self.policies[0], "num_requests")
        return requests / rate if rate is not None and math.isfinite(rate) and requests else None

    def highest(self, among: Collection[int] | None = None) -> int:
        """The index of the load (of those `among`) with the largest share of the capacity, or the highest
        request rate where that is not known; of several, the last."""

        def height(i: int) -> tuple[float, int]:
            share, rate = self.share(i), self.rates[i]
            return share if share is not None else -1.0 if rate is None else float(rate), i

        return max(range(len(self.loads)) if among is None else among, key=height)

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
    rates: list[float | None] = []
    capacity: list[float | None] = []
    of_cells = results.manifest.get("capacity", {})
    for row in ascending(summary.to_dicts(), varying):
        load = {name: row[name] for name in varying}
        if load not in loads:
            loads.append(load)
            rates.append(row.get("request_rate"))
            capacity.append(of_cells.get(row["cell"]))
        index, policy = loads.index(load), row["policy"]
        cells.setdefault((index, policy), []).append(row["cell"])
        for metric in metrics:
            if row[metric] is not None:
                run = (row.get("run"), row.get("seed"))
                values.setdefault((index, policy, metric), {})[run] = float(row[metric])
    for (index, _, metric), served in values.items():
        if metric == "request_throughput" and max(served.values()) > 1.1 * (capacity[index] or math.inf):
            capacity = [None] * len(loads)  # it does not count prefix hits, and here they are many
            break
    return Samples(list(dict.fromkeys(summary["policy"])), loads, values, cells, rates, capacity)


def ascending(rows: Sequence[dict[str, Any]], options: Sequence[str]) -> list[dict[str, Any]]:
    """Rows by these options: numbers ascending (what was not given first), words as they come."""

    def places(name: str) -> dict[Any, int]:
        found = list(dict.fromkeys(row[name] for row in rows))
        if all(value is None or isinstance(value, int | float) for value in found):
            found.sort(key=lambda value: -math.inf if value is None else float(value))
        return {value: place for place, value in enumerate(found)}

    place = {name: places(name) for name in options}
    return sorted(rows, key=lambda row: [place[name][row[name]] for name in options])


def find_policy(policies: Sequence[str], wanted: str | None, option: str = "--baseline") -> str:
    """The policy of this specification, or the only one of this name; None: fcfs, else the first.

    Raises:
        InputError: there is none, or several have this name.
    """
    if wanted is None:
        return "fcfs" if "fcfs" in policies else policies[0]
    if wanted in policies:
        return wanted
    alike = [policy for policy in policies if policy.partition("(")[0] == wanted]
    if len(alike) == 1:
        return alike[0]
    raise InputError(f"{option} {wanted}: not one policy of these results; expected {', '.join(policies)}")


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
