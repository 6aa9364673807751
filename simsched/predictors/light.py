"""The `light` ranker: a linear model over TF-IDF text patterns, with numpy and scipy alone.

`percentile` (ridge on the rank of the length, its default) is solved by conjugate gradients; the other
losses by L-BFGS over fixed lists of prompts, with the same ridge penalty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from simsched.errors import InputError
from simsched.predictors.features import NUM_SHAPE, SHAPE_WEIGHT, WEIGHTS, Patterns, find_patterns, shape
from simsched.predictors.targets import Objective
from simsched.workload.trace import FloatArray, IntArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

WEIGHTS_FILE = "weights.npz"
LIST_LENGTH = 32  # prompts compared with each other, as in the paper's batches
MAX_CLASSES = 64
_MAX_ITERATIONS = 100


@dataclass(frozen=True)
class TextSpace:
    """From prompts to vectors: known patterns with their idf, and the scaling of the shape features."""

    keys: IntArray
    """Patterns seen in at least two prompts, rising."""
    idf: FloatArray
    shape_mean: FloatArray
    shape_spread: FloatArray

    @classmethod
    def fit(cls, patterns: Patterns, shapes: FloatArray) -> TextSpace:
        keys, seen = np.unique(patterns.keys, return_counts=True)
        n = len(shapes)
        often = seen > 1
        spread = shapes.std(axis=0)
        idf = np.log((1 + n) / (1 + seen[often])) + 1
        return cls(keys[often], idf, shapes.mean(axis=0), np.where(spread > 0, spread, 1.0))

    @property
    def size(self) -> int:
        return len(self.keys) + NUM_SHAPE

    def vectors(self, patterns: Patterns, shapes: FloatArray) -> csr_array:
        """Shape (n, size): each kind of pattern scaled to its weight, then the shape features."""
        from scipy.sparse import csr_array, hstack

        n = len(shapes)
        row = np.repeat(np.arange(n), np.diff(patterns.ends))
        column = np.searchsorted(self.keys, patterns.keys)
        known = column < len(self.keys)
        known[known] = self.keys[column[known]] == patterns.keys[known]
        row, column = row[known], column[known]
        values = (1 + np.log(patterns.counts[known])) * self.idf[column]
        kind = patterns.keys[known] >> 32
        block = row * len(WEIGHTS) + kind
        norm = np.sqrt(np.bincount(block, values**2, minlength=n * len(WEIGHTS)))
        values *= np.array(list(WEIGHTS.values()))[kind] / norm[block]
        text = csr_array((values, (row, column)), shape=(n, len(self.keys)))
        scaled = (shapes - self.shape_mean) / self.shape_spread * SHAPE_WEIGHT
        both: csr_array = hstack([text, csr_array(scaled)], format="csr")
        return both


@dataclass
class LightModel:
    """Outputs = vectors @ weights + intercept."""

    space: TextSpace
    weights: FloatArray
    """Shape (size, outputs)."""
    intercept: FloatArray

    def outputs(self, prompts: Sequence[str], batch_size: int = 1024) -> FloatArray:
        """Shape (n, outputs)."""
        parts = [
            self._outputs(prompts[start : start + batch_size]) for start in range(0, len(prompts), batch_size)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self.weights.shape[1]))

    def _outputs(self, prompts: Sequence[str]) -> FloatArray:
        vectors = self.space.vectors(find_patterns(prompts), shape(prompts))
        product: FloatArray = vectors @ self.weights + self.intercept
        return product

    def save(self, folder: Path) -> None:
        np.savez_compressed(
            folder / WEIGHTS_FILE,
            keys=self.space.keys,
            idf=self.space.idf.astype(np.float32),
            shape_mean=self.space.shape_mean,
            shape_spread=self.space.shape_spread,
            weights=self.weights.astype(np.float32),
            intercept=self.intercept,
        )

    @classmethod
    def load(cls, folder: Path) -> LightModel:
        """Read without pickle.

        Raises:
            InputError: the file is missing or broken.
        """
        path = folder / WEIGHTS_FILE
        try:
            with np.load(path, allow_pickle=False) as arrays:
                part = {name: arrays[name] for name in arrays.files}
            idf, weights = part["idf"].astype(np.float64), part["weights"].astype(np.float64)
            space = TextSpace(part["keys"], idf, part["shape_mean"], part["shape_spread"])
            if len(idf) != len(space.keys) or len(weights) != space.size:
                raise ValueError("its arrays do not fit together")
            return cls(space, weights, part["intercept"])
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise InputError(f"{path}: not a light ranker's weights: {error}") from None


class LightFit:
    """The training prompts as vectors, made once, to be solved for several penalties."""

    def __init__(self, prompts: Sequence[str], lengths: FloatArray, objective: Objective, seed: int) -> None:
        """Raises InputError: more classes than a linear model of every pattern can bear."""
        if objective.num_outputs > MAX_CLASSES:
            raise InputError(
                f"--buckets: {objective.num_outputs} classes; expected at most {MAX_CLASSES} "
                "with --backbone light"
            )
        patterns, shapes = find_patterns(prompts), shape(prompts)
        self._space = TextSpace.fit(patterns, shapes)
        self._vectors = self._space.vectors(patterns, shapes)
        self._targets = objective.targets(lengths)
        self._objective = objective
        self._seed = seed
        self._start = np.zeros(self._space.size * objective.num_outputs)

    def solve(self, penalty: float) -> LightModel:
        """The model for this ridge factor (targets have unit variance); L-BFGS starts from the last one."""
        if self._objective.name in ("percentile", "regression"):
            mean = self._targets.mean()
            weights = _ridge(self._vectors, self._targets - mean, penalty)
            return LightModel(self._space, weights[:, None], np.array([mean]))
        weights = _minimise(self._vectors, self._targets, self._objective, penalty, self._start, self._seed)
        self._start = weights.ravel()
        return LightModel(self._space, weights, np.zeros(self._objective.num_outputs))


def _ridge(vectors: csr_array, targets: FloatArray, penalty: float) -> FloatArray:
    """argmin |V w - t|² + penalty |w|², through the smaller n x n system (V V' + penalty) a = t."""
    from scipy.sparse.linalg import LinearOperator, cg

    transposed = vectors.T.tocsr()
    n = vectors.shape[0]

    def times(a: Any) -> Any:
        return vectors @ (transposed @ a) + penalty * a

    solution, _ = cg(LinearOperator((n, n), matvec=times, dtype=np.float64), targets, rtol=1e-4, maxiter=200)
    weights: FloatArray = transposed @ solution
    return weights


def _minimise(
    vectors: csr_array,
    targets: FloatArray,
    objective: Objective,
    penalty: float,
    start: FloatArray,
    seed: int,
) -> FloatArray:
    """argmin mean loss over random lists + penalty / (2 n) |w|², by L-BFGS; shape (size, outputs)."""
    from scipy.optimize import minimize

    n, size = vectors.shape
    outputs = objective.num_outputs
    order = np.random.default_rng(np.random.SeedSequence(seed)).permutation(n)
    lists = np.array_split(order, max(1, n // LIST_LENGTH)) if outputs == 1 else [order]
    transposed = vectors.T.tocsr()

    def value_and_gradient(flat: FloatArray) -> tuple[float, FloatArray]:
        weights = flat.reshape(size, outputs)
        scores = vectors @ weights
        gradient = np.empty_like(scores)
        total = 0.0
        for rows in lists:
            given = scores[rows, 0] if outputs == 1 else scores[rows]
            value, slope = objective.loss(given, targets[rows])
            total += value * len(rows)
            gradient[rows] = slope.reshape(len(rows), outputs) * len(rows)
        total = (total + penalty / 2 * float(flat @ flat)) / n
        return total, ((transposed @ gradient).ravel() + penalty * flat) / n

    found = minimize(
        value_and_gradient,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _MAX_ITERATIONS, "maxcor": 8},
    )
    weights: FloatArray = found.x.reshape(size, outputs)
    return weights
