"""Which predictor a policy gets, and what is said about it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

from simsched.errors import InputError
from simsched.policies.spec import make_policy
from simsched.predictors.given import lengths_of
from simsched.predictors.spec import apply_predictor, choose_predictor, make_predictor, predict_column
from simsched.workload.named import named_workload
from simsched.workload.trace import Trace


def trace(workload: str = "sharegpt") -> Trace:
    return named_workload(workload).generate(2000, 1.0, seed=0)


def unnamed() -> Trace:
    return trace().with_columns(meta={}, name="mine")


def apply(spec: str | None, policy: str, to: Trace, tau: float | None = None) -> tuple[Trace, str]:
    return apply_predictor(spec, make_policy(policy), to, seed=0, tau=tau)


@pytest.mark.parametrize("policy", ["fcfs", "mlfq", "priority"])
def test_policies_that_read_nothing_leave_the_trace_alone(policy: str) -> None:
    before = trace()
    after, line = apply(None, policy, before)
    assert after is before
    assert line == f"{policy}: reads no prediction"


@pytest.mark.parametrize("policy", ["sjf", "srtf", "ljf"])
def test_the_oracle_even_when_the_trace_has_predictions(policy: str) -> None:
    before = trace().with_columns(predicted_length=np.ones(2000))
    after, line = apply(None, policy, before)
    np.testing.assert_array_equal(after.predicted_length, before.num_output_tokens)
    assert line.endswith("predicted_length from the oracle")
    as_given, _ = apply("trace", policy, before)
    assert as_given is before


def test_the_traces_own_column_comes_first() -> None:
    before = trace().with_columns(score=np.arange(2000.0))
    after, line = apply(None, "ranking", before)
    assert after is before
    assert line == "ranking: score as given in the trace"


@pytest.mark.parametrize(
    ("workload", "policy", "said"),
    [
        ("sharegpt", "ranking", "tau 0.52 (published for sharegpt)"),
        ("lmsys", "ranking", "tau 0.64 (published for lmsys)"),
        ("lmsys(shape=lognormal)", "ranking", "tau 0.64 (published for lmsys)"),
        ("azure-conv", "ranking", "tau 0.52 (nothing published for azure-conv: this is sharegpt's)"),
        ("azure-conv", "classification", "tau 0.6 (of its hidden score; nothing published for azure-conv"),
        ("sharegpt", "po", "tau 0.51 (published for sharegpt)"),
        (
            "sharegpt",
            "classification",
            "(buckets of 820 tokens) from an emulated predictor, tau 0.6 (of its hidden",
        ),
        (
            "sharegpt",
            "classification(num_buckets=82)",
            "(buckets of 100 tokens) from an emulated predictor, tau 0.52",
        ),
        (
            "lmsys",
            "classification(buckets=percentile)",
            "(10 percentile buckets) from an emulated predictor, tau 0.64",
        ),
        ("sharegpt", "ranking(starvation_threshold=200)", "tau 0.52"),
    ],
)
def test_the_published_tau_otherwise(workload: str, policy: str, said: str) -> None:
    before = trace(workload)
    after, line = apply(None, policy, before)
    assert said in line
    column = make_policy(policy).reads
    assert column is not None
    assert getattr(before, column) is None
    assert len(getattr(after, column)) == 2000


def test_an_unnamed_trace_gets_sharegpts_tau() -> None:
    assert "tau 0.52 (nothing published for mine: this is sharegpt's)" in apply(None, "ranking", unnamed())[1]


def test_a_chosen_tau() -> None:
    assert apply("emulated(tau=0.3)", "ranking", trace(), tau=0.9)[1].endswith("tau 0.3")
    assert apply("emulated", "ranking", trace(), tau=0.9)[1].endswith("tau 0.9")
    assert apply(None, "ranking", trace(), tau=0.9)[1].endswith("tau 0.9")
    assert apply("emulated(tau=0.5,region=longest,share=0.7)", "po", trace())[1].endswith(
        "in the longest 70%"
    )


def tau_is_open(spec: str | None, policy: str, to: Trace) -> bool:
    predictor = choose_predictor(spec, make_policy(policy), to)
    return predictor is not None and predictor.tau_is_open


def test_where_a_chosen_tau_is_looked_at() -> None:
    scored = trace().with_columns(score=np.arange(2000.0))
    for spec, policy, to in (
        (None, "ranking", trace()),
        ("emulated", "ranking", scored),
        ("emulated(region=longest,share=0.7)", "po", trace()),
    ):
        assert tau_is_open(spec, policy, to)
    for spec, policy, to in (
        (None, "fcfs", trace()),
        (None, "sjf", trace()),
        (None, "ranking", scored),
        ("oracle", "ranking", trace()),
        ("emulated(tau=0.5)", "ranking", trace()),
        ("./model", "ranking", trace()),
    ):
        assert not tau_is_open(spec, policy, to)


def test_classes_have_the_policys_buckets() -> None:
    for policy, count in (("classification", 10), ("classification(num_buckets=82)", 82)):
        after, _ = apply("oracle", policy, trace())
        assert after.predicted_class is not None
        expected = trace().num_output_tokens // -(-8192 // count)
        np.testing.assert_array_equal(after.predicted_class, expected)
    wrapped = "classification(buckets=percentile,num_buckets=4,starvation_threshold=9)"
    quarters = apply("oracle", wrapped, trace())[0].predicted_class
    assert np.bincount(quarters) == pytest.approx([500] * 4, abs=20)


def test_empirical(tmp_path: Path) -> None:
    path = tmp_path / "sample.csv"
    path.write_text(
        "output_tokens,class_label,rank_score\n" + "".join(f"{n},{n // 50},{-n}\n" for n in range(1, 100))
    )
    after, line = apply(f"empirical(file={path})", "ranking", trace())
    assert line == "ranking: score resampled from the 99 requests of sample.csv"
    assert np.corrcoef(after.score, np.argsort(np.argsort(after.num_output_tokens)))[0, 1] > 0.99
    classes = apply(f"empirical(file={path})", "classification", trace())[0].predicted_class
    assert classes is not None
    assert classes.dtype == np.int64
    assert set(classes) == {0, 1}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("trace", "sharegpt has no column score"),
        ("psychic", "expected one of empirical, emulated, oracle, trace, or the path of a model"),
        ("oracle(tau=1)", "unknown parameter tau; it takes none"),
        ("emulated(tau=1.5)", "tau=1.5: expected a number from 0 to 1"),
        ("emulated(tau=-0.1)", "tau=-0.1: expected a number from 0 to 1"),
        ("emulated(tau=high)", "tau=high: expected a number"),
        ("emulated(rho=0.5)", "unknown parameter rho; expected one of tau, region, share"),
        ("emulated(region=middle,share=0.5)", "region=middle: expected all, shortest, longest"),
        ("emulated(region=longest)", "region=shortest|longest and share= together"),
        ("emulated(share=0.5)", "region=shortest|longest and share= together"),
        ("emulated(tau=0.1,region=longest,share=0.5)", "expected at least 0.5"),
        ("empirical", "expected empirical(file=FILE.csv)"),
        ("empirical(file=/no/such.csv)", "cannot read /no/such.csv"),
        ("./no-such-model", "no such model"),
        ("emulated(tau=0.5", "expected NAME or NAME(key=value"),
    ],
)
def test_bad_specs(spec: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        apply(spec, "ranking", trace())
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_model_needs_prompts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="reads prompts, and sharegpt has none"):
        apply(str(tmp_path), "ranking", trace())


def test_an_uneven_predictor_knows_half_of_the_requests_better() -> None:
    """Its distributions are calibrated all the same, and the narrow ones belong to those it knows."""
    before = trace()
    true = before.num_output_tokens
    spec = "emulated(tau=0.5,uneven=0.4)"
    wide = predict_column(spec, "length_quantiles", before, seed=1)[0].length_quantiles
    scores = predict_column(spec, "score", before, seed=1)[0].score
    assert wide is not None
    assert scores is not None
    lengths = predict_column(spec, "predicted_length", before, seed=1)[0].predicted_length
    np.testing.assert_array_equal(scores, lengths)
    assert (true[:, None] <= wide).mean(axis=0) == pytest.approx((np.arange(20) + 0.5) / 20, abs=0.05)
    width = np.log(wide[:, 15] / wide[:, 4])
    known = width < np.median(width)
    taus = [kendalltau(scores[some], true[some]).statistic for some in (known, ~known)]
    assert taus[0] > 0.7 > 0.3 > taus[1]
    with pytest.raises(InputError, match=r"uneven=0\.6"):
        predict_column("emulated(tau=0.5,uneven=0.6)", "score", before, seed=1)


def test_scores_become_the_lengths_at_their_quantiles() -> None:
    known = np.array([-2.0, -1.0, -1.0, 3.0]), np.array([10.0, 20.0, 40.0, 100.0])
    scores = np.array([-9.0, -2.0, -1.5, -1.0, 0.0, 3.0, 8.0])
    # -1 is in the middle of two: the quantile 0.5, between 20 and 40; 0 is at 0.75, between 40 and 100
    assert lengths_of(scores, *known).tolist() == [10.0, 10.0, 15.0, 30.0, 70.0, 100.0, 100.0]


def test_a_traces_scores_need_their_rankers_data_to_become_lengths(tmp_path: Path) -> None:
    rows = [(0.5, 30), (-1.0, 10), (2.0, 90)]
    file = tmp_path / "training.jsonl"
    file.write_text(
        "".join(
            f'{{"timestamp": 0, "input_length": 5, "output_length": {length}, "score": {score}}}\n'
            for score, length in rows
        )
    )
    before = unnamed().take(np.arange(4)).with_columns(score=np.array([2.0, -1.0, 0.5, 0.5]))
    after, line = predict_column(f"trace(lengths={file})", "predicted_length", before, seed=0)
    assert after.predicted_length is not None
    assert after.predicted_length.tolist() == [90.0, 10.0, 30.0, 30.0]
    assert line == f"predicted_length from the trace's scores, by the quantiles of {file}"
    assert make_predictor(f"trace(lengths={file})").files == (str(file),)
    with pytest.raises(
        InputError, match="mine has no column predicted_length, and its scores are no lengths"
    ):
        predict_column("trace", "predicted_length", before, seed=0)
    (tmp_path / "plain.jsonl").write_text('{"timestamp": 0, "input_length": 5, "output_length": 3}\n')
    with pytest.raises(InputError, match="it has no column score"):
        predict_column(f"trace(lengths={tmp_path}/plain.jsonl)", "predicted_length", before, seed=0)
