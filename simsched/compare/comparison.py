"""Which arm is better, on which metric, at which load, by how much, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simsched.compare.arms import Arm, Load, find_arm, json_load
from simsched.compare.best import Best, best_arm
from simsched.compare.notes import any_tested, comparison_notes, failed_notes
from simsched.compare.samples import Samples, choose_metrics, samples_of
from simsched.compare.statistics import LEVEL, Ratio, adjusted, kendall_tau
from simsched.compare.text import comparison_text
from simsched.compare.verdict import verdict
from simsched.text.labels import higher_is_better

if TYPE_CHECKING:
    from simsched.results import Results


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
class Comparison:
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
        reference = self.metrics[0]
        found = {}
        for load in range(len(self.loads)):
            for metric in self.metrics:
                pairs = [
                    (self.samples.mean(load, arm, reference), self.samples.mean(load, arm, metric))
                    for arm in self.arms
                ]
                known = [(x, y) for x, y in pairs if x is not None and y is not None]
                sign = -1 if higher_is_better(metric) != higher_is_better(reference) else 1
                tau = sign * kendall_tau([x for x, _ in known], [y for _, y in known])
                found[load, metric] = tau or 0.0  # of the two zeros, the one without a sign
        return found

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON: arms are the options that were chosen."""
        arms = self.samples.arms
        return {
            "baseline": arms[self.baseline],
            "arms": list(arms.values()),
            "runs": self.runs,
            "highest_load": json_load(self.loads[self.samples.highest()]),
            "best": self._best(self.samples.highest()),
            "loads": [
                {
                    "load": json_load(load),
                    "best": self._best(i),
                    "steady": {arm: self.samples.steady(i, arm) for arm in arms},
                    "growth": {arm: self.samples.mean(i, arm, "growth") for arm in arms},
                }
                for i, load in enumerate(self.loads)
            ],
            "rows": [row.to_dict(arms[row.arm]) for row in self.rows],
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

    def best(self, metric: str, load: int | None) -> Best | None:
        """The best arm on a metric at a load (None: over all loads), and how surely; None: nothing to say."""
        return best_arm(self.samples, self.baseline, metric, load)

    def _best(self, load: int) -> dict[str, Any]:
        found = {metric: self.best(metric, load) for metric in self.metrics}
        return {metric: best.to_dict(self.samples.arms) for metric, best in found.items() if best}

    def to_table(self) -> str:
        """Everything, as text."""
        return comparison_text(self)


def compare(
    results: Results,
    baseline: str | None = None,
    *,
    metrics: Sequence[str] | None = None,
    bounds: Mapping[str, Mapping[str, float]] | None = None,
    where: Mapping[str, Any] | None = None,
) -> Comparison:
    """Every arm against the baseline, on each metric and load, over runs of the same seeds.

    Args:
        results: a finished results directory.
        baseline: an arm of it, such as `fcfs` or `fcfs,max_num_seqs=256` (`simsched.compare.arms.find_arm`).
        metrics: columns of the summary; None: `DEFAULT_METRICS`.
        bounds: cell -> metric -> least possible value (`simsched.compare.lower_bound.bounds_of_results`).
        where: options to hold fixed.

    Raises:
        InputError: the baseline or a metric is not there.
    """
    samples = samples_of(results, where=where)
    name = find_arm(samples.arms, baseline)
    chosen = choose_metrics(results.summary, metrics)
    rows = []
    for metric in chosen:
        for load in range(len(samples.loads)):
            rows += _rows(samples, metric, load, name, bounds or {})
    runs = max((len(each) for each in samples.values.values()), default=0)
    return Comparison(
        name, samples, chosen, rows, runs, [*failed_notes(results), *comparison_notes(samples, rows, runs)]
    )


def _rows(
    samples: Samples, metric: str, load: int, baseline: str, bounds: Mapping[str, Mapping[str, float]]
) -> list[Row]:
    others = [arm for arm in samples.arms if arm != baseline]
    ratios = {arm: samples.ratio(load, arm, baseline, metric) for arm in others}
    p_values = adjusted(ratios)
    rows = []
    for arm in samples.arms:
        cells = samples.cells.get((load, arm))
        if not cells:
            continue  # arms of which a directory holds some loads alone
        least = [bounds.get(cell, {}).get(metric) for cell in cells]
        known = [each for each in least if each is not None]
        # a mean over some of the requests has no bound that is one over all
        is_bounded = known and len(known) == len(least) and not samples.unfinished(load, arm)
        rows.append(
            Row(
                metric=metric,
                load=samples.loads[load],
                arm=arm,
                value=samples.mean(load, arm, metric),
                ratio=ratios.get(arm),
                p_holm=p_values.get(arm),
                unfinished=samples.unfinished(load, arm),
                bound=sum(known) / len(known) if is_bounded else None,
                steady=samples.steady(load, arm),
                growth=samples.mean(load, arm, "growth"),
                growing=samples.growing(load, arm),
            )
        )
    return rows
