"""Predictions that come with the trace."""

from __future__ import annotations

from dataclasses import dataclass

from simsched.errors import InputError
from simsched.policies.base import Reads
from simsched.predictors.base import Buckets, Predictor, register
from simsched.workload.trace import Trace


@register("trace")
@dataclass(frozen=True)
class Given(Predictor):
    """Takes the trace's own column as it is."""

    about = "the column that comes with the trace"

    def fill(
        self, trace: Trace, column: Reads, buckets: Buckets, *, seed: int, tau: float | None = None
    ) -> tuple[Trace, str]:
        if getattr(trace, column) is None:
            raise InputError(f"--predictor trace: {trace.name} has no column {column}")
        return trace, f"{column} as given in the trace"
