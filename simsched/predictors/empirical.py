"""A predictor resampled from a real joint sample of (length, class, rank score).

A request whose length lies at quantile q of its trace gets the prediction of a sample row whose length lies
near quantile q of the sample, so the real errors, wherever they sit, come along with their tau. A predicted
distribution is that of the lengths of the rows whose predictions are nearest to that row's, as in a history
of similar requests; without predictions in the sample, that of all lengths, the same for every request.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simsched.errors import InputError
from simsched.policies.base import Reads
from simsched.predictors.base import LEVELS, Buckets, Predictor, register
from simsched.streams import stream
from simsched.workload.trace import FloatArray, IntArray, Trace

_LENGTH = ("output_length", "output_tokens")
# column -> is a higher value a longer request?
_COLUMNS: dict[Reads, dict[str, bool]] = {
    "score": {"score": True, "rank_score": False},
    "predicted_class": {"predicted_class": True, "class_label": True},
    "predicted_length": {"predicted_length": True},
}
_SIMILAR = 0.05  # of the sample's rows, those nearest by prediction make a distribution
_REACH = 0.002  # rows this far from the quantile (as a share of the sample) may stand in for it


@dataclass(frozen=True)
class JointSample:
    """Lengths and predictions of m real requests, by rising length."""

    path: Path
    lengths: FloatArray
    predictions: dict[Reads, FloatArray]
    """Higher = longer, whatever the file's own sign."""

    def resample(self, column: Reads, lengths: IntArray, seed: int) -> FloatArray:
        """A prediction for each length, shape (n,); of distributions (n, LEVELS).

        Raises:
            InputError: the sample has no such column.
        """
        if column not in self.predictions:
            if column == "length_quantiles":
                return self._distributions(lengths, seed)
            names = " or ".join(_COLUMNS[column])
            raise InputError(f"--predictor empirical: {self.path}: expected a column {names}")
        return self.predictions[column][self._rows(lengths, seed)]

    def _rows(self, lengths: IntArray, seed: int) -> IntArray:
        """A sample row near the quantile of each length, shape (n,)."""
        n, m = len(lengths), len(self.lengths)
        quantile = np.empty(n)
        quantile[np.lexsort((stream(seed, "ties").random(n), lengths))] = (np.arange(n) + 0.5) / n
        drift = stream(seed, "predictor").uniform(-_REACH, _REACH, n)
        return np.clip(((quantile + drift) * m).astype(np.int64), 0, m - 1)

    def _distributions(self, lengths: IntArray, seed: int) -> FloatArray:
        """Equally probable lengths, shape (n, LEVELS): those of similar rows, at the trace's own scale."""
        m = len(self.lengths)
        levels = (np.arange(LEVELS) + 0.5) / LEVELS
        ordered = np.sort(lengths).astype(np.float64)
        if not self.predictions:
            places = np.tile(levels, (len(lengths), 1))
        else:
            column = next(name for name in _COLUMNS if name in self.predictions)
            by_prediction = np.argsort(self.predictions[column], kind="stable")
            count = min(m, max(LEVELS, round(_SIMILAR * m)))
            first = np.clip(np.arange(m) - count // 2, 0, m - count)
            # the rows are in order of length: their numbers are the quantiles of their lengths
            similar = by_prediction[first[:, None] + np.arange(count)[None, :]]
            of_rank = np.quantile((similar + 0.5) / m, levels, axis=1).T
            rank = np.empty(m, dtype=np.int64)
            rank[by_prediction] = np.arange(m)
            places = of_rank[rank[self._rows(lengths, seed)]]
        at: FloatArray = np.interp(places, (np.arange(len(ordered)) + 0.5) / len(ordered), ordered)
        return at


def read_sample(path: Path, higher: str | None = None) -> JointSample:
    """Read a CSV with a header.

    Columns: `output_length` (or `output_tokens`); and any of `score` (higher = longer, as in our traces),
    `rank_score` (higher = shorter, as the paper's code logs it), `predicted_class` (or `class_label`; 0 =
    shortest), `predicted_length`.

    Args:
        path: the file.
        higher: "longer" or "shorter", to overrule what a higher score means.

    Raises:
        InputError: names the file, line and value.
    """
    if higher not in (None, "longer", "shorter"):
        raise InputError(f"--predictor empirical: higher={higher}: expected longer or shorter")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
    except OSError as error:
        raise InputError(f"--predictor empirical: cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise InputError(f"--predictor empirical: {path} is not a CSV text file") from None
    if len(rows) < 2:
        raise InputError(f"--predictor empirical: {path}: expected a header and at least one row")
    header = [name.strip() for name in rows[0]]
    length_column = next((name for name in _LENGTH if name in header), None)
    if length_column is None:
        raise InputError(f"--predictor empirical: {path}:1: expected a column {' or '.join(_LENGTH)}")

    def column(name: str, lowest: float = -math.inf) -> FloatArray:
        at = header.index(name)
        values = []
        for line, row in enumerate(rows[1:], start=2):
            try:
                value = float(row[at])
            except (ValueError, IndexError):
                value = math.nan
            if not (math.isfinite(value) and value >= lowest):
                shown = row[at] if at < len(row) else "nothing"
                raise InputError(f"--predictor empirical: {path}:{line}: {name} {shown!r}: expected a number")
            values.append(value)
        return np.array(values)

    lengths = column(length_column, lowest=1)
    order = np.argsort(lengths, kind="stable")
    predictions: dict[Reads, FloatArray] = {}
    for reads, names in _COLUMNS.items():
        for name, rises in names.items():
            if name in header and reads not in predictions:
                up = rises if higher is None or reads != "score" else higher == "longer"
                predictions[reads] = (column(name) if up else -column(name))[order]
    return JointSample(path, lengths[order], predictions)


@register("empirical")
@dataclass(frozen=True)
class Empirical(Predictor):
    """Resampled from the joint sample in a file."""

    file: str | None = None
    higher: str | None = None
    """`longer` or `shorter`, to overrule what a higher score means."""

    about = "resampled from a real sample: empirical(file=FILE.csv,higher=longer|shorter)"

    def __post_init__(self) -> None:
        if self.file is None:
            raise InputError("--predictor empirical: expected empirical(file=FILE.csv)")

    @property
    def files(self) -> tuple[str, ...]:
        return (str(self.file),)

    def fill(
        self, trace: Trace, column: Reads, buckets: Buckets, *, seed: int, tau: float | None = None
    ) -> tuple[Trace, str]:
        sample = read_sample(Path(str(self.file)), None if self.higher is None else str(self.higher))
        filled: FloatArray | IntArray = sample.resample(column, trace.num_output_tokens, seed)
        if column == "predicted_class":
            filled = filled.astype(np.int64)
        line = f"{column} resampled from the {len(sample.lengths)} requests of {sample.path.name}"
        return trace.with_columns(**{column: filled}), line
