"""Which policy is better, on which metric, at which load, by how much, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simsched.compare.notes import any_tested, comparison_notes
from simsched.compare.samples import Load, Samples, choose_metrics, find_policy, json_load, samples_of
from simsched.compare.statistics import LEVEL, Ratio, adjusted, kendall_tau
from simsched.compare.text import comparison_text
from simsched.compare.verdict import verdict
from simsched.text.labels import higher_is_better

if TYPE_CHECKING:
    from simsched.results import Results


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
    def tested(self) -> bool:
        """Is there anything with an interval? Not with one run, nor with runs that repeat one another."""
        return any_tested(self.rows)

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
                tau = sign * kendall_tau([x for x, _ in known], [y for _, y in known])
                found[load, metric] = tau or 0.0  # of the two zeros, the one without a sign
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
        return comparison_text(self)


def compare(
    results: Results,
    baseline: str | None = None,
    *,
    metrics: Sequence[str] | None = None,
    bounds: Mapping[str, Mapping[str, float]] | None = None,
) -> Comparison:
    """Each policy against the baseline, on each metric and load, over runs of the same seeds.

    Args:
        results: a finished results directory.
        baseline: a policy of it, by its full specification, or by its name where that is unambiguous; None:
            fcfs, or where that is absent the first of the grid.
        metrics: columns of the summary; None: `DEFAULT_METRICS`.
        bounds: cell -> metric -> least possible value (`simsched.compare.best_possible.bounds_of_results`).

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
    return Comparison(name, samples, chosen, rows, runs, comparison_notes(samples, rows, runs))


def _rows(
    samples: Samples, metric: str, load: int, baseline: str, bounds: Mapping[str, Mapping[str, float]]
) -> list[Row]:
    others = [policy for policy in samples.policies if policy != baseline]
    ratios = {policy: samples.ratio(load, policy, baseline, metric) for policy in others}
    p_values = adjusted(ratios)
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
                p_holm=p_values.get(policy),
                unfinished=samples.unfinished(load, policy),
                bound=sum(known) / len(known) if known and len(known) == len(least) else None,
            )
        )
    return rows
