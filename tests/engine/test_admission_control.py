"""Requests that the server refuses: which, and that they are counted and not lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simsched.cli import main
from simsched.cost_model.models import LinearCost
from simsched.engine.admissible import check_admissible
from simsched.engine.config import EngineConfig, engine_config
from simsched.engine.simulator import simulate
from simsched.errors import InputError
from simsched.metrics import summarize
from simsched.policies.spec import make_policy
from simsched.record import RunRecord
from simsched.request_table import request_table
from simsched.results import Results
from simsched.workload.trace import Trace
from tests.engine.scenarios import Linear, same
from tests.engine.scenarios import trace as drawn

SECOND = LinearCost(t0=1.0, a=0.0, b=0.0, c=0.0, d=0.0)
"""Every step takes a second."""


def run(arrivals: list[float], prompts: list[int], outputs: list[int], **options: Any) -> RunRecord:
    """Leaping, which equals stepping."""
    trace = Trace(np.array(arrivals), np.array(prompts), np.array(outputs))
    config = engine_config(num_gpu_blocks=500, max_model_len=1000, **options)
    record = simulate(trace, make_policy("fcfs"), SECOND, config)
    same(simulate(trace, make_policy("fcfs"), SECOND, config, leap=False), record)
    return record


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    ("arrivals", "outputs", "options", "refused"),
    [
        # a request that comes while two are under way is the third
        ([0.0, 0.5, 1.5], [9, 9, 9], {"max_num_queued_reqs": 2}, [2]),
        ([0.0, 0.5, 1.5], [9, 9, 9], {"max_num_queued_reqs": 3}, []),
        ([0.0, 0.5, 1.5], [9, 9, 9], {"max_num_queued_reqs": 0}, [0, 1, 2]),
        # the first one ends at 2: until then it counts, at that very time no longer
        ([0.0, 1.9], [2, 1], {"max_num_queued_reqs": 1}, [1]),
        ([0.0, 2.0], [2, 1], {"max_num_queued_reqs": 1}, []),
        # prompts of 10 tokens count until their first token is out, at 1; the new one does not count
        ([0.0, 0.0, 0.0, 0.5], [5, 5, 5, 5], {"max_num_queued_tokens": 20}, [2, 3]),
        ([0.0, 0.0, 0.0, 1.0], [5, 5, 5, 5], {"max_num_queued_tokens": 20}, [2]),
        ([0.0, 0.0, 0.0, 0.5], [5, 5, 5, 5], {"max_num_queued_tokens": 21}, [3]),
        ([0.0, 5.0], [2, 2], {"max_num_queued_tokens": 0}, [0, 1]),
        # who is refused for its tokens takes no place among the requests
        (
            [0.0, 0.5, 1.0, 1.5],
            [9, 9, 9, 9],
            {"max_num_queued_tokens": 10, "max_num_queued_reqs": 3},
            [1, 3],
        ),
    ],
)
def test_who_is_refused(
    arrivals: list[float], outputs: list[int], options: dict[str, Any], refused: list[int], asynchronous: bool
) -> None:
    prompts = [10] * len(arrivals)
    record = run(arrivals, prompts, outputs, async_scheduling=asynchronous, **options)
    assert record.rejected is not None
    assert np.flatnonzero(record.rejected).tolist() == refused
    assert np.flatnonzero(~record.finished).tolist() == refused
    assert np.isnan(record.first_scheduled_time[record.rejected]).all()


@pytest.mark.parametrize("spec", ["fcfs", "priority", "priority(preemptive=true)", "srtf", "mlfq"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 1000),
    rate=st.sampled_from([0.0, 2.0, 20.0]),
    reqs=st.sampled_from([None, 3, 20]),
    tokens=st.sampled_from([None, 500]),
)
def test_leaping_refuses_the_same(
    spec: str, seed: int, rate: float, reqs: int | None, tokens: int | None
) -> None:
    requests = drawn(50, rate, seed, longest=1500)
    config = engine_config(
        max_num_seqs=8, num_gpu_blocks=160, max_model_len=1500,
        max_num_queued_reqs=reqs, max_num_queued_tokens=tokens,
    )  # fmt: skip
    stepped = simulate(requests, make_policy(spec), Linear(), config, leap=False)
    leapt = simulate(requests, make_policy(spec), Linear(), config)
    same(stepped, leapt)
    np.testing.assert_array_equal(stepped.rejected, leapt.rejected)


def test_the_refused_are_counted_and_in_the_table() -> None:
    record = run([0.0, 0.5, 1.5, 1.6], [10] * 4, [3, 3, 3, 3], max_num_queued_reqs=2)
    assert record.counters == {"rejected by max_num_queued_reqs": 2}
    metrics = summarize(record, goodput={"e2el": 1e9})
    assert metrics["num_requests"] == 4
    assert metrics["completed"] == 2
    assert metrics["unfinished"] == metrics["rejected"] == 2
    assert metrics["good_share"] == 0.5
    table = request_table(record)
    assert table["rejected"].to_list() == [False, False, True, True]
    assert table["finish_time"].is_null().to_list() == [False, False, True, True]


def test_a_study_says_how_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--workload", "sharegpt", "--policy", "fcfs", "--arrivals", "burst", "--num-requests"]
    with pytest.raises(SystemExit) as stop:
        main([*words, "40", "--max-num-queued-reqs", "25", "-o", str(tmp_path / "out"), "--no-plot"])
    assert not stop.value.code
    assert "refused" in capsys.readouterr().out
    results = Results.open(tmp_path / "out")
    assert results.summary["rejected"].to_list() == [15]
    assert results.requests.filter(pl.col("rejected"))["finish_time"].is_null().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"max_num_queued_reqs": 4, "vllm_version": "0.28.0"},
            "vLLM 0.28.0 does not have it, 0.29 and later",
        ),
        ({"max_num_queued_tokens": 0, "vllm_version": "0.24.0"}, "vLLM 0.24.0 does not have it"),
        ({"max_num_queued_reqs": -1}, "--max-num-queued-reqs -1"),
        ({"max_num_queued_reqs": 4, "preset": "vllm-0.4.1-ltr"}, "no such option"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EngineConfig(**options)


def test_not_in_a_closed_loop() -> None:
    trace = Trace(np.zeros(3), np.full(3, 9), np.full(3, 9), closed_loop_users=2)
    config = engine_config(num_gpu_blocks=100, max_model_len=100, max_num_queued_reqs=1)
    with pytest.raises(InputError, match="--max-num-queued-reqs: a user of a closed loop or session waits"):
        check_admissible(trace, config)
