"""A paper's claim, what is measured of it, and the verdict that the numbers give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal

from simsched.compare.arms import find_arm, json_load
from simsched.compare.deciles import requests_at
from simsched.compare.lower_bound import Bounds, bounds_of_results
from simsched.compare.samples import Samples, samples_of
from simsched.compare.statistics import Ratio, paired_ratio
from simsched.reproduce.claims.measures import MEASURES, measured, vtc_bound
from simsched.results import Results

BOUND = "lower bound"
"""In place of an arm: what no policy can beat on the same requests (`simsched.bounds`)."""
VTC_BOUND = "VTC's bound"
"""Likewise: what is proved of the difference in service between tenants (`measures.vtc_bound`)."""

BLOCK_SIZE = 16
"""Tokens in a KV block of the preset."""

Verdict = Literal["holds", "holds in part", "does not hold here"]
Found = Literal["as claimed", "less", "not"]
"""Of a ratio: it reaches what is claimed, it goes that way and not so far, or it does not go that way."""


@dataclass(frozen=True)
class Check:
    """A ratio of two arms that the claim is about."""

    arm: str
    baseline: str
    metric: str
    claimed: float
    """The published ratio: below 1 where the arm is to have less, above 1 where it is to have more."""
    part: Literal["everywhere", "somewhere", "price", "beside"] = "everywhere"
    """Claimed of every load, or of some ("up to"); a price that is not exceeded at any; or no part of the
    claim, and shown beside it."""

    def found(self, ratio: Ratio | None) -> Found:
        """What a paired ratio says, by its 95 % interval."""
        if ratio is None:
            return "not"
        low = ratio.ratio if ratio.low is None else ratio.low
        high = ratio.ratio if ratio.high is None else ratio.high
        claimed = self.claimed
        if self.part == "price":
            return "as claimed" if high <= claimed else "less" if low <= claimed else "not"
        if claimed > 1:
            low, high, claimed = 1 / high, 1 / low, 1 / claimed
        if high >= 1:
            return "not"
        return "as claimed" if low <= claimed else "less"


@dataclass(frozen=True)
class Claim:
    """One line of a paper, and the study that looks for it."""

    name: str
    policies: tuple[str, ...]
    """Those that the claim is about."""
    says: str
    """The claim in one line."""
    source: str
    theirs: str
    """The paper's workload, load and engine."""
    ours: str
    """What comes closest here."""
    study: Mapping[str, Any]
    """A recipe of `simsched run`, without `trace`."""
    checks: Sequence[Check] = field(default=())
    why: str = ""
    """What is known of the reason for what was found."""
    trace: str | None = None
    """Its workload, of `traces.TRACES`, if that is none of the project's own."""


@dataclass(frozen=True)
class Measured:
    """One check at one load."""

    check: Check
    load: Mapping[str, Any]
    value: float | None
    baseline: float | None
    ratio: Ratio | None

    @property
    def found(self) -> Found:
        return self.check.found(self.ratio)

    def to_json(self) -> dict[str, Any]:
        ratio = self.ratio
        return {
            "arm": self.check.arm,
            "baseline": self.check.baseline,
            "metric": self.check.metric,
            **json_load(dict(self.load)),
            "value": self.value,
            "baseline_value": self.baseline,
            "ratio": None if ratio is None else ratio.ratio,
            "ci95": None if ratio is None or ratio.low is None else [ratio.low, ratio.high],
            "claimed": self.check.claimed,
            "claimed_of": self.check.part,
            "found": self.found,
        }


@dataclass(frozen=True)
class Judged:
    """A claim beside what was measured."""

    claim: Claim
    measured: list[Measured]

    @property
    def verdict(self) -> Verdict:
        """Holds if every check that is part of the claim is as claimed; not if none goes its way anywhere."""
        found: list[Found] = []
        for check in self.claim.checks:
            here = [each.found for each in self.measured if each.check is check]
            if check.part == "somewhere":
                found.append(min(here, key=_ORDER.index))
            elif check.part != "beside":
                found += here
        if all(each == "as claimed" for each in found):
            return "holds"
        return "does not hold here" if all(each == "not" for each in found) else "holds in part"

    def to_json(self) -> dict[str, Any]:
        claim = self.claim
        return {
            "claim": claim.name,
            "policies": list(claim.policies),
            "says": claim.says,
            "source": claim.source,
            "verdict": self.verdict,
            "why": claim.why,
            "checks": [each.to_json() for each in self.measured],
        }


_ORDER: tuple[Found, ...] = ("as claimed", "less", "not")


def judge(claim: Claim, results: Results) -> Judged:
    """Measure a claim's checks on the results of its study, paired over runs.

    Raises:
        InputError: a check names an arm that is not there.
    """
    samples = samples_of(results)
    if any(check.metric in MEASURES for check in claim.checks):
        _add_measures(samples, results, claim)
    bounds: Bounds = {}
    if any(check.baseline == BOUND for check in claim.checks):
        bounds, _ = bounds_of_results(results)
    loads = range(len(samples.loads))
    measured = [_measure(samples, check, load, bounds) for check in claim.checks for load in loads]
    return Judged(claim, measured)


def _add_measures(samples: Samples, results: Results, claim: Claim) -> None:
    """What the claim's checks measure beside the metrics of runs, of each run by its seed."""
    wanted = {check.metric for check in claim.checks} & set(MEASURES)
    for load in range(len(samples.loads)):
        requests = requests_at(results, samples, load)
        for (arm, seed), run in requests.group_by(["arm", "seed"], maintain_order=True):
            for name in wanted:
                samples.values.setdefault((load, str(arm), name), {})[seed] = measured(name, run)
            if any(check.baseline == VTC_BOUND for check in claim.checks):
                tokens = claim.study["num_gpu_blocks"] * BLOCK_SIZE
                bound = vtc_bound(run, tokens)
                samples.values.setdefault((load, str(arm), VTC_BOUND), {})[seed] = bound


def _measure(samples: Samples, check: Check, load: int, bounds: Bounds) -> Measured:
    arm = find_arm(samples.arms, check.arm, "claim")
    value = samples.mean(load, arm, check.metric)
    if check.baseline == BOUND:
        values = list(samples.values.get((load, arm, check.metric), {}).values())
        least = [bounds[cell][check.metric] for cell in samples.cells[load, arm]]
        return Measured(check, samples.loads[load], value, fmean(least), paired_ratio(values, least))
    if check.baseline == VTC_BOUND:
        found = samples.values[load, arm, check.metric]
        most = samples.values[load, arm, VTC_BOUND]
        of_bound = paired_ratio([found[run] for run in most], list(most.values()))
        return Measured(check, samples.loads[load], value, samples.mean(load, arm, VTC_BOUND), of_bound)
    baseline = find_arm(samples.arms, check.baseline, "claim")
    ratio = samples.ratio(load, arm, baseline, check.metric)
    return Measured(check, samples.loads[load], value, samples.mean(load, baseline, check.metric), ratio)
