"""The best arm on a metric, and which others cannot be told from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simsched.compare.arms import Arm
from simsched.compare.samples import Samples
from simsched.compare.statistics import LEVEL, Ratio, adjusted
from simsched.text.labels import higher_is_better


@dataclass(frozen=True)
class Best:
    """Who is best on a metric; arms are named."""

    arm: str
    value: float | None
    """Its mean over runs at the load; None: over several loads."""
    order: list[str]
    """All arms that could win, best first."""
    to_baseline: Ratio | None
    """Its ratio to the baseline; None if it is the baseline, or a value is 0."""
    next_ratio: Ratio | None
    """Its ratio to the next of the order; None where there is none."""
    significant: bool
    """Does it differ from the baseline (if it is the baseline: from the next) after Holm's correction?"""
    tied: dict[str, str] = field(default_factory=dict)
    """Other arm -> why it is not told from the best: one of `IDENTICAL, UNSURE, CLOSE`."""

    def to_dict(self, arms: Mapping[str, Arm]) -> dict[str, Any]:
        """For JSON."""
        ratio = self.to_baseline
        return {
            "arm": arms[self.arm],
            "significant": self.significant,
            "value": self.value,
            "ratio": ratio.ratio if ratio else None,
            "ci95": [ratio.low, ratio.high] if ratio and ratio.low is not None else None,
            "order": [arms[name] for name in self.order],
            "tied": [arms[name] for name in self.tied],
        }


# How two arms are told apart, or not; {runs} is how many were tested.
IDENTICAL, UNSURE, CLOSE = "identical", "no significant difference ({runs} runs)", "within 0.5 %"


def tie(ratio: Ratio, p: float | None) -> str:
    """Why two arms are not told apart; empty where they are. `p`: Holm's; None: nothing is tested."""
    if ratio.identical:
        return IDENTICAL
    if p is not None and p >= LEVEL:
        return UNSURE.format(runs=ratio.n)
    return CLOSE if ratio.close else ""


def best_arm(samples: Samples, baseline: str, metric: str, load: int | None) -> Best | None:
    """The best arm on a metric at a load, or over all loads (None; by the geometric mean of ratios).

    Arms with unfinished requests cannot win: their other numbers leave those out. An arm with a value of 0
    has no ratio, and its place by its mean. None where fewer than two arms have a value.
    """
    loads = range(len(samples.loads)) if load is None else (load,)
    whole = [arm for arm in samples.arms if not any(samples.unfinished(i, arm) for i in loads)]
    down = higher_is_better(metric)

    def ratio_to(arm: str, other: str) -> Ratio | None:
        if load is None:
            return samples.overall(arm, other, metric)
        return samples.ratio(load, arm, other, metric)

    to_baseline = {arm: ratio_to(arm, baseline) for arm in samples.arms}
    if load is None:
        places = {arm: ratio.ratio for arm in whole if (ratio := to_baseline[arm]) is not None}
    else:
        means = {arm: samples.mean(load, arm, metric) for arm in whole}
        places = {arm: mean for arm, mean in means.items() if mean is not None}
    if len(places) < 2:
        return None
    order = sorted(places, key=lambda arm: -places[arm] if down else places[arm])
    best, *others = order
    against = {arm: ratio for arm in others if (ratio := ratio_to(best, arm)) is not None}
    # a pair with the baseline is tested as in its table: together with the others' pairs with it
    of_table = adjusted({arm: ratio for arm, ratio in to_baseline.items() if arm != baseline})
    p_values = adjusted(against)
    if best == baseline:
        p_values = of_table
    elif baseline in against and best in of_table:
        p_values[baseline] = of_table[best]
    tied = {arm: how for arm, ratio in against.items() if (how := tie(ratio, p_values.get(arm)))}
    # the best of the means over runs may be worse run by run: then nothing tells the two apart
    worse = {arm for arm, ratio in against.items() if (ratio.ratio < 1) == down and not ratio.identical}
    tied |= {arm: UNSURE.format(runs=against[arm].n) for arm in worse}
    tied |= {arm: IDENTICAL for arm in others if arm not in against and places[arm] == places[best]}
    rival = others[0] if best == baseline else baseline
    return Best(
        arm=best,
        value=None if load is None else samples.mean(load, best, metric),
        order=order,
        to_baseline=None if best == baseline else to_baseline[best],
        next_ratio=against.get(others[0]),
        significant=rival not in tied and p_values.get(rival, 1.0) < LEVEL,
        tied=tied,
    )
