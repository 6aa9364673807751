"""What a ranker is trained on: losses as plain numpy, each with its gradient.

Every backbone uses the same functions: `light` hands them to L-BFGS, the torch backbones wrap them in one
autograd function. Scores are (n,) for the rankers and (n, classes) for the classifier; lower = expected
shorter. Each returns the mean loss of a list and its gradient with respect to the scores.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from simsched.workload.trace import FloatArray

Loss = Callable[[FloatArray, FloatArray], tuple[float, FloatArray]]

PINBALL_WIDTH = 0.05  # standard deviations: as far from a quantile its loss is a parabola, for a gradient
STUDENT_NU = 3.5  # degrees of freedom of the log lengths given a prompt (TIE, arXiv 2604.00499)
PAIRWISE_MARGIN = 1.0
PAIRWISE_MIN_DIFFERENCE = 0.2  # relative; closer lengths are noise of sampling, not order


def listmle(scores: FloatArray, labels: FloatArray) -> tuple[float, FloatArray]:
    """ListMLE (Xia et al., ICML 2008): -log P(order by label | scores) / n under Plackett-Luce.

    With the list in rising label order, shortest first, P = prod_i exp(-s_i) / sum_{k >= i} exp(-s_k).
    Equal labels leave the order open. Each tied item is then measured against all of its tie and what
    follows it (Breslow's form, from Cox regression, whose partial likelihood ListMLE is): the loss depends
    on no arbitrary order inside a tie, and equals the definition where nothing is tied.
    """
    order = np.argsort(labels, kind="stable")
    utility = -scores[order]
    utility -= utility.max()
    ordered = labels[order]
    # the first and last place of each item's tie
    first = np.searchsorted(ordered, ordered, side="left")
    last = np.searchsorted(ordered, ordered, side="right") - 1
    tail = np.logaddexp.accumulate(utility[::-1])[::-1]  # log of the sum over k >= i; no underflow
    n = len(scores)
    value = float((tail[first] - utility).sum()) / n
    # item k is in the denominator of every i whose tie starts at or before k's
    denominators = np.logaddexp.accumulate(-tail[first])[last]
    grad = np.empty(n)
    grad[order] = (1.0 - np.exp(utility + denominators)) / n
    return value, grad


def pairwise(scores: FloatArray, lengths: FloatArray) -> tuple[float, FloatArray]:
    """Margin ranking loss, as in PARS: mean of max(0, margin - (s_long - s_short)) over the list's pairs.

    Pairs whose lengths differ by less than 20 % of the longer are left out, ties with them.
    """
    longer = lengths[:, None] - lengths[None, :] > PAIRWISE_MIN_DIFFERENCE * lengths[:, None]
    count = max(1, int(longer.sum()))
    short_by = PAIRWISE_MARGIN - (scores[:, None] - scores[None, :])
    violated = longer & (short_by > 0)
    value = float(short_by[violated].sum()) / count
    return value, (violated.sum(axis=0) - violated.sum(axis=1)) / count


def squared(scores: FloatArray, targets: FloatArray) -> tuple[float, FloatArray]:
    """Mean of (s - target)² / 2."""
    error = scores - targets
    return float(error @ error) / (2 * len(error)), error / len(error)


def cross_entropy(logits: FloatArray, classes: FloatArray) -> tuple[float, FloatArray]:
    """Softmax cross-entropy; logits (n, classes), labels 0 to classes - 1."""
    rows = np.arange(len(logits))
    target = classes.astype(np.int64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    grad = np.exp(log_probability)
    grad[rows, target] -= 1.0
    return -float(log_probability[rows, target].mean()), grad / len(logits)


def pinball(quantiles: FloatArray, targets: FloatArray) -> tuple[float, FloatArray]:
    """Mean of level u or (level - 1) u, whichever is more, with u = target - quantile: least at the quantiles
    (Koenker and Bassett, 1978), here at levels (k + 1/2) / m of m columns.

    Within `PINBALL_WIDTH` of the target the kink is a parabola, whose ends meet the lines.
    """
    count = quantiles.shape[1]
    levels = (np.arange(count) + 0.5) / count
    short_by = targets[:, None] - quantiles
    above = np.clip((PINBALL_WIDTH - short_by) / (2 * PINBALL_WIDTH), 0.0, 1.0)  # is the quantile too high?
    kink = np.where(short_by < -PINBALL_WIDTH, -short_by, PINBALL_WIDTH * above**2)
    size = quantiles.size
    return float((levels * short_by + kink).sum()) / size, (above - levels) / size


def log_t(outputs: FloatArray, targets: FloatArray) -> tuple[float, FloatArray]:
    """Mean negative log-likelihood of Student's t with `STUDENT_NU` degrees of freedom, but for its constant.

    Args:
        outputs: (n, 2), the location m and the logarithm of the scale s of each.
        targets: (n,), standardised log lengths.

    With r = (target - m) / s it is log s + (nu + 1) / 2 log(1 + r^2 / nu).
    """
    n = len(outputs)
    scale = np.exp(outputs[:, 1])
    r = (targets - outputs[:, 0]) / scale
    value = outputs[:, 1] + (STUDENT_NU + 1) / 2 * np.log1p(r**2 / STUDENT_NU)
    pull = (STUDENT_NU + 1) * r / (STUDENT_NU + r**2)
    return float(value.mean()), np.column_stack((-pull / scale, 1.0 - pull * r)) / n
