"""Which arm is better, on which metric, at which load, by how much, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simsched.compare.arms import find_arm, json_load
from simsched.compare.compared import Compared, Row
from simsched.compare.notes import comparison_notes, failed_notes, gap_notes
from simsched.compare.samples import Samples, choose_metrics, samples_of
from simsched.compare.statistics import adjusted
from simsched.compare.text import comparison_text
from simsched.compare.verdict import verdict
from simsched.results import Results


class Comparison(Compared):
    """Every arm of a results directory against one of them; and in words."""

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON: arms are the options that were chosen."""
        arms = self.samples.arms
        return {
            "baseline": arms[self.baseline],
            "arms": list(arms.values()),
            "runs": self.runs,
            "highest_load": json_load(self.loads[self.samples.highest()]),
            "best": self.best_by_metric(self.samples.highest()),
            "loads": [
                {
                    "load": json_load(load),
                    "best": self.best_by_metric(i),
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

    def to_table(self) -> str:
        """Everything, as text."""
        return comparison_text(self)


def compare(
    results: Results | str | Path,
    baseline: str | None = None,
    *,
    metrics: Sequence[str] | None = None,
    bounds: Mapping[str, Mapping[str, float]] | None = None,
    where: Mapping[str, Any] | None = None,
) -> Comparison:
    """Every arm against the baseline, on each metric and load, over runs of the same seeds.

    Args:
        results: a finished results directory, or its path.
        baseline: an arm of it, such as `fcfs` or `fcfs,max_num_seqs=256` (`simsched.compare.arms.find_arm`).
        metrics: columns of the summary; None: `DEFAULT_METRICS`.
        bounds: cell -> metric -> least possible value (`simsched.compare.lower_bound.bounds_of_results`).
        where: options to hold fixed.

    Raises:
        InputError: the baseline or a metric is not there.
    """
    if isinstance(results, str | Path):
        results = Results.open(results)
    samples = samples_of(results, where=where)
    name = find_arm(samples.arms, baseline)
    chosen = choose_metrics(results.summary, metrics)
    rows = []
    for metric in chosen:
        for load in range(len(samples.loads)):
            rows += _rows(samples, metric, load, name, bounds or {})
    runs = max((len(each) for each in samples.values.values()), default=0)
    return Comparison(
        name,
        samples,
        chosen,
        rows,
        runs,
        [*failed_notes(results), *gap_notes(results, chosen), *comparison_notes(samples, rows, runs)],
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
