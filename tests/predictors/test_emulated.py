"""The emulated predictor reaches the tau that was asked for, and follows its definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import kendalltau

from simsched.errors import InputError
from simsched.predictors.base import Buckets
from simsched.predictors.emulated import Emulated
from simsched.predictors.normal import cumulative, normal_scores, quantile
from simsched.workload.named import named_workload

N = 20_000
TOLERANCE = 0.013  # three standard errors of tau at n = 20,000, where it is widest


def lengths(workload: str = "sharegpt", seed: int = 0) -> np.ndarray:
    return named_workload(workload).generate(N, 1.0, seed=seed).num_output_tokens


def tau(predicted: np.ndarray, true: np.ndarray) -> float:
    return float(kendalltau(predicted, true).statistic)


@pytest.mark.parametrize("wanted", [0.0, 0.2, 0.52, 0.64, 0.9])
@pytest.mark.parametrize("workload", ["sharegpt", "lmsys", "azure-conv"])
def test_tau_of_scores(wanted: float, workload: str) -> None:
    true = lengths(workload)
    assert tau(Emulated(wanted).scores(true, seed=1), true) == pytest.approx(wanted, abs=TOLERANCE)


def test_tau_one_is_the_true_order() -> None:
    true = lengths()
    score = Emulated(1.0).scores(true, seed=1)
    assert np.all(np.diff(true[np.argsort(score)]) >= 0)
    assert tau(score, true) > 0.998  # the rest is ties
    np.testing.assert_array_equal(Emulated(1.0).lengths(true, seed=1), true)
    np.testing.assert_array_equal(Emulated(1.0).classes(true, Buckets(), seed=1), Buckets().classify(true))


def test_equal_lengths_carry_no_information() -> None:
    true = np.full(1000, 100)
    score = Emulated(1.0).scores(true, seed=0)
    assert abs(tau(score, np.arange(1000))) < 0.1


@pytest.mark.parametrize("region", ["shortest", "longest"])
@pytest.mark.parametrize(("wanted", "share"), [(0.5, 0.7), (0.8, 0.7), (0.7, 0.5)])
def test_tau_with_errors_in_one_region(region: str, wanted: float, share: float) -> None:
    true = lengths()
    emulated = Emulated(wanted, region, share)  # type: ignore[arg-type]
    score = emulated.scores(true, seed=1)
    assert tau(score, true) == pytest.approx(wanted, abs=TOLERANCE)
    cut = np.quantile(true, 1 - share if region == "longest" else share)
    outside = true < cut if region == "longest" else true > cut
    assert tau(score[outside], true[outside]) > 0.99
    assert tau(emulated.lengths(true, seed=1), true) == pytest.approx(wanted, abs=TOLERANCE)
    accuracy = np.mean(
        emulated.classes(true, Buckets("percentile"), 1) == Buckets("percentile").classify(true)
    )
    assert accuracy == pytest.approx(1 - share, abs=share / 2)


def test_a_region_too_small_for_the_tau() -> None:
    with pytest.raises(InputError, match=r"cannot bring tau down to 0.1; expected at least 0.5"):
        Emulated(0.1, "longest", 0.5)


def test_classes_are_the_most_probable_ones_given_the_score() -> None:
    true, emulated, buckets = lengths(), Emulated(0.6), Buckets(width=200)
    got = emulated.classes(true, buckets, seed=2)
    score = emulated.scores(true, seed=2)
    bounds = np.concatenate(([-1], buckets.upper_bounds(true), [np.inf]))
    share = np.searchsorted(np.sort(true), bounds, side="right") / N
    edges = ndtri(np.clip(share, 0, 1))
    rho = np.sin(np.pi * 0.6 / 2)
    upper = ndtr((edges[None, 1:] - rho * score[:, None]) / np.sqrt(1 - rho**2))
    lower = ndtr((edges[None, :-1] - rho * score[:, None]) / np.sqrt(1 - rho**2))
    assert np.mean(got == np.argmax(upper - lower, axis=1)) > 0.999  # a grid of scores, 0.003 apart


@pytest.mark.parametrize("workload", ["sharegpt", "lmsys"])
def test_better_scores_give_better_classes(workload: str) -> None:
    true = lengths(workload)
    accuracy = [
        np.mean(Emulated(t).classes(true, Buckets("percentile"), 0) == Buckets("percentile").classify(true))
        for t in (0.2, 0.5, 0.8, 1.0)
    ]
    assert accuracy == sorted(accuracy)
    assert accuracy[-1] == 1


@pytest.mark.parametrize(
    ("workload", "latent", "published"), [("sharegpt", 0.60, 0.21), ("lmsys", 0.62, 0.17)]
)
def test_the_hidden_tau_gives_the_published_tau_of_820_token_classes(
    workload: str, latent: float, published: float
) -> None:
    true = lengths(workload)
    assert named_workload(workload).predictor_tau["predicted_class"] == latent
    assert tau(Emulated(latent).classes(true, Buckets(), 0), true) == pytest.approx(published, abs=0.02)


def test_lengths_are_the_mean_given_the_score() -> None:
    true, emulated = lengths(), Emulated(0.52)
    predicted = emulated.lengths(true, seed=3)
    assert tau(predicted, true) == pytest.approx(0.52, abs=TOLERANCE)
    assert predicted.mean() == pytest.approx(true.mean(), rel=0.02)
    for group in np.array_split(np.argsort(predicted), 10):
        assert predicted[group].mean() == pytest.approx(true[group].mean(), rel=0.08)


def test_ranker_classifier_and_regressor_share_their_noise() -> None:
    true, emulated = lengths(), Emulated(0.5)
    score, predicted = emulated.scores(true, 4), emulated.lengths(true, 4)
    assert tau(score, predicted) > 0.999
    classes = emulated.classes(true, Buckets("percentile"), 4)
    assert np.all(np.diff(classes[np.argsort(score)]) >= 0)


def test_seeds() -> None:
    true, emulated = lengths(), Emulated(0.5)
    np.testing.assert_array_equal(emulated.scores(true, 1), emulated.scores(true, 1))
    assert not np.array_equal(emulated.scores(true, 1), emulated.scores(true, 2))


def test_one_request() -> None:
    one = np.array([7])
    emulated = Emulated(0.5)
    assert emulated.scores(one, 0).shape == (1,)
    assert emulated.classes(one, Buckets(), 0).tolist() == [0]
    assert emulated.lengths(one, 0).tolist() == [7]


def test_normal_distribution() -> None:
    p = np.linspace(1e-7, 1 - 1e-7, 100_001)
    x = np.linspace(-8, 8, 10_001)
    np.testing.assert_allclose(quantile(p), ndtri(p), atol=1e-5)
    np.testing.assert_allclose(cumulative(x), ndtr(x), atol=1e-7)
    assert normal_scores(3) == pytest.approx(ndtri([1 / 6, 0.5, 5 / 6]), abs=1e-6)


def test_buckets() -> None:
    true = np.array([1, 819, 820, 1639, 1640, 8191])
    assert Buckets().classify(true).tolist() == [0, 0, 1, 1, 2, 9]
    assert Buckets(width=1).classify(np.array([1, 5, 3])).tolist() == [1, 5, 3]
    tenths = Buckets("percentile").classify(np.arange(1000))
    assert np.bincount(tenths).tolist() == [100] * 10
    assert Buckets("percentile").classify(np.full(50, 3)).tolist() == [0] * 50


@pytest.mark.parametrize("wanted", [0.0, 0.3, 0.6, 0.9])
def test_a_distribution_is_calibrated(wanted: float) -> None:
    """At each level that share of the true lengths lies below, among long predictions as among short ones."""
    true = lengths()
    quantiles = Emulated(wanted).quantiles(true, seed=1)
    assert quantiles.shape == (N, 20)
    assert (np.diff(quantiles, axis=1) >= 0).all()
    levels = (np.arange(20) + 0.5) / 20
    by_median = np.argsort(quantiles[:, 10], kind="stable")
    for part in np.array_split(by_median, 4):
        below = (true[part, None] <= quantiles[part]).mean(axis=0)
        assert below == pytest.approx(levels, abs=0.035)  # whole tokens: many are equal to a quantile


def test_a_distribution_that_is_too_sure_of_itself() -> None:
    true = lengths()
    narrow, wide = (Emulated(0.5).quantiles(true, 1, spread) for spread in (0.5, 2.0))
    inside = [((true >= q[:, 1]) & (true <= q[:, 18])).mean() for q in (narrow, wide)]
    # of +-1.44 standard deviations: +-0.72, and +-2.88
    assert inside == pytest.approx([2 * ndtr(0.72) - 1, 2 * ndtr(2.88) - 1], abs=0.02)


def test_at_tau_one_a_distribution_is_the_length() -> None:
    true = lengths()
    np.testing.assert_array_equal(Emulated(1.0).quantiles(true, seed=1), true[:, None])
    with pytest.raises(InputError, match="region=all"):
        Emulated(0.8, "longest", 0.7).quantiles(true, seed=1)
