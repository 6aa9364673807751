"""The empirical predictor brings the sample's own errors along."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

from simsched.errors import InputError
from simsched.predictors.empirical import read_sample
from simsched.workload.named import named_workload


def tau(predicted: np.ndarray, true: np.ndarray) -> float:
    return float(kendalltau(predicted, true).statistic)


def test_the_real_sample_keeps_its_taus(shared_data: Path) -> None:
    sample = read_sample(shared_data / "rep26" / "sharegpt_r16.csv")
    scores, classes = [], []
    for seed in range(4):
        true = named_workload("sharegpt").generate(10_000, 1.0, seed=seed).num_output_tokens
        scores.append(tau(sample.resample("score", true, seed), true))
        classes.append(tau(sample.resample("predicted_class", true, seed), true))
    assert np.mean(scores) == pytest.approx(0.517, abs=0.01)
    assert np.mean(classes) == pytest.approx(0.210, abs=0.01)


def sample_file(folder: Path, header: str, *rows: str) -> Path:
    path = folder / "sample.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_errors_stay_where_they_are(tmp_path: Path) -> None:
    # perfect up to length 500, upside down above
    rows = [f"{n},{n if n <= 500 else 1501 - n}" for n in range(1, 1001)]
    sample = read_sample(sample_file(tmp_path, "output_length,score", *rows))
    true = np.random.default_rng(0).permutation(np.arange(1, 4001))
    score = sample.resample("score", true, seed=0)
    short = true <= 2000
    assert tau(score[short], true[short]) > 0.98
    assert tau(score[~short], true[~short]) < -0.98


@pytest.mark.parametrize(
    ("header", "higher", "sign"),
    [
        ("output_length,score", None, 1),
        ("output_tokens,rank_score", None, -1),
        ("output_length,score", "shorter", -1),
        ("output_length,rank_score", "longer", 1),
    ],
)
def test_what_a_higher_score_means(tmp_path: Path, header: str, higher: str | None, sign: int) -> None:
    sample = read_sample(sample_file(tmp_path, header, "1,10", "5,20", "9,30"), higher)
    assert (sign * sample.predictions["score"]).tolist() == [10, 20, 30]


def test_seeds_share_and_differ(tmp_path: Path) -> None:
    rows = [f"{n},{n * 7 % 997}" for n in range(1, 997)]
    sample = read_sample(sample_file(tmp_path, "output_length,score", *rows))
    true = np.arange(1, 5000)
    first, again, other = (sample.resample("score", true, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["output_length,score"], "expected a header and at least one row"),
        (["length,score", "1,2"], "sample.csv:1: expected a column output_length or output_tokens"),
        (["output_length,score", "1,2", "x,2"], "sample.csv:3: output_length 'x': expected a number"),
        (["output_length,score", "1,2", "0,2"], "sample.csv:3: output_length '0'"),
        (["output_length,score", "1,nan"], "sample.csv:2: score 'nan'"),
        (["output_length,score", "1"], "sample.csv:2: score 'nothing'"),
    ],
)
def test_bad_samples(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(InputError) as error:
        read_sample(sample_file(tmp_path, *lines))
    assert message in str(error.value)


def test_unreadable_samples(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_sample(tmp_path / "none.csv")
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="not a CSV text file"):
        read_sample(tmp_path / "binary")
    with pytest.raises(InputError, match="higher=up: expected longer or shorter"):
        read_sample(tmp_path / "none.csv", "up")


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    sample = read_sample(sample_file(tmp_path, "output_length,score", "1,2"))
    with pytest.raises(InputError, match="expected a column predicted_length"):
        sample.resample("predicted_length", np.array([1]), 0)


def test_a_distribution_is_that_of_similar_requests(tmp_path: Path) -> None:
    """Calibrated, and as narrow as the sample's predictions are good."""
    rng = np.random.default_rng(3)
    z = rng.normal(size=4000)
    sample = np.exp(5 + z).round() + 1
    noisy = z + rng.normal(size=4000)
    rows = [f"{length:g},{score}" for length, score in zip(sample, noisy, strict=True)]
    true = (np.exp(7 + 1.5 * rng.normal(size=6000)).round() + 1).astype(np.int64)
    levels = (np.arange(20) + 0.5) / 20
    widths = []
    for header, lines in (
        ("output_length,score", rows),
        ("output_length", [row.split(",")[0] for row in rows]),
    ):
        quantiles = read_sample(sample_file(tmp_path, header, *lines)).resample("length_quantiles", true, 0)
        assert quantiles.shape == (6000, 20)
        assert (true[:, None] <= quantiles).mean(axis=0) == pytest.approx(levels, abs=0.025)
        widths.append(float(np.log(quantiles[:, 15] / quantiles[:, 4]).mean()))
    # half of the variance of the log length is explained by the score
    assert widths[0] == pytest.approx(widths[1] / 2**0.5, rel=0.1)
