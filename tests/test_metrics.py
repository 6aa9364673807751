"""Metrics against hand-made runs, and against vLLM bench's definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simsched.alone import alone_time
from simsched.cost_model.base import StepFeatures
from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.histogram import WeightedHistogram
from simsched.metrics import METRICS, parse_goodput, summarize
from simsched.policies.spec import make_policy
from simsched.record import RunRecord
from simsched.request_table import request_table
from simsched.workload.trace import Trace

NAN = math.nan


def make_record() -> RunRecord:
    """Four requests: a usual one, a one-token output, a gap longer than its TTFT, one never finished."""
    itl = WeightedHistogram()
    for gap in (0.1, 0.3, 0.5, 1.5):
        itl.add(gap)
    return RunRecord(
        trace=Trace(
            arrival_time=np.array([1.0, 2.0, 3.0, 4.0]),
            num_prompt_tokens=np.array([10, 20, 30, 40]),
            num_output_tokens=np.array([3, 1, 3, 5]),
        ),
        arrival_time=np.array([1.0, 2.0, 3.0, 4.0]),
        first_scheduled_time=np.array([1.0, 2.5, 3.0, NAN]),
        first_token_time=np.array([1.2, 3.0, 4.0, NAN]),
        finish_time=np.array([1.6, 3.0, 6.0, NAN]),
        num_preemptions=np.array([0, 0, 2, 1]),
        max_itl=np.array([0.3, NAN, 1.5, NAN]),
        itl=itl,
        end_time=6.0,
    )


def test_values_by_hand() -> None:
    values = summarize(
        make_record(), goodput={"ttft": 900, "tpot": 300}, alone=np.array([0.3, 0.5, 1.5, 1.0])
    )
    assert tuple(values) == METRICS
    expected = {
        "duration": 5.0,  # first arrival (1) to last finish (6)
        "num_requests": 4,
        "completed": 3,
        "unfinished": 1,
        "total_input_tokens": 60,
        "total_output_tokens": 7,
        "request_throughput": 3 / 5,
        "request_goodput": 1 / 5,  # the first; the second's TTFT and the third's TPOT are over
        "output_throughput": 7 / 5,
        "total_token_throughput": 67 / 5,
        "mean_ttft_ms": 1e3 * (0.2 + 1.0 + 1.0) / 3,
        "median_ttft_ms": 1e3,
        "mean_tpot_ms": 1e3 * (0.2 + 1.0) / 2,  # without the one-token output
        "mean_itl_ms": 600.0,
        "mean_e2el_ms": 1e3 * (0.6 + 1.0 + 3.0) / 3,
        "mean_latency_per_token_ms": 1e3 * (0.2 + 1.0 + 1.0) / 3,
        "mean_max_waiting_time_ms": 1e3 * (0.3 + 1.0 + 1.5) / 3,
        "mean_slowdown": (2 + 2 + 2) / 3,
        "num_preemptions": 3,
    }
    assert {name: values[name] for name in expected} == pytest.approx(expected)
    assert values["std_e2el_ms"] == pytest.approx(1e3 * np.std([0.6, 1.0, 3.0]))
    assert values["p90_e2el_ms"] == pytest.approx(1e3 * np.percentile([0.6, 1.0, 3.0], 90))
    assert values["p99_itl_ms"] == pytest.approx(1e3 * np.percentile([0.1, 0.3, 0.5, 1.5], 99), rel=1e-3)


def test_one_token_output_is_good_for_tpot() -> None:
    assert summarize(make_record(), goodput={"tpot": 1})["request_goodput"] == pytest.approx(1 / 5)


def test_nothing_finished() -> None:
    record = make_record()
    record.finish_time[:] = NAN
    values = summarize(record)
    assert values["unfinished"] == 4
    assert values["completed"] == 0
    assert math.isnan(values["request_throughput"])
    assert math.isnan(values["p99_ttft_ms"])


def test_request_table_has_nulls_where_unfinished() -> None:
    table = request_table(make_record(), alone=np.ones(4))
    assert table.columns == [
        "request_id", "arrival_time", "num_prompt_tokens", "num_output_tokens", "first_scheduled_time",
        "first_token_time", "finish_time", "num_preemptions", "max_itl", "slowdown", "rejected",
    ]  # fmt: skip
    assert table["request_id"].to_list() == ["0", "1", "2", "3"]
    last = table.row(3, named=True)
    assert last["finish_time"] is None
    assert last["slowdown"] is None
    assert last["arrival_time"] == 4.0
    assert table["max_itl"].null_count() == 2
    assert table["slowdown"].to_list()[:3] == pytest.approx([0.6, 1.0, 3.0])


class Linear:
    """A cost model with every term of the published linear form."""

    def step_time(self, f: StepFeatures) -> float:
        return 0.01 + 1e-4 * f.P + 2e-4 * f.N + 3e-7 * f.K + 4e-9 * f.Q

    def decode_line(self, N: int, num_waiting: int) -> tuple[float, float]:
        return 0.01 + 2e-4 * N, 3e-7


@pytest.mark.parametrize(("prompt", "output"), [(1, 1), (64, 2), (65, 1), (200, 37), (128, 5)])
def test_alone_time_equals_stepping(prompt: int, output: int) -> None:
    config = engine_config(max_num_batched_tokens=64, num_gpu_blocks=500, max_model_len=4096)
    cost, seconds, computed = Linear(), 0.0, 0
    while computed < prompt:
        n = min(64, prompt - computed)
        seconds += cost.step_time(StepFeatures(P=n, S=1, Q=n * (computed + n / 2)))
        computed += n
    for _ in range(output - 1):
        seconds += cost.step_time(StepFeatures(N=1, K=computed + 1))
        computed += 1
    trace = Trace(np.zeros(2), np.array([7, prompt]), np.array([3, output]))
    assert alone_time(trace, cost, config)[1] == pytest.approx(seconds, rel=1e-12)


def test_parse_goodput() -> None:
    assert parse_goodput("ttft:200,tpot:50") == {"ttft": 200.0, "tpot": 50.0}


@pytest.mark.parametrize(
    "text", ["", "ttft", "ttft:", "ttft:-1", "ttft:nan", "itl:5", "ttft:1,ttft:2", "ttft:x"]
)
def test_parse_goodput_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_goodput(text)


@pytest.mark.parametrize("preset", ["vllm-v1", "vllm-0.4.1-ltr"])
def test_a_request_alone_is_not_slowed_down(preset: str) -> None:
    """The closed form equals the engine itself, on requests so far apart that none meets another."""
    n = 20
    trace = Trace(
        arrival_time=np.arange(n) * 1000.0,
        num_prompt_tokens=np.array([1 + 97 * i for i in range(n)]),
        num_output_tokens=np.array([1 + 31 * i % 80 for i in range(n)]),
    )
    config = engine_config(preset, max_num_batched_tokens=256, num_gpu_blocks=500, max_model_len=4096)
    record = simulate(trace, make_policy("fcfs"), Linear(), config)
    slowdown = (record.finish_time - record.arrival_time) / alone_time(trace, Linear(), config)
    assert slowdown == pytest.approx(np.ones(n), rel=1e-9)
