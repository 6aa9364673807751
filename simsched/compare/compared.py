"""What a comparison has found, as data: a row for each arm, metric and load. Its words are in `text.py`,
`notes.py` and `verdict.py`, and all of it together in `comparison.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simsched.compare.arms import Arm, Load, json_load
from simsched.compare.best import Best, best_arm
from simsched.compare.samples import Samples, rounded
from simsched.compare.statistics import LEVEL, Ratio, kendall_tau
from simsched.text.labels import higher_is_better


@dataclass(frozen=True)
class Row:
    """One arm against the baseline on one metric, at one load."""

    metric: str
    load: Load
    arm: str
    """Its name."""
    value: float | None
    """Mean over runs; None where the metric is undefined."""
    ratio: Ratio | None
    """To the baseline; None for the baseline itself, and where it is undefined (a zero, no common run)."""
    p_holm: float | None
    """P value, adjusted over the arms compared at this metric and load."""
    unfinished: int
    """Requests that never finished, summed over runs: the other numbers leave them out."""
    bound: float | None = None
    """Least possible mean on these traces, in the metric's unit (`simsched.bounds`)."""
    steady: bool | None = None
    """Were all its runs in steady state? None: not known."""
    growth: float | None = None
    """Requests/s by which its backlog grows, mean over runs."""
    growing: bool = False
    """Does it grow for sure, not only as far as can be told?"""

    @property
    def significant(self) -> bool | None:
        """Does it differ from the baseline? None with one run: cannot be said."""
        return None if self.p_holm is None else self.p_holm < LEVEL

    def to_dict(self, chosen: Arm) -> dict[str, Any]:
        """For JSON; `chosen`: the options of its arm."""
        ratio = self.ratio
        return {
            "metric": self.metric,
            **json_load(self.load),
            **chosen,
            "arm": self.arm,
            "value": self.value,
            "ratio": ratio.ratio if ratio else None,
            "ci95": [ratio.low, ratio.high] if ratio and ratio.low is not None else None,
            "p_holm": self.p_holm,
            "significant": self.significant,
            "runs": ratio.n if ratio else None,
            "unfinished": self.unfinished,
            "bound": self.bound,
            "value_over_bound": self.value / self.bound if self.value and self.bound else None,
            "steady": self.steady,
            "growth": self.growth,
        }


@dataclass(frozen=True)
class Compared:
    """Every arm of a results directory against one of them."""

    baseline: str
    """Its name."""
    samples: Samples
    metrics: list[str]
    rows: list[Row]
    """By metric, load, then arm in the order of the grid."""
    runs: int
    notes: list[str]
    """What a reader must know: no intervals, no bounds, unfinished requests."""

    @property
    def tested(self) -> bool:
        """Is there anything with an interval? Not with one run, nor with runs that repeat one another."""
        return any_tested(self.rows)

    @property
    def arms(self) -> list[str]:
        """The arms' names, in the order of the grid."""
        return self.samples.names

    @property
    def loads(self) -> list[Load]:
        return self.samples.loads

    def taus(self) -> dict[tuple[int, str], float]:
        """Kendall's tau between the order of the arms on the first metric and on each metric.

        Returns:
            (index of the load, metric) -> tau; NaN with one arm. 1: the metrics agree; -1: opposite.
        """
        found: dict[tuple[int, str], float] = {}
        if not self.metrics:  # nobody has finished anything
            return found
        reference = self.metrics[0]
        for load in range(len(self.loads)):
            for metric in self.metrics:
                pairs = [
                    (
                        rounded(self.samples.mean(load, arm, reference)),
                        rounded(self.samples.mean(load, arm, metric)),
                    )
                    for arm in self.arms
                ]
                known = [(x, y) for x, y in pairs if x is not None and y is not None]
                sign = -1 if higher_is_better(metric) != higher_is_better(reference) else 1
                tau = sign * kendall_tau([x for x, _ in known], [y for _, y in known])
                found[load, metric] = tau or 0.0  # of the two zeros, the one without a sign
        return found

    def best(self, metric: str, load: int | None) -> Best | None:
        """The best arm on a metric at a load (None: over all loads), and how surely; None: nothing to say."""
        return best_arm(self.samples, self.baseline, metric, load)

    def best_by_metric(self, load: int) -> dict[str, Any]:
        """The same on every metric, for JSON."""
        found = {metric: self.best(metric, load) for metric in self.metrics}
        return {metric: best.to_dict(self.samples.arms) for metric, best in found.items() if best}


def any_tested(rows: Sequence[Row]) -> bool:
    """Has any ratio an interval? None has with one run, or with runs that repeat one another."""
    return any(row.ratio is not None and row.ratio.low != row.ratio.high for row in rows)
