"""Is a comparison within tolerance? Every check that is not is listed, also where noise may be why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Tolerance:
    """What counts as faithful."""

    mean_latency: float = 0.05
    """Of the mean latency per token."""
    p99_latency: float = 0.10
    """Of its 99th percentile."""
    speedup: float = 0.05
    """Of a policy's speed-up over the baseline."""


def verdict(result: Mapping[str, Any], tolerance: Tolerance) -> dict[str, Any]:
    """Is every load of every policy within tolerance, and policies whose real runs differ in their order?

    `failures` are all that are not. `beyond_spread` are those of them that are also larger than the spread
    of the real runs: what is not among them, another replay on the same machine might have shown as well.
    """
    checks = {
        "mean_latency_per_token_ms": tolerance.mean_latency,
        "p99_latency_per_token_ms": tolerance.p99_latency,
    }
    checked = 0
    failures: list[str] = []
    beyond: list[str] = []

    def check(where: str, name: str, pair: Mapping[str, Any], limit: float) -> None:
        nonlocal checked
        checked += 1
        error, spread = pair["relative_error"], pair["spread"]
        if not abs(error) <= limit:
            known = "" if spread is None else f"; real runs differ by {spread:.1%}"
            failures.append(f"{where}: {name} {error:+.1%} (limit {limit:.0%}{known})")
            if spread is None or not abs(error) <= spread:
                beyond.append(failures[-1])

    for load in result["loads"]:
        where = f"{load['workload']} at {rate_text(load['request_rate'])}"
        for policy, row in load["policies"].items():
            for metric, limit in checks.items():
                check(f"{where}, {policy}", metric, row["metrics"][metric], limit)
            if row["speedup"] is not None and policy != result["baseline"]:
                check(f"{where}, {policy}", "speed-up", row["speedup"], tolerance.speedup)
        checked += load["order_distinct"] > 0
        if load["order_reversed"]:
            failures.append(
                f"{where}: order {' < '.join(load['order_real'])} is simulated as "
                f"{' < '.join(load['order_simulated'])}"
            )
            beyond.append(failures[-1])
    limits = {"mean_latency": tolerance.mean_latency, "p99_latency": tolerance.p99_latency}
    return {
        "within_tolerance": not failures,
        "within_spread": not beyond,
        "tolerance": {**limits, "speedup": tolerance.speedup},
        "checks": checked,
        "failures": failures,
        "beyond_spread": beyond,
    }


def rate_text(rate: float | None) -> str:
    """A load's rate for people."""
    return "its own rate" if rate is None else f"{rate:g} req/s"
