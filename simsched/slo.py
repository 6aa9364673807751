"""Service-level objectives: what share of the requests must be how fast.

p99_ttft<500ms,p99_tpot<50ms    of each condition by itself, 99 % of the requests keep it
95% ttft<500ms,tpot<50ms        95 % of the requests keep all of them together
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simsched.errors import InputError
from simsched.metrics import BoolArray, Requests

METRICS = ("ttft", "tpot", "e2el")
_EXPECTED = 'expected such as "p99_ttft<500ms,p99_tpot<50ms" or "95% ttft<500ms,tpot<50ms"'
_SHARE = re.compile(r"\s*([\d.]+)\s*%\s*(.*)", re.DOTALL)
_CONDITION = re.compile(r"(?:p([\d.]+)_)?([a-z0-9]+)\s*<=?\s*([\d.]+)\s*(ms|s)?")


@dataclass(frozen=True)
class Condition:
    """A share of the requests keeps all of these limits."""

    share: float
    """0 to 1."""
    limits: dict[str, float]
    """One of `METRICS` -> milliseconds."""

    def attainment(self, requests: Requests, inside: BoolArray) -> float:
        """The share of the requests `inside` that keep the limits; the unfinished don't. NaN of none."""
        count = int(inside.sum())
        return int((requests.good(self.limits) & inside).sum()) / count if count else math.nan


@dataclass(frozen=True)
class Slo:
    """An objective: all of its conditions."""

    text: str
    conditions: tuple[Condition, ...]

    @property
    def limits(self) -> dict[str, float]:
        """Metric -> the strictest limit in milliseconds: what makes a request good."""
        strictest: dict[str, float] = {}
        for condition in self.conditions:
            for metric, limit in condition.limits.items():
                strictest[metric] = min(limit, strictest.get(metric, math.inf))
        return strictest

    @property
    def share(self) -> float | None:
        """The share that every condition asks for; None if they ask for several."""
        shares = {condition.share for condition in self.conditions}
        return shares.pop() if len(shares) == 1 else None

    def attainment(self, requests: Requests, window: tuple[float, float] | None = None) -> list[float]:
        """Of each condition, the share of the requests that arrive in the window and keep it."""
        start, end = window or (-math.inf, math.inf)
        inside = (requests.arrival >= start) & (requests.arrival <= end)
        return [condition.attainment(requests, inside) for condition in self.conditions]

    def is_met(self, attained: Sequence[float]) -> bool:
        """Are these shares (`attainment`) what is asked for?"""
        return all(
            np.isfinite(share) and share >= condition.share
            for share, condition in zip(attained, self.conditions, strict=True)
        )


def parse_slo(text: str, option: str = "--slo") -> Slo:
    """An objective from its text.

    Raises:
        InputError: not of one of the two forms.
    """
    joint = _SHARE.fullmatch(text)
    share = _share(joint[1], text, option) if joint else None
    conditions: list[Condition] = []
    limits: dict[str, float] = {}
    for part in (joint[2] if joint else text).split(","):
        found = _CONDITION.fullmatch(part.strip())
        if found is None or found[2] not in METRICS or (found[1] is None) != (share is not None):
            raise InputError(f"{option} {text}: {part.strip()!r}: {_EXPECTED}, of {', '.join(METRICS)}")
        limit = _positive(found[3], text, option) * (1e3 if found[4] == "s" else 1.0)
        if share is None:
            conditions.append(Condition(_share(found[1], text, option), {found[2]: limit}))
        elif found[2] in limits:
            raise InputError(f"{option} {text}: {found[2]} twice; {_EXPECTED}")
        else:
            limits[found[2]] = limit
    if share is not None:
        conditions.append(Condition(share, limits))
    return Slo(text.strip(), tuple(conditions))


def _share(percent: str, text: str, option: str) -> float:
    share = _positive(percent, text, option) / 100
    if share > 1:
        raise InputError(f"{option} {text}: {percent} %: expected at most 100")
    return share


def _positive(number: str, text: str, option: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise InputError(f"{option} {text}: {number}: expected a positive number; {_EXPECTED}")
    return value
