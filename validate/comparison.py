"""How far a simulation is from replays of the same study: times, their parts, and the order of policies.

All errors are signed: (simulated - real) / real. Runs of one setting are averaged first. With several
replays of the study the real value is their mean, and beside each error stands their spread, (largest -
smallest) / mean: what the machine itself does not repeat.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simsched.compare.statistics import kendall_tau
from simsched.errors import InputError
from simsched.metrics import Requests, measure
from simsched.results import Results
from validate.components import COMPONENTS, cell_requests, cell_table, components
from validate.verdict import Tolerance, verdict

if TYPE_CHECKING:
    pass

Setting = tuple[str, float | None]
"""Workload and request rate."""

LATENCIES = ("ttft", "tpot", "e2el", "latency_per_token")
STATISTICS = ("mean", "median", "p90", "p99")
METRICS = tuple(f"{statistic}_{name}_ms" for name in (*LATENCIES, "itl") for statistic in STATISTICS)
SPEEDUP_METRIC = "mean_latency_per_token_ms"
"""The paper's metric: speed-ups and orders are by it."""

Values = dict[str, float]


@dataclass
class Side:
    """One results directory: setting -> policy -> values, averaged over runs."""

    values: dict[Setting, dict[str, Values]] = field(default_factory=dict)
    """`METRICS` and `COMPONENTS`."""


def read_side(results: Results) -> Side:
    """All cells of a results directory, with their metrics and components."""
    runs_of: dict[tuple[Setting, str], list[Values]] = {}
    gaps = _itl(results.path)
    for cell, options in results.cells.items():
        values = {**_metrics(results, cell, gaps.get(cell, {})), **components(results, cell)}
        setting = (str(options["workload"]), _rate(options["request_rate"]))
        name = str(options["policy"])
        if options.get("router") is not None:
            name += f",router={options['router']}"
        runs_of.setdefault((setting, name), []).append(values)
    side = Side()
    for (setting, policy), runs in runs_of.items():
        side.values.setdefault(setting, {})[policy] = _mean(runs)
    return side


def compare_results(
    real: Results | Sequence[Results],
    simulated: Results | Sequence[Results],
    *,
    baseline: str = "fcfs",
    tolerance: Tolerance | None = None,
) -> dict[str, Any]:
    """Everything that `--json` writes; see docs/fidelity.md for its keys.

    Args:
        real: one replay, or several of the same study.
        simulated: of the same study; several (one for each replay) are averaged.
        baseline: the policy that speed-ups are over.
        tolerance: for the verdict.

    Raises:
        InputError: they have no policy and load in common, or the baseline is missing.
    """
    replays = [real] if isinstance(real, Results) else list(real)
    simulations = [simulated] if isinstance(simulated, Results) else list(simulated)
    lefts = [read_side(each) for each in replays]
    rights = [read_side(each) for each in simulations]
    loads = []
    for setting, policies in rights[0].values.items():
        common = [
            policy
            for policy in policies
            if all(policy in side.values.get(setting, {}) for side in (*lefts, *rights))
        ]
        if common:
            real_runs = {policy: [left.values[setting][policy] for left in lefts] for policy in common}
            ours = {policy: _mean([right.values[setting][policy] for right in rights]) for policy in common}
            loads.append(_load(setting, real_runs, ours, baseline))
    if not loads:
        paths = " and ".join(str(each.path) for each in (*replays, *simulations))
        raise InputError(f"{paths}: no policy and load in common")
    everywhere = list(dict.fromkeys(policy for load in loads for policy in load["policies"]))
    result: dict[str, Any] = {
        "baseline": baseline,
        "replays": len(replays),
        "policies": {policy: _over_loads(policy, loads) for policy in everywhere},
        "speedup_error": {policy: _worst(policy, loads) for policy in everywhere},
        "order_tau": _least(loads, "order_tau"),
        "order_tau_distinct": _least(loads, "order_tau_distinct"),
        "loads": loads,
    }
    return {**result, "verdict": verdict(result, tolerance or Tolerance())}


def _load(
    setting: Setting, real: Mapping[str, list[Values]], simulated: Mapping[str, Values], baseline: str
) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for policy, runs in real.items():
        pairs = {
            name: _pair([run[name] for run in runs], simulated[policy][name])
            for name in (*METRICS, *COMPONENTS)
        }
        rows[policy] = {
            "metrics": {name: pairs[name] for name in METRICS},
            "components": {name: pairs[name] for name in COMPONENTS},
            "speedup": None,
            "speedup_error": None,
        }
        if baseline in real:
            theirs = [run[SPEEDUP_METRIC] for run in runs]
            over = [run[SPEEDUP_METRIC] for run in real[baseline]]
            ours = simulated[baseline][SPEEDUP_METRIC] / simulated[policy][SPEEDUP_METRIC]
            ratios = [base / run for base, run in zip(over, theirs, strict=True)]
            # of the means, as on the simulated side; a mean of the runs' ratios would be another number
            rows[policy]["speedup"] = _pair(ratios, ours, float(np.mean(over) / np.mean(theirs)))
            rows[policy]["speedup_error"] = rows[policy]["speedup"]["relative_error"]
    return {
        "workload": setting[0],
        "request_rate": setting[1],
        "policies": rows,
        **_order({policy: [run[SPEEDUP_METRIC] for run in runs] for policy, runs in real.items()}, simulated),
    }


def _order(real: Mapping[str, list[float]], simulated: Mapping[str, Values]) -> dict[str, Any]:
    """The order of the policies, best first; two whose real runs overlap are tied in reality, and of one run
    nobody knows."""
    policies = list(real)
    means = {policy: float(np.mean(runs)) for policy, runs in real.items()}
    ours = {policy: simulated[policy][SPEEDUP_METRIC] for policy in policies}
    tau = kendall_tau([means[policy] for policy in policies], [ours[policy] for policy in policies])
    tied, agree, reversed_, swapped = [], 0, [], []
    for pair in combinations(policies, 2):
        better, worse = sorted(pair, key=means.__getitem__)
        if means[better] < means[worse] and ours[better] > ours[worse]:
            swapped.append([better, worse])
        if len(real[better]) == 1:
            continue  # one run can't say whether the next one would be in this order
        if max(real[better]) >= min(real[worse]):
            tied.append([better, worse])
        elif ours[better] < ours[worse]:
            agree += 1
        else:
            reversed_.append([better, worse])
    distinct = agree + len(reversed_)
    return {
        "order_real": sorted(policies, key=means.__getitem__),
        "order_simulated": sorted(policies, key=ours.__getitem__),
        "order_tau": None if math.isnan(tau) else tau,
        "order_tau_distinct": (agree - len(reversed_)) / distinct if distinct else None,
        "order_distinct": distinct,
        "order_tied": tied,
        "order_reversed": reversed_,
        "order_swapped": swapped,
    }


def _over_loads(policy: str, loads: list[dict[str, Any]]) -> dict[str, Any]:
    """A policy's metrics, averaged over the loads at which both sides have it."""
    rows = [load["policies"][policy]["metrics"] for load in loads if policy in load["policies"]]
    return {
        name: _pair(
            np.mean([row[name]["runs"] for row in rows], axis=0).tolist(),
            float(np.mean([row[name]["simulated"] for row in rows])),
        )
        for name in METRICS
    }


def _worst(policy: str, loads: list[dict[str, Any]]) -> float | None:
    """The speed-up error that is largest in absolute value."""
    errors = [load["policies"][policy]["speedup_error"] for load in loads if policy in load["policies"]]
    known = [error for error in errors if error is not None]
    return max(known, key=abs) if known else None


def _least(loads: list[dict[str, Any]], key: str) -> float | None:
    known = [load[key] for load in loads if load[key] is not None]
    return min(known) if known else None


def _pair(runs: list[float], simulated: float, real: float | None = None) -> dict[str, Any]:
    """`real` is the runs' mean if it is not given."""
    if real is None:
        real = float(np.mean(runs))
    error = simulated / real - 1 if real else (math.inf if simulated else 0.0)
    spread = None
    if len(runs) > 1:
        spread = (max(runs) - min(runs)) / real if real else 0.0
    return {"real": real, "simulated": simulated, "relative_error": error, "spread": spread, "runs": runs}


def _metrics(results: Results, cell: str, gaps: Mapping[str, float]) -> Values:
    """`METRICS` of the whole run, whatever window its summary is of; NaN where nobody knows."""
    values = measure(Requests.of_table(cell_table(results, cell)))
    latency = cell_requests(results, cell)["latency_per_token"]
    values["median_latency_per_token_ms"] = float(np.median(latency)) * 1e3
    return {name: gaps.get(name, values.get(name, math.nan)) for name in METRICS}


def _itl(path: Path) -> dict[str, dict[str, float]]:
    """Cell -> metrics of the gaps between tokens, which requests don't hold: from the summary, as far as
    there is one."""
    try:
        rows = json.loads((path / "summary.json").read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError):
        try:
            with (path / "summary.csv").open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        except (OSError, ValueError, csv.Error):
            return {}
    names = [name for name in METRICS if name.endswith("_itl_ms")]
    return {
        row["cell"]: {name: float(row[name]) for name in names if row.get(name) not in (None, "")}
        for row in rows
    }


def _mean(runs: list[Values]) -> Values:
    return {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}


def _rate(value: Any) -> float | None:
    return None if value is None else float(value)
