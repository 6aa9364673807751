"""Measures of a ranker: hand cases, invariants, and what a constant must give."""

import numpy as np
import pytest

from simsched.predictors import evaluation
from simsched.predictors.base import Buckets
from simsched.predictors.readout import Readout
from simsched.predictors.targets import make_objective

RNG = np.random.default_rng(0)
LENGTHS = np.round(np.exp(RNG.normal(4, 1, 600))) + 1


def test_tau_b_by_hand():
    # one discordant pair of three, no ties: (2 - 1) / 3
    assert evaluation.tau_b(np.array([1.0, 3.0, 2.0]), np.array([5.0, 6.0, 7.0])) == pytest.approx(1 / 3)
    # a tie in the scores: one concordant pair left, of sqrt(2 * 3) / ... = 2 / sqrt(2 * 3)
    tied = evaluation.tau_b(np.array([1.0, 1.0, 2.0]), np.array([5.0, 6.0, 7.0]))
    assert tied == pytest.approx(2 / np.sqrt(2 * 3))
    assert evaluation.tau_b(np.zeros(5), np.arange(5.0)) == 0.0


def test_the_interval_holds_tau_and_narrows():
    noisy = np.log(LENGTHS) + RNG.normal(0, 1, 600)
    tau = evaluation.tau_b(noisy, LENGTHS)
    low, high = evaluation.tau_interval(noisy, LENGTHS)
    few_low, few_high = evaluation.tau_interval(noisy[:60], LENGTHS[:60])
    assert low < tau < high
    assert high - low < few_high - few_low
    assert (low, high) == evaluation.tau_interval(noisy, LENGTHS)


@pytest.mark.parametrize("per_token", [False, True])
def test_regret_is_the_cost_of_wrong_pairs(per_token):
    lengths = np.array([3.0, 1.0, 7.0, 4.0])
    scores = np.array([1.0, 2.0, 0.0, 3.0])  # served: 7, 3, 1, 4

    def cost(order):
        finish = np.cumsum(lengths[order])
        return (finish / lengths[order] if per_token else finish).sum()

    best = cost(np.argsort(lengths))
    reverse = cost(np.argsort(-lengths))
    expected = (cost(np.argsort(scores)) - best) / ((best + reverse) / 2 - best)
    assert evaluation.order_regret(scores, lengths, per_token=per_token) == pytest.approx(expected)
    assert evaluation.order_regret(lengths, lengths, per_token=per_token) == pytest.approx(0)
    assert evaluation.order_regret(-lengths, lengths, per_token=per_token) == pytest.approx(2)
    assert evaluation.order_regret(np.zeros(4), lengths, per_token=per_token) == pytest.approx(1)


def test_equal_tau_unequal_regret():
    """The paper's section 6: noise among the short requests is not noise among the long ones."""
    ordered = np.sort(LENGTHS)
    count = round(0.7 * len(ordered))
    short, long = np.arange(600.0), np.arange(600.0)
    short[:count] = RNG.permutation(short[:count])
    long[-count:] = RNG.permutation(long[-count:])
    taus = [evaluation.tau_b(scores, ordered) for scores in (short, long)]
    assert taus[0] == pytest.approx(taus[1], abs=0.05)
    per_token = [evaluation.order_regret(scores, ordered, per_token=True) for scores in (short, long)]
    latency = [evaluation.order_regret(scores, ordered, per_token=False) for scores in (short, long)]
    assert per_token[0] > 1.05 * per_token[1]
    assert latency[1] > 1.5 * latency[0]


def test_regions_find_the_error():
    ordered = np.sort(LENGTHS + RNG.random(600) * 1e-6)
    scores = np.arange(600.0)
    scores[400:] = scores[400:][::-1]
    found = evaluation.regions(scores, ordered)
    assert found["shortest"]["kendall_tau"] == pytest.approx(1)
    assert found["longest"]["kendall_tau"] == pytest.approx(-1)
    assert found["shortest"]["displacement"] == pytest.approx(0, abs=1e-9)
    assert sum(part["n"] for part in found.values()) == 600


def test_ceiling_names_each_sample_and_their_mean():
    samples = {name: LENGTHS * np.exp(RNG.normal(0, 0.5, 600)) for name in "abc"}
    taus = evaluation.ceiling(samples, LENGTHS)
    assert set(taus) == {"a", "b", "c", "geometric mean"}
    assert taus["geometric mean"] > max(taus[name] for name in "abc")
    assert evaluation.ceiling({}, LENGTHS) == {}


def test_readout_of_a_ranker_rises_and_keeps_the_mean():
    scores = np.log(LENGTHS) + RNG.normal(0, 0.5, 600)
    objective = make_objective("listmle", Buckets("percentile", count=4), LENGTHS)
    readout = Readout.fit(objective, LENGTHS, scores[:, None], LENGTHS)
    columns = readout.columns(scores[:, None])
    order = np.argsort(scores)
    assert (np.diff(columns["predicted_length"][order]) >= 0).all()
    assert columns["predicted_length"].mean() == pytest.approx(LENGTHS.mean(), rel=0.02)
    assert set(columns["predicted_class"]) <= {0, 1, 2, 3}
    assert (np.diff(columns["predicted_class"][order]) >= 0).all()
    again = Readout.from_json(readout.to_json()).columns(scores[:, None])
    assert (again["predicted_length"] == columns["predicted_length"]).all()


def test_readout_of_a_classifier():
    objective = make_objective("classification", Buckets("fixed", width=100), LENGTHS)
    readout = Readout.fit(objective, LENGTHS, np.empty((0, 1)), np.empty(0))
    logits = np.full((2, objective.num_outputs), -50.0)
    logits[0, 0] = logits[1, 2] = 50.0
    columns = readout.columns(logits)
    assert columns["predicted_class"].tolist() == [0, 2]
    assert columns["score"][0] == pytest.approx(LENGTHS[LENGTHS < 100].mean())
    assert columns["score"][1] == pytest.approx(LENGTHS[(LENGTHS >= 200) & (LENGTHS < 300)].mean())


def test_targets():
    lengths = np.array([1.0, 9.0, 10.0, 25.0, 400.0])
    buckets = Buckets("fixed", width=100)
    assert make_objective("listmle", buckets, lengths).targets(lengths).tolist() == [0, 0, 1, 2, 40]
    assert make_objective("classification", buckets, lengths).targets(lengths).tolist() == [0, 0, 0, 0, 4]
    for name in ("regression", "percentile"):
        targets = make_objective(name, buckets, lengths).targets(lengths)
        assert targets.mean() == pytest.approx(0, abs=1e-12)
        assert (np.diff(targets) > 0).all()
