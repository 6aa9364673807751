"""The losses against their definitions, on lists small enough to enumerate, and their gradients."""

import itertools
import json
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from simsched.predictors.losses import cross_entropy, listmle, log_t, pairwise, pinball, squared
from simsched.predictors.readout import Readout


def plackett_luce(scores, order):
    """Xia et al. 2008, equation of the permutation probability, with utility = -score."""
    probability = 1.0
    for i in range(len(order)):
        rest = [math.exp(-scores[k]) for k in order[i:]]
        probability *= rest[0] / sum(rest)
    return probability


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_listmle_is_minus_log_likelihood_of_the_true_order(n):
    rng = np.random.default_rng(n)
    scores, labels = rng.normal(size=n), rng.permutation(n).astype(float)
    value, _ = listmle(scores, labels)
    order = [int(i) for i in np.argsort(labels)]
    assert value * n == pytest.approx(-math.log(plackett_luce(scores, order)), rel=1e-12)


def test_likelihoods_of_all_orders_sum_to_one():
    scores = np.array([0.3, -1.0, 2.0, 0.1])
    likelihoods = [
        math.exp(-4 * listmle(scores, np.argsort(order).astype(float))[0])
        for order in itertools.permutations(range(4))
    ]
    assert sum(likelihoods) == pytest.approx(1.0, rel=1e-12)


def test_ties_by_hand():
    # labels 1 1 2: both tied items stand against all three, the last against itself
    scores = np.array([0.5, -0.2, 1.0])
    u = [math.exp(-s) for s in scores]
    expected = -math.log(u[0] / sum(u)) - math.log(u[1] / sum(u)) - math.log(u[2] / u[2])
    assert listmle(scores, np.array([1.0, 1.0, 2.0]))[0] * 3 == pytest.approx(expected, rel=1e-12)


def test_a_tie_has_no_inner_order():
    labels = np.array([10.0, 10.0, 10.0, 30.0])
    value, gradient = listmle(np.array([1.0, 1.0, 1.0, 2.0]), labels)
    assert gradient[0] == gradient[1] == gradient[2]
    swapped, _ = listmle(np.array([3.0, 1.0, 2.0, 4.0]), labels)
    again, _ = listmle(np.array([2.0, 3.0, 1.0, 4.0]), labels)
    assert swapped == pytest.approx(again, rel=1e-12)
    assert value > 0


def test_listmle_survives_extreme_scores():
    value, gradient = listmle(np.array([-800.0, 0.0, 800.0]), np.array([3.0, 2.0, 1.0]))
    assert math.isfinite(value)
    assert np.isfinite(gradient).all()
    assert listmle(np.array([-800.0, 0.0, 800.0]), np.array([1.0, 2.0, 3.0]))[0] == pytest.approx(0.0)


def numeric(loss, scores, labels, step=1e-6):
    gradient = np.zeros_like(scores)
    for index in np.ndindex(scores.shape):
        up, down = scores.copy(), scores.copy()
        up[index] += step
        down[index] -= step
        gradient[index] = (loss(up, labels)[0] - loss(down, labels)[0]) / (2 * step)
    return gradient


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 9), st.integers(0, 10_000), st.integers(1, 6))
def test_gradients(n, seed, distinct):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n)
    labels = rng.integers(1, distinct + 1, n).astype(float)
    for loss in (listmle, pairwise, squared):
        assert loss(scores, labels)[1] == pytest.approx(numeric(loss, scores, labels), abs=1e-7), loss
    wide = rng.normal(size=(n, 4))
    assert pinball(wide, labels)[1] == pytest.approx(numeric(pinball, wide, labels), abs=1e-7)
    logits = rng.normal(size=(n, distinct))
    found = cross_entropy(logits, labels - 1)[1]
    assert found == pytest.approx(numeric(cross_entropy, logits, labels - 1), abs=1e-7)


def test_pairwise_by_hand():
    # pairs (20, 10) and (20, 17): the second differs by 15 % and is left out, (17, 10) by 41 % is in
    value, gradient = pairwise(np.array([0.0, 0.5, 2.0]), np.array([10.0, 20.0, 17.0]))
    # 20 over 10 falls short of the margin by 0.5; 17 over 10 does not
    assert value == pytest.approx(0.5 / 2)
    assert gradient.tolist() == [0.5, -0.5, 0.0]


def test_each_loss_prefers_the_true_order():
    lengths = np.array([5.0, 50.0, 500.0])
    for loss in (listmle, pairwise):
        right = loss(np.array([-2.0, 0.0, 2.0]), lengths)[0]
        wrong = loss(np.array([2.0, 0.0, -2.0]), lengths)[0]
        assert right < wrong


def test_pinball_by_hand():
    # levels 1/4 and 3/4: 1/4 of 2 short, 1/4 of 4 too long
    value, gradient = pinball(np.array([[1.0, 7.0]]), np.array([3.0]))
    assert value == pytest.approx((0.25 * 2 + 0.25 * 4) / 2)
    assert gradient.tolist() == [[-0.25 / 2, 0.25 / 2]]


def test_pinball_is_least_at_the_quantiles():
    values = np.arange(1.0, 81.0)  # the quantiles at 1/8, 3/8, ... are 10.5 + 20 k
    right = np.tile([10.5, 30.5, 50.5, 70.5], (80, 1))
    least = pinball(right, values)[0]
    for shift in (-3.0, -1.0, 1.0, 3.0):
        for column in range(4):
            other = right.copy()
            other[:, column] += shift
            assert pinball(other, values)[0] > least


def test_log_t_by_hand():
    """At the location with scale 2 it is log 2; a scale away, log 2 + 2.25 log(1 + 1 / 3.5)."""
    value, gradient = log_t(np.array([[1.0, math.log(2.0)]]), np.array([1.0]))
    assert value == pytest.approx(math.log(2.0))
    assert gradient == pytest.approx(np.array([[0.0, 1.0]]))
    value, gradient = log_t(np.array([[1.0, math.log(2.0)]]), np.array([3.0]))
    assert value == pytest.approx(math.log(2.0) + 2.25 * math.log(1 + 1 / 3.5))
    assert gradient == pytest.approx(
        np.array([[-1 / 2, 0.0]])
    )  # 4.5 / (3.5 + 1) / 2; a scale away it is right


def test_log_t_has_its_gradient_and_the_density_of_t():
    random = np.random.default_rng(0)
    outputs, targets = random.normal(size=(6, 2)), random.normal(size=6)
    assert log_t(outputs, targets)[1] == pytest.approx(numeric(log_t, outputs, targets), abs=1e-6)
    scale = np.exp(outputs[:, 1])
    density = scipy.stats.t.logpdf(targets, 3.5, outputs[:, 0], scale)
    constant = scipy.stats.t.logpdf(0.0, 3.5)
    assert log_t(outputs, targets)[0] == pytest.approx(constant - density.mean())


def test_log_t_is_written_as_quantiles():
    """Location 1 and scale 2 of standardised logs, whose mean is 3 and spread 0.5; up to 90 tokens."""
    base = scipy.stats.t.ppf([0.25, 0.75, 0.9], 3.5)
    none = np.empty(0)
    readout = Readout(np.array([10]), none, none, base, 3.0, 0.5, longest=90.0)
    again = Readout.from_json(json.loads(json.dumps(readout.to_json())))
    found = again.columns(np.array([[1.0, math.log(2.0)]]))["length_quantiles"]
    assert found[0] == pytest.approx([*np.exp(3.0 + 0.5 * (1.0 + 2.0 * base[:2])), 90.0])
