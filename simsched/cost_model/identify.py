"""Which terms of a cost model a set of steps cannot tell, and why.

A coefficient may fit well and mean nothing: without a prefill step there is no `a`, and if every sequence has
the same context, `b` and `c` may be traded for each other. Such a profile predicts batches like those it has
seen and no others.
"""

from __future__ import annotations

import numpy as np

from simsched.cost_model.fit import FloatArray, Steps, linear_columns, table_columns
from simsched.cost_model.models import LinearCost, TableCost

MIN_OWN_SHARE = 0.02  # of a feature's variation, what the others must not explain
MAX_STANDARD_ERROR = 0.25  # of a coefficient, relative to it

_LINEAR = {"a": 1, "b": 2, "c": 3, "d": 4}  # term -> its column
_TABLE = {"h": -5, "c": -4, "d": -3}
_FEATURE = {
    "a": "P, prefill tokens",
    "b": "N, decodes",
    "h": "N + S, sequences",
    "c": "K, decode context",
    "d": "Q, prefill attention",
}
_REMEDY = {
    "a": "log steps with prefills of different sizes",
    "b": "log steps with different numbers of decodes",
    "h": "log steps with the same tokens in few and in many sequences",
    "c": "log decodes with short and long contexts in batches of the same size",
    "d": "log long prompts and chunks behind a long prefix",
}


def unidentified(steps: Steps, cost: LinearCost | TableCost) -> list[str]:
    """A line for each term that these steps do not identify: what is missing, and what would help."""
    chunks = cost.per_chunk > 0
    if isinstance(cost, LinearCost):
        columns, terms = linear_columns(steps, chunks), _LINEAR
    else:
        columns = table_columns(steps, cost.knots, chunks, mixed=cost.per_mixed_decode > 0)
        terms = _TABLE
    error = steps.predict(cost) / steps.time - 1
    # a robust spread: outliers are not what the terms are unsure of
    noise = 1.4826 * float(np.median(np.abs(error)))
    lines = []
    for term, index in terms.items():
        problem = _problem(columns / steps.time[:, None], index, getattr(cost, term), noise)
        if problem:
            lines.append(f"{term} ({_FEATURE[term]}) is not identified: {problem}; {_REMEDY[term]}")
    return lines


def _problem(columns: FloatArray, index: int, coefficient: float, noise: float) -> str | None:
    column = columns[:, index]
    size = float(np.linalg.norm(column))
    if size == 0:
        return "it is 0 in every step"
    others = np.delete(columns, index % columns.shape[1], axis=1)
    others = others[:, np.linalg.norm(others, axis=0) > 0]
    others = others / np.linalg.norm(others, axis=0)
    solution = np.linalg.lstsq(others, column, rcond=1e-10)[0]
    own = float(np.linalg.norm(column - others @ solution))
    if own < MIN_OWN_SHARE * size:
        return f"the other terms explain {1 - (own / size) ** 2:.2%} of its variation"
    if coefficient == 0:
        return "it came out as 0"
    standard_error = noise / own / coefficient
    if standard_error > MAX_STANDARD_ERROR:
        return f"its standard error is {standard_error:.0%} of its value"
    return None
