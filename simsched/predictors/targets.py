"""From output lengths to what each loss is asked to learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from simsched.errors import InputError
from simsched.predictors.base import LEVELS, Buckets
from simsched.predictors.losses import (
    STUDENT_NU,
    Loss,
    cross_entropy,
    listmle,
    log_t,
    pairwise,
    pinball,
    squared,
)
from simsched.text.specs import check_parameters, number, parse_spec
from simsched.workload.trace import FloatArray, IntArray

LossName = Literal["listmle", "pairwise", "regression", "percentile", "classification", "quantile", "log-t"]
LIST_BUCKET = 10  # tokens: the paper ranks lengths in buckets of 10 (Fu et al., 2024)


@dataclass(frozen=True)
class Objective:
    """A loss with the targets it reads, made from the training split's lengths.

    `targets` maps lengths to targets; `num_outputs` is how many numbers the model gives a prompt;
    `bounds` are the class limits (see `Buckets.upper_bounds`), used by every model to write a class.
    """

    name: LossName
    loss: Loss
    bounds: IntArray
    mean: float
    spread: float
    reference: FloatArray
    """The sorted lengths (percentile)."""
    base: FloatArray
    """Quantiles at `LEVELS` levels: of the standardised log lengths, on top of which a prompt's are learned
    (quantile), or of Student's t, which a prompt's location and scale move and stretch (log-t)."""

    @property
    def num_outputs(self) -> int:
        if self.name == "quantile":
            return LEVELS
        if self.name == "log-t":
            return 2
        return len(self.bounds) + 1 if self.name == "classification" else 1

    def targets(self, lengths: FloatArray) -> FloatArray:
        """Shape (n,): list labels, standardised log lengths or percentiles, or classes."""
        if self.name == "listmle":
            return np.floor(lengths / LIST_BUCKET)
        if self.name == "pairwise":
            return lengths
        if self.name == "classification":
            return np.searchsorted(self.bounds, np.rint(lengths), side="left").astype(np.float64)
        if self.name in ("regression", "quantile", "log-t"):
            return (np.log(lengths) - self.mean) / self.spread
        below = np.searchsorted(self.reference, lengths, side="left")
        upto = np.searchsorted(self.reference, lengths, side="right")
        share: FloatArray = (below + upto) / (2 * len(self.reference))
        return (share - 0.5) * 12**0.5  # unit variance, as the log lengths have


def make_objective(name: LossName, buckets: Buckets, lengths: FloatArray) -> Objective:
    """The objective of a training split's lengths (tokens, shape (n,)).

    Raises:
        InputError: all lengths are the same, or (classification) fall into one class.
    """
    if len(np.unique(lengths)) < 2:
        raise InputError("--data: every output length is the same; there is no order to learn")
    bounds = buckets.upper_bounds(np.rint(lengths).astype(np.int64))
    if name == "classification" and len(bounds) == 0:
        raise InputError(
            f"--buckets: {buckets} put every output length (at most {lengths.max():.0f}) into one class; "
            "expected narrower ones"
        )
    losses: dict[LossName, Loss] = {
        "listmle": listmle,
        "pairwise": pairwise,
        "regression": squared,
        "percentile": squared,
        "classification": cross_entropy,
        "quantile": lambda outputs, targets: pinball(outputs + base, targets),
        "log-t": log_t,
    }
    logs = np.log(lengths)
    mean, spread = float(logs.mean()), float(logs.std())
    levels = (np.arange(LEVELS) + 0.5) / LEVELS
    base = student_quantiles(levels) if name == "log-t" else np.quantile((logs - mean) / spread, levels)
    return Objective(name, losses[name], bounds, mean, spread, np.sort(lengths), base)


def student_quantiles(levels: FloatArray) -> FloatArray:
    """Of Student's t with `STUDENT_NU` degrees of freedom."""
    from scipy.stats import t

    found: FloatArray = t.ppf(levels, STUDENT_NU)
    return found


def parse_buckets(text: str) -> Buckets:
    """`fixed(width=820)` or `percentile(count=10)`.

    Raises:
        InputError: anything else.
    """
    name, values = parse_spec(text, "--buckets")
    if name == "fixed":
        check_parameters("--buckets", name, values, ("width",))
        return Buckets("fixed", width=int(number("--buckets", name, "width", values.get("width", 820), 1)))
    if name == "percentile":
        check_parameters("--buckets", name, values, ("count",))
        count = number("--buckets", name, "count", values.get("count", 10), 2, 10_000)
        return Buckets("percentile", count=int(count))
    raise InputError(f"--buckets {text}: expected fixed(width=TOKENS) or percentile(count=N)")
