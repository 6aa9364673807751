"""How far a simulation is from a replay of the same study: times, their parts, and the order of policies.

All errors are signed: (simulated - real) / real. Runs of one setting are averaged first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simsched.compare.statistics import kendall_tau
from simsched.errors import InputError
from simsched.results import Results
from simsched.workload.trace import FloatArray
from validate.components import COMPONENTS, components

Setting = tuple[str, float | None]
"""Workload and request rate."""

LATENCIES = ("ttft", "tpot", "e2el", "latency_per_token")
STATISTICS = ("mean", "median", "p90", "p99")
METRICS = tuple(f"{statistic}_{name}_ms" for name in (*LATENCIES, "itl") for statistic in STATISTICS)
SPEEDUP_METRIC = "mean_latency_per_token_ms"
"""The paper's metric: speed-ups and orders are by it."""

Values = dict[str, float]


@dataclass(frozen=True)
class Tolerance:
    """What counts as faithful."""

    mean_latency: float = 0.05
    """Of the mean latency per token."""
    p99_latency: float = 0.10
    """Of its 99th percentile."""
    speedup: float = 0.05
    """Of a policy's speed-up over the baseline."""


@dataclass
class Side:
    """One results directory: setting -> policy -> values, averaged over runs."""

    metrics: dict[Setting, dict[str, Values]] = field(default_factory=dict)
    components: dict[Setting, dict[str, Values]] = field(default_factory=dict)


def read_side(results: Results) -> Side:
    """All cells of a results directory, with their metrics and components."""
    runs_of: dict[tuple[Setting, str], list[tuple[Values, Values]]] = {}
    summary = {row["cell"]: row for row in results.summary.to_dicts()}
    for cell, options in results.cells.items():
        values = _metrics(results, cell, summary[cell])
        setting = (str(options["workload"]), _rate(options["request_rate"]))
        key = (setting, str(options["policy"]))
        runs_of.setdefault(key, []).append((values, components(results, cell)))
    side = Side()
    for (setting, policy), runs in runs_of.items():
        side.metrics.setdefault(setting, {})[policy] = _mean([values for values, _ in runs])
        side.components.setdefault(setting, {})[policy] = _mean([parts for _, parts in runs])
    return side


def compare_results(
    real: Results, simulated: Results, *, baseline: str = "fcfs", tolerance: Tolerance | None = None
) -> dict[str, Any]:
    """Everything that `--json` writes; see docs/fidelity.md for its keys.

    Raises:
        InputError: the two have no policy and load in common, or the baseline is missing.
    """
    tolerance = tolerance or Tolerance()
    left, right = read_side(real), read_side(simulated)
    loads = []
    for setting, policies in left.metrics.items():
        common = [policy for policy in policies if policy in right.metrics.get(setting, {})]
        if common:
            loads.append(_load(setting, common, left, right, baseline))
    if not loads:
        raise InputError(f"{real.path} and {simulated.path}: no policy and load in common")
    everywhere = list(dict.fromkeys(policy for load in loads for policy in load["policies"]))
    taus = [load["order_tau"] for load in loads if load["order_tau"] is not None]
    result: dict[str, Any] = {
        "baseline": baseline,
        "policies": {policy: _over_loads(policy, loads) for policy in everywhere},
        "speedup_error": {policy: _worst(policy, loads) for policy in everywhere},
        "order_tau": min(taus) if taus else None,
        "loads": loads,
    }
    return {**result, "verdict": verdict(result, tolerance)}


def verdict(result: Mapping[str, Any], tolerance: Tolerance) -> dict[str, Any]:
    """Is every load of every policy within tolerance, and the order of the policies the same?"""
    checks = {
        "mean_latency_per_token_ms": tolerance.mean_latency,
        "p99_latency_per_token_ms": tolerance.p99_latency,
    }
    failures = []
    for load in result["loads"]:
        where = f"{load['workload']} at {_text(load['request_rate'])}"
        for policy, values in load["policies"].items():
            for metric, limit in checks.items():
                error = values["metrics"][metric]["relative_error"]
                if not abs(error) <= limit:
                    failures.append(f"{where}, {policy}: {metric} {error:+.1%} (limit {limit:.0%})")
            error = values["speedup_error"]
            if error is not None and not abs(error) <= tolerance.speedup:
                failures.append(f"{where}, {policy}: speed-up {error:+.1%} (limit {tolerance.speedup:.0%})")
        if load["order_tau"] is not None and load["order_tau"] < 1:
            failures.append(
                f"{where}: order {' < '.join(load['order_real'])} is simulated as "
                f"{' < '.join(load['order_simulated'])}"
            )
    limits = {"mean_latency": tolerance.mean_latency, "p99_latency": tolerance.p99_latency}
    return {
        "within_tolerance": not failures,
        "tolerance": {**limits, "speedup": tolerance.speedup},
        "failures": failures,
    }


def _load(setting: Setting, policies: list[str], left: Side, right: Side, baseline: str) -> dict[str, Any]:
    real, simulated = left.metrics[setting], right.metrics[setting]
    rows: dict[str, Any] = {}
    for policy in policies:
        rows[policy] = {
            "metrics": {name: _pair(real[policy][name], simulated[policy][name]) for name in METRICS},
            "components": {
                name: _pair(left.components[setting][policy][name], right.components[setting][policy][name])
                for name in COMPONENTS
            },
            "speedup": None,
            "speedup_error": None,
        }
        if baseline in policies:
            ours = simulated[baseline][SPEEDUP_METRIC] / simulated[policy][SPEEDUP_METRIC]
            theirs = real[baseline][SPEEDUP_METRIC] / real[policy][SPEEDUP_METRIC]
            rows[policy]["speedup"] = {"real": theirs, "simulated": ours}
            rows[policy]["speedup_error"] = ours / theirs - 1
    by_real = [real[policy][SPEEDUP_METRIC] for policy in policies]
    by_simulated = [simulated[policy][SPEEDUP_METRIC] for policy in policies]
    tau = kendall_tau(by_real, by_simulated)
    return {
        "workload": setting[0],
        "request_rate": setting[1],
        "policies": rows,
        "order_real": sorted(policies, key=lambda policy: real[policy][SPEEDUP_METRIC]),
        "order_simulated": sorted(policies, key=lambda policy: simulated[policy][SPEEDUP_METRIC]),
        "order_tau": None if math.isnan(tau) else tau,
    }


def _over_loads(policy: str, loads: list[dict[str, Any]]) -> dict[str, Any]:
    """A policy's metrics, averaged over the loads at which both sides have it."""
    rows = [load["policies"][policy]["metrics"] for load in loads if policy in load["policies"]]
    return {
        name: _pair(
            float(np.mean([row[name]["real"] for row in rows])),
            float(np.mean([row[name]["simulated"] for row in rows])),
        )
        for name in METRICS
    }


def _worst(policy: str, loads: list[dict[str, Any]]) -> float | None:
    """The speed-up error that is largest in absolute value."""
    errors = [load["policies"][policy]["speedup_error"] for load in loads if policy in load["policies"]]
    known = [error for error in errors if error is not None]
    return max(known, key=abs) if known else None


def _pair(real: float, simulated: float) -> dict[str, float]:
    error = simulated / real - 1 if real else (math.inf if simulated else 0.0)
    return {"real": real, "simulated": simulated, "relative_error": error}


def _metrics(results: Results, cell: str, row: Mapping[str, Any]) -> Values:
    from simsched.metrics import METRICS as SUMMARISED

    table = cell_requests(results, cell)
    values: Values = {
        name: float(row[name]) for name in METRICS if name in SUMMARISED and row[name] is not None
    }
    latency = table["latency_per_token"]
    values["median_latency_per_token_ms"] = float(np.median(latency)) * 1e3
    return {name: values.get(name, math.nan) for name in METRICS}


def cell_requests(results: Results, cell: str) -> dict[str, FloatArray]:
    """Seconds per finished request of a cell: `ttft`, `e2el`, `latency_per_token`, `queueing`."""
    import polars as pl

    options = results.cells[cell]
    table = results.requests
    for name, value in options.items():
        table = table.filter(pl.col(name).is_null() if value is None else pl.col(name) == value)
    table = table.filter(pl.col("finish_time").is_not_null())
    arrival = table["arrival_time"].to_numpy()
    e2el = table["finish_time"].to_numpy() - arrival
    return {
        "ttft": table["first_token_time"].to_numpy() - arrival,
        "e2el": e2el,
        "latency_per_token": e2el / table["num_output_tokens"].to_numpy(),
        "queueing": table["first_scheduled_time"].to_numpy() - arrival,
    }


def _mean(runs: list[Values]) -> Values:
    return {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}


def _rate(value: Any) -> float | None:
    return None if value is None else float(value)


def _text(rate: float | None) -> str:
    return "its own rate" if rate is None else f"{rate:g} req/s"
