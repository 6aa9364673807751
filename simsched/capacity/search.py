"""Bisection on the request rate, over the same requests at every rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from simsched.capacity.probe import Probe, Prober
from simsched.slo import Slo

PRECISION = 0.015
"""Relative width of the interval at which a search ends."""
STEP = PRECISION
"""The first two steps of a search, relative; those that follow double. Estimates are often that good."""
LOWEST, HIGHEST = 0.02, 20.0
"""Bounds of a search, over the estimate that it starts from."""
COARSE = 0.04
"""Relative width for the rate that heals from a burst, whose runs are the dearest;"""
COARSE_STEP = 0.15
"""and its first steps: where the largest stable rate does not heal, one that does is far below."""


@dataclass(frozen=True)
class Bracket:
    """Between the largest rate that was found good and the smallest that was not (requests/s)."""

    good: float | None
    bad: float | None


def bracket(
    is_good: Callable[[float], bool], start: float, *, precision: float = PRECISION, step: float = STEP
) -> Bracket:
    """Search the largest good rate; good is supposed to be all that is below a good one."""
    lowest, highest = LOWEST * start, HIGHEST * start
    good: float | None = None
    bad: float | None = None
    rate, first = start, True
    while good is None or bad is None:
        if is_good(rate):
            good = rate
            if bad is None:
                if rate >= highest:
                    break
                rate = min(rate * (1 + step), highest)
        else:
            bad = rate
            if good is None:
                if rate <= lowest:
                    break
                rate = max(rate / (1 + step), lowest)
        step, first = step if first else 2 * step, False
    while good is not None and bad is not None and bad > (1 + precision) * good:
        middle = (good * bad) ** 0.5
        if is_good(middle):
            good = middle
        else:
            bad = middle
    return Bracket(good, bad)


@dataclass(frozen=True)
class Found:
    """The rates of one arm, in requests/s; None where there is none, and why."""

    stable: Bracket
    recovers: Bracket
    slo: Bracket
    slo_by: dict[str, Bracket] = field(default_factory=dict)
    """Group of requests -> its own."""
    probes: list[Probe] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    """`stable`, `recovers` or `slo` -> why there is no such rate; `refused` -> how many requests are."""


def find_rates(prober: Prober, estimate: float, *, burst: int, slo: Slo | None = None) -> Found:
    """The rates of an arm, searched from an estimate of its capacity (requests/s).

    Args:
        prober: of the arm.
        estimate: where the search begins.
        burst: requests that are there at the start where healing is asked for; 0: it is not.
        slo: the prober's objective; None: it is not asked for.
    """
    reasons: dict[str, str] = {}
    stable = bracket(lambda rate: prober.probe(rate).steady, estimate)
    none = Bracket(None, None)
    if stable.good is None:
        reasons["stable"] = f"not steady at any rate from {LOWEST * estimate:.3g} requests/s on"
        if refused := min((each.refused for each in prober.probes), default=0.0):
            reasons["stable"] += f": at each it refuses {refused:.2g} of the requests or more"
        return Found(stable, none, none, probes=prober.probes, reasons=dict.fromkeys(_ALL, reasons["stable"]))
    if refused := prober.probe(stable.good).refused:
        reasons["refused"] = (
            f"refuses {refused:.2g} of the requests at {stable.good:.3g} requests/s; each counts as one that "
            "waits for ever, so that rates with more of them are not stable"
        )
    recovers = none
    if burst:
        recovers = _recovers(prober, stable, burst)
        if recovers.good is None:
            reasons["recovers"] = f"a burst of {burst:,} does not drain even at {recovers.bad:.3g} requests/s"
    found, by = none, {}
    if slo is not None:
        found = _meets(prober, stable, slo, "")
        if found.good is None:
            reasons["slo"] = f"{slo.text}: not met even at {found.bad:.3g} requests/s"
        groups = sorted(prober.probe(stable.good).attained)
        by = {name: _meets(prober, stable, slo, name) for name in groups if name}
    return Found(stable, recovers, found, by, prober.probes, reasons)


_ALL = ("stable", "recovers", "slo")


def _recovers(prober: Prober, stable: Bracket, burst: int) -> Bracket:
    """No rate heals that is not stable: where the largest stable one does, it is that."""
    assert stable.good is not None
    most = stable.good
    usual = prober.probe(most).backlog
    if prober.drains(most, burst, usual):
        return stable
    return bracket(
        lambda rate: rate < most and prober.drains(rate, burst, usual),
        most,
        precision=COARSE,
        step=COARSE_STEP,
    )


def _meets(prober: Prober, stable: Bracket, slo: Slo, group: str) -> Bracket:
    """What is not steady meets nothing: what it attains depends on how long it lasts."""
    assert stable.good is not None

    def meets(rate: float) -> bool:
        if rate > (stable.good or 0.0):
            return False
        probe = prober.probe(rate)
        return group in probe.attained and slo.is_met(probe.attained[group])

    return stable if meets(stable.good) else bracket(meets, stable.good, step=2 * STEP)


@dataclass(frozen=True)
class Rate:
    """A rate over several seeds, in requests/s."""

    rate: float | None
    """The mean over seeds of the largest rate that was found good; None: not every seed has one."""
    low: float | None
    high: float | None
    """From the largest good to the smallest bad rate; with several seeds, the 95 % t-interval if wider."""


def over_seeds(found: Sequence[Bracket]) -> Rate:
    """What the brackets of several seeds say together."""
    good = [each.good for each in found if each.good is not None]
    if len(good) < len(found) or not good:
        return Rate(None, None, None)
    ends = [each.bad if each.bad is not None else each.good for each in found]
    mean = sum(good) / len(good)
    low, high = min(good), max(each for each in ends if each is not None)
    if len(good) > 1:
        from scipy.special import stdtrit

        spread = (sum((each - mean) ** 2 for each in good) / (len(good) - 1)) ** 0.5
        half = float(stdtrit(len(good) - 1, 0.975)) * spread / len(good) ** 0.5
        low, high = min(low, mean - half), max(high, mean + half)
    return Rate(mean, low, high)
