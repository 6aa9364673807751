"""Predictions that come with the trace; a score becomes a length by the quantiles of a ranker's own data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simsched.errors import InputError
from simsched.policies.base import Reads
from simsched.predictors.base import Buckets, Predictor, register
from simsched.workload.trace import FloatArray, Trace


@register("trace")
@dataclass(frozen=True)
class Given(Predictor):
    """Takes the trace's own column as it is."""

    lengths: str | None = None
    """A file of the data that the scores' ranker was trained or held out on, with `score` and
    `output_length`, where lengths are wanted and the trace has scores."""

    about = "the column that comes with the trace; trace(lengths=FILE): its scores as lengths"

    @property
    def files(self) -> tuple[str, ...]:
        return () if self.lengths is None else (self.lengths,)

    def fill(
        self, trace: Trace, column: Reads, buckets: Buckets, *, seed: int, tau: float | None = None
    ) -> tuple[Trace, str]:
        if getattr(trace, column) is not None:
            return trace, f"{column} as given in the trace"
        if column != "predicted_length" or trace.score is None:
            raise InputError(f"--predictor trace: {trace.name} has no column {column}")
        if self.lengths is None:
            raise InputError(
                f"--predictor trace: {trace.name} has no column predicted_length, and its scores are no "
                'lengths; expected "trace(lengths=FILE)", with score and output_length of the ranker\'s data'
            )
        scores, lengths = _ranked(self.lengths)
        filled = trace.with_columns(predicted_length=lengths_of(trace.score, scores, lengths))
        return filled, f"predicted_length from the trace's scores, by the quantiles of {self.lengths}"


def lengths_of(scores: FloatArray, known_scores: FloatArray, known_lengths: FloatArray) -> FloatArray:
    """(n,) lengths of scores: the length at the quantile, among m known lengths, that the score has among
    the m known scores. Equal scores share the middle of their quantiles; between two it is interpolated.

    Args:
        scores: (n,), lower = shorter.
        known_scores, known_lengths: (m,) each, rising; of the same requests, but each sorted by itself.
    """
    m = len(known_scores)
    below = np.searchsorted(known_scores, scores, side="left")
    up_to = np.searchsorted(known_scores, scores, side="right")
    # a score between two known ones stands between their quantiles
    quantile = (below + up_to) / (2 * m)
    found: FloatArray = np.interp(quantile, (np.arange(m) + 0.5) / m, known_lengths)
    return found


def _ranked(path: str) -> tuple[FloatArray, FloatArray]:
    """The scores and the lengths of a file, each rising."""
    from simsched.workload.formats import load_trace

    trace, _ = load_trace(Path(path))
    if trace.score is None:
        raise InputError(f"--predictor trace(lengths={path}): it has no column score")
    return np.sort(trace.score), np.sort(trace.num_output_tokens).astype(np.float64)
