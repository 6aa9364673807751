"""Named workloads keep their published means and quantiles."""

from __future__ import annotations

import time

import numpy as np
import polars as pl
import pytest

from simsched.errors import InputError
from simsched.workload.lengths import QuantileTable, exponential, lognormal
from simsched.workload.named import WORKLOADS, named_workload, rescale
from simsched.workload.resample import resample

MEANS = {
    "sharegpt": (240, 412),
    "lmsys": (85, 293),
    "lmsys(shape=lognormal)": (85, 293),
    "lmsys(shape=lognormal,sigma=1.3)": (85, 293),
    "lmsys(shape=exponential)": (85, 293),
    "lmsys(shape=sharegpt)": (85, 293),
    "azure-conv": (1155, 211),
    "azure-code": (2048, 28),
    "mooncake-conversation": (12035, 343),
}
OF_SESSIONS = {"chat-sessions", "vllm-multi-turn", "coding-agent"}  # test_named_sessions.py


@pytest.mark.parametrize("name", MEANS)
def test_published_means(name: str) -> None:
    trace = named_workload(name).generate(200_000, 8.0, seed=3)
    means = trace.num_prompt_tokens.mean(), trace.num_output_tokens.mean()
    assert means == pytest.approx(MEANS[name], rel=0.015)


def test_every_workload_has_its_mean_tested() -> None:
    assert {name.split("(")[0] for name in MEANS} == set(WORKLOADS) - OF_SESSIONS


def test_sharegpt_outputs_follow_the_real_sample(shared_data: object) -> None:
    real = pl.read_csv(f"{shared_data}/rep26/sharegpt_r16.csv")["output_tokens"].to_numpy()
    drawn = named_workload("sharegpt").generate(200_000, 8.0, seed=3).num_output_tokens
    at = [5, 10, 25, 50, 75, 90, 95, 99]
    np.testing.assert_allclose(np.percentile(drawn, at), np.percentile(real, at), rtol=0.035)


@pytest.mark.parametrize("name", ["sharegpt", "lmsys", "azure-conv", "azure-code"])
def test_every_request_fits_in_the_context_of_llama_3(name: str) -> None:
    workload = named_workload(name)
    assert workload.prompt.values[-1] + workload.output.values[-1] <= 8192


@pytest.mark.parametrize("name", ["sharegpt", "lmsys"])
def test_the_serving_scripts_filter(name: str) -> None:
    trace = named_workload(name).generate(100_000, 8.0, seed=0)
    assert trace.num_prompt_tokens.min() >= 4
    assert trace.num_prompt_tokens.max() <= 1024
    assert trace.num_output_tokens.min() >= 4


def test_the_shape_of_lmsys_matters_and_its_mean_does_not_change() -> None:
    short = {
        shape: np.mean(named_workload(f"lmsys(shape={shape})").generate(50_000, 1.0).num_output_tokens < 30)
        for shape in ("vicuna", "lognormal", "exponential", "sharegpt")
    }
    assert short["vicuna"] > 2 * short["lognormal"]
    assert short["vicuna"] > 2 * short["sharegpt"]


def test_same_seed_same_lengths_at_every_rate() -> None:
    slow, fast = (named_workload("sharegpt").generate(500, rate, seed=5) for rate in (1.0, 64.0))
    np.testing.assert_array_equal(slow.num_output_tokens, fast.num_output_tokens)
    np.testing.assert_array_equal(slow.num_prompt_tokens, fast.num_prompt_tokens)
    other = named_workload("sharegpt").generate(500, 1.0, seed=6)
    assert not np.array_equal(slow.num_output_tokens, other.num_output_tokens)


def test_arrivals_do_not_move_the_lengths() -> None:
    poisson = named_workload("sharegpt").generate(500, 1.0, seed=5)
    closed = named_workload("sharegpt").generate(500, arrivals="closed(users=4,think_time=1)", seed=5)
    np.testing.assert_array_equal(poisson.num_output_tokens, closed.num_output_tokens)
    assert (closed.closed_loop_users, closed.think_time) == (4, 1.0)


def test_a_million_requests_take_about_a_second() -> None:
    workload = named_workload("sharegpt")
    start = time.process_time()
    trace = workload.generate(1_000_000, 8.0, seed=0)
    assert time.process_time() - start < 2.0  # 0.15 s on a quiet machine
    assert len(trace) == 1_000_000


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shareGPT", "unknown; expected one of sharegpt, lmsys"),
        ("sharegpt(mean=3)", "unknown parameter mean"),
        ("lmsys(shape=cauchy)", "shape=cauchy: expected one of vicuna"),
        ("lmsys(shape=lognormal,sigma=x)", "sigma=x: expected a number"),
    ],
)
def test_bad_names(name: str, message: str) -> None:
    with pytest.raises(InputError, match="--workload") as error:
        named_workload(name)
    assert message in str(error.value)


def test_no_requests() -> None:
    with pytest.raises(InputError, match="--num-requests 0"):
        named_workload("sharegpt").generate(0, 1.0)


def test_rescale_sets_the_mean_rate() -> None:
    trace = named_workload("sharegpt").generate(1000, 3.0, seed=0)
    fast = rescale(trace, 12.0)
    assert fast.arrival_time[0] == 0
    assert (len(fast) - 1) / fast.arrival_time[-1] == pytest.approx(12.0)
    assert not rescale(trace, float("inf")).arrival_time.any()


@pytest.mark.parametrize("rate", [0.0, -2.0, float("nan")])
def test_rescale_refuses_no_rate(rate: float) -> None:
    with pytest.raises(InputError, match="--request-rate"):
        rescale(named_workload("sharegpt").generate(10, 3.0), rate)


def test_rescale_refuses_a_burst() -> None:
    with pytest.raises(InputError, match="all at once"):
        rescale(named_workload("sharegpt").generate(10, arrivals="burst"), 2.0)


def test_resample_keeps_requests_whole() -> None:
    source = named_workload("sharegpt").generate(50, 1.0, seed=0)
    drawn = resample(source, 5000, 4.0, seed=1)
    pairs = set(zip(source.num_prompt_tokens.tolist(), source.num_output_tokens.tolist(), strict=True))
    assert set(zip(drawn.num_prompt_tokens.tolist(), drawn.num_output_tokens.tolist(), strict=True)) == pairs
    assert len(set(drawn.request_ids())) == 5000


@pytest.mark.parametrize("sigma", [0.3, 1.0, 1.4])
def test_lognormal_table(sigma: float) -> None:
    table = lognormal(240, sigma, 4, 1024)
    drawn = table.sample(np.random.default_rng(0), 200_000)
    assert table.mean == pytest.approx(240, rel=1e-6)
    assert drawn.mean() == pytest.approx(240, rel=0.01)
    inside = np.log(drawn[(drawn > 20) & (drawn < 200)])
    if sigma == 0.3:
        assert inside.std() < 0.3 * 1.05
    assert drawn.min() >= 4
    assert drawn.max() <= 1024


def test_exponential_table() -> None:
    drawn = exponential(293, 4, 7168).sample(np.random.default_rng(0), 200_000)
    assert drawn.mean() == pytest.approx(293, rel=0.01)
    assert np.median(drawn - 4) == pytest.approx(289 * np.log(2), rel=0.02)


@pytest.mark.parametrize(
    ("probabilities", "values"),
    [((0.0, 1.0), (5.0, 4.0)), ((0.1, 1.0), (1.0, 2.0)), ((0.0, 1.0), (0.0, 2.0)), ((0.0, 1.0), (1.0,))],
)
def test_broken_tables(probabilities: tuple[float, ...], values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected|start"):
        QuantileTable(probabilities, values)


def test_an_impossible_mean_is_refused() -> None:
    with pytest.raises(ValueError, match="no such table"):
        lognormal(240, 1.0, 4, 100)
