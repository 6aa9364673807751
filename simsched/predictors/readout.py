"""From a model's raw outputs to the columns of a trace: score, class and length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simsched.predictors.targets import Objective
from simsched.workload.trace import FloatArray, IntArray


@dataclass(frozen=True)
class Readout:
    """A ranker's output is its score; a classifier's score is the mean length under its probabilities.

    A ranker's length is a rising step of its score, fitted on held-out prompts (isotonic regression); its
    class is that of the length. A classifier's class is the most probable one. A model of quantiles, or of
    location and scale (log-t), gives a distribution; its score and length are the mean, its class the
    median's.
    """

    bounds: IntArray
    """The longest length of each class but the last."""
    scores: FloatArray
    lengths: FloatArray
    """Rankers: tokens at `scores`, rising. Classifiers: mean tokens of each class; `scores` is empty."""
    base: FloatArray = field(default_factory=lambda: np.empty(0))
    """Models of distributions: what is added to the outputs to get standardised log lengths (quantile), or
    stretched by the scale and moved by the location (log-t)."""
    mean: float = 0.0
    spread: float = 1.0
    """Likewise: of the log lengths."""
    longest: float | None = None
    """Models of location and scale: the longest length there is (tokens), for Student's t has tails without
    end. None: the outputs are something else."""

    @classmethod
    def fit(
        cls, objective: Objective, train: FloatArray, outputs: FloatArray, held_out: FloatArray
    ) -> Readout:
        """From the training split's lengths, and outputs and lengths of held-out prompts."""
        if objective.name == "classification":
            means = _class_means(objective.bounds, train)
            return cls(objective.bounds, np.empty(0), means)
        if objective.name in ("quantile", "log-t"):
            none, log_t = np.empty(0), objective.name == "log-t"
            stretch = _stretch(objective, outputs, held_out) if log_t else 1.0
            base = objective.base * stretch
            longest = float(train.max()) if log_t else None
            return cls(objective.bounds, none, none, base, objective.mean, objective.spread, longest)
        from scipy.optimize import isotonic_regression

        order = np.argsort(outputs[:, 0], kind="stable")
        scores = outputs[order, 0]
        rising = isotonic_regression(held_out[order]).x
        # one knot at each end of a flat stretch carries the whole of it
        ends = np.flatnonzero(np.diff(rising) > 0)
        knots = np.unique(np.concatenate(([0], ends, ends + 1, [len(rising) - 1])))
        return cls(objective.bounds, scores[knots], rising[knots])

    def columns(self, outputs: FloatArray) -> dict[str, Any]:
        """`score` (n,), lower = shorter; `predicted_class` (n,), 0 = shortest; `predicted_length` (n,); and
        from a model of distributions `length_quantiles` (n, levels), rising."""
        if len(self.base):
            if self.longest is not None:
                logs = outputs[:, :1] + np.exp(outputs[:, 1:]) * self.base
            else:
                logs = np.sort(outputs + self.base, axis=1)
            most = np.inf if self.longest is None else np.log(self.longest)
            tokens = np.maximum(1.0, np.exp(np.minimum(self.mean + self.spread * logs, most)))
            mean = tokens.mean(axis=1)
            middle = np.rint(np.median(tokens, axis=1))
            classes = np.searchsorted(self.bounds, middle, side="left")
            columns = {"score": mean, "predicted_class": classes, "predicted_length": mean}
            return {**columns, "length_quantiles": tokens}
        if len(self.scores) == 0:
            weights = np.exp(outputs - outputs.max(axis=1, keepdims=True))
            mean = weights @ self.lengths / weights.sum(axis=1)
            return {"score": mean, "predicted_class": outputs.argmax(axis=1), "predicted_length": mean}
        score = outputs[:, 0]
        length = np.interp(score, self.scores, self.lengths)
        classes = np.searchsorted(self.bounds, np.rint(length), side="left")
        return {"score": score, "predicted_class": classes, "predicted_length": length}

    def to_json(self) -> dict[str, list[float]]:
        entry = {
            "bounds": self.bounds.tolist(),
            "scores": self.scores.tolist(),
            "lengths": self.lengths.tolist(),
        }
        if len(self.base):
            entry |= {"base": self.base.tolist(), "log_lengths": [self.mean, self.spread]}
        if self.longest is not None:
            entry["longest"] = [self.longest]
        return entry

    @classmethod
    def from_json(cls, entry: Mapping[str, list[float]]) -> Readout:
        mean, spread = entry.get("log_lengths", (0.0, 1.0))
        return cls(
            np.array(entry["bounds"], dtype=np.int64),
            np.array(entry["scores"], dtype=np.float64),
            np.array(entry["lengths"], dtype=np.float64),
            np.array(entry.get("base", ()), dtype=np.float64),
            float(mean),
            float(spread),
            float(entry["longest"][0]) if "longest" in entry else None,
        )


def _stretch(objective: Objective, outputs: FloatArray, held_out: FloatArray) -> float:
    """By how much all scales must grow for held-out prompts to be most likely: a model is surer of those that
    it was trained on."""
    from scipy.optimize import minimize_scalar

    targets = objective.targets(held_out)

    def loss(more: float) -> float:
        return objective.loss(outputs + np.array([0.0, more]), targets)[0]

    return float(np.exp(minimize_scalar(loss, bounds=(-2.0, 5.0), method="bounded").x))


def _class_means(bounds: IntArray, lengths: FloatArray) -> FloatArray:
    """Mean length of each class; one without members takes its upper bound."""
    classes = np.searchsorted(bounds, np.rint(lengths), side="left")
    count = np.bincount(classes, minlength=len(bounds) + 1)
    total = np.bincount(classes, lengths, minlength=len(bounds) + 1)
    upper = np.append(bounds, lengths.max())
    return np.where(count > 0, total / np.maximum(count, 1), upper)
