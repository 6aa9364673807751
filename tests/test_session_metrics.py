"""Metrics of sessions: by hand, and against sessions that really are alone."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from simsched.alone import session_alone_time
from simsched.cost_model.models import LinearCost
from simsched.cost_model.profile import load_profile
from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.metrics import METRICS
from simsched.policies.spec import make_policy
from simsched.session_metrics import SESSION_METRICS, session_numbers, session_values
from simsched.sweep.execute import run_study
from simsched.sweep.study import make_study
from simsched.workload.named import named_workload
from simsched.workload.sessions import waits_for
from simsched.workload.trace import Trace

NAN = math.nan
COST = LinearCost(t0=0.0113, a=5.32e-5, b=6.42e-5, c=8.07e-8, d=3.68e-9)


def test_by_hand() -> None:
    session = session_numbers(["a", "b", None, "a", "b", "c", "d"])
    assert session is not None
    assert session.tolist() == [0, 1, -1, 0, 1, 2, 3]
    arrival = np.array([1.0, 2.0, 0.0, 7.0, 9.0, 3.0, 99.0])
    finish = np.array([4.0, 4.0, 1.0, 11.0, NAN, 5.0, 100.0])
    alone = np.array([5.0, 3.0, NAN, 5.0, 3.0, 1.0, 1.0])
    values = session_values(session, arrival, finish, alone, (0.0, 50.0))
    assert tuple(values) == SESSION_METRICS
    assert values["num_sessions"] == 3  # d begins later
    assert values["unfinished_sessions"] == 1  # b
    assert values["mean_first_answer_ms"] == pytest.approx(1e3 * (3 + 2 + 2) / 3)
    assert values["mean_session_completion_ms"] == pytest.approx(1e3 * (10 + 2) / 2)
    assert values["p99_session_completion_ms"] == pytest.approx(1e3 * (2 + 0.99 * 8))
    assert values["median_session_slowdown"] == pytest.approx(2.0)


def test_a_turn_that_never_came_leaves_its_session_unfinished() -> None:
    session, nans = np.array([0, 0]), np.array([NAN, NAN])
    values = session_values(session, np.array([NAN, 2.0]), np.array([NAN, 3.0]), nans, (0.0, 9.0))
    assert values["unfinished_sessions"] == 1
    assert values["mean_first_answer_ms"] == pytest.approx(1e3)
    assert math.isnan(values["mean_session_completion_ms"])


def completions(trace: Trace, finish: np.ndarray, arrival: np.ndarray) -> np.ndarray:
    session = session_numbers(trace.session_id)
    assert session is not None
    return np.array([
        finish[session == number].max() - arrival[session == number].min() for number in session
    ])  # fmt: skip


@pytest.mark.parametrize("caching", [True, False])
@pytest.mark.parametrize("name", ["chat-sessions", "vllm-multi-turn"])
def test_alone_is_what_a_session_takes_when_only_one_is_alive(name: str, caching: bool) -> None:
    config = engine_config(num_gpu_blocks=4000, max_model_len=8192, enable_prefix_caching=caching)
    trace = named_workload(name).generate(300, arrivals="users(1)", seed=2)
    trace = trace.with_columns(parent=None, history_length=None)  # what sessions share no session has alone
    record = simulate(trace, make_policy("fcfs"), COST, config)
    alone = session_alone_time(trace, COST, config)
    np.testing.assert_allclose(alone, completions(trace, record.finish_time, record.arrival_time), rtol=1e-9)


def test_what_sessions_share_does_not_count() -> None:
    config = engine_config(num_gpu_blocks=4000, max_model_len=8192)
    shared = named_workload("vllm-multi-turn").generate(100, arrivals="users(1)", seed=2)
    own = shared.with_columns(parent=None, history_length=None)
    np.testing.assert_array_equal(
        session_alone_time(shared, COST, config), session_alone_time(own, COST, config)
    )


def test_asynchronous_scheduling_is_a_few_launches_off() -> None:
    profile = load_profile("a100-80gb/llama-3-8b")
    config = engine_config(num_gpu_blocks=4000, max_model_len=8192, async_scheduling=True)
    trace = named_workload("chat-sessions").generate(30, arrivals="users(1)", seed=2)
    record = simulate(trace, make_policy("fcfs"), profile.step_cost(None), config)
    alone = session_alone_time(trace, profile.step_cost(None), config)
    assert alone is not None
    took = completions(trace, record.finish_time, record.arrival_time)
    np.testing.assert_allclose(alone, took, rtol=0.01)


def test_turns_that_fan_out_and_join() -> None:
    config = engine_config(num_gpu_blocks=100, max_model_len=512)
    trace = Trace(
        np.zeros(4), np.full(4, 8), np.array([2, 1, 5, 1]), request_id=list("abcd"),
        session_id=["s"] * 4, parent=[(), ("a",), ("a",), ("b", "c")],
        think_times=np.array([NAN, 1.0, 2.0, 0.5]),
    )  # fmt: skip
    second = LinearCost(t0=1.0, a=0, b=0, c=0, d=0)
    # a: 2, then c: 2 + 5, then d: 0.5 + 1
    assert session_alone_time(trace, second, config) == pytest.approx([10.5] * 4)
    assert waits_for(trace)[3] == (1, 2)


def test_without_sessions_there_are_none(tmp_path: Path) -> None:
    config = engine_config(num_gpu_blocks=100, max_model_len=512)
    assert session_alone_time(named_workload("sharegpt").sample(5), COST, config) is None
    study = make_study({"policy": "fcfs", "request_rate": 4, "num_requests": 20})
    results = run_study(study, tmp_path / "plain", jobs=1)
    assert not set(SESSION_METRICS) & set(results.summary.columns)
    assert "session_alone" not in results.requests.columns


def test_summaries_have_them_where_a_cell_does(tmp_path: Path) -> None:
    lines = [
        {"timestamp": 0, "input_length": 40, "output_length": 10},
        {"timestamp": 1, "input_length": 40, "output_length": 10},
    ]
    (tmp_path / "plain.jsonl").write_text("\n".join(map(json.dumps, lines)))
    lines = [{"session_id": "a", **line} for line in lines]
    (tmp_path / "turns.jsonl").write_text("\n".join(map(json.dumps, lines)))
    traces = [str(tmp_path / f"{name}.jsonl") for name in ("plain", "turns")]
    results = run_study(make_study({"policy": "fcfs", "trace": traces}), tmp_path / "out", jobs=1)
    plain, turns = results.summary.to_dicts()
    assert plain["num_sessions"] is None
    assert turns["num_sessions"] == 1
    assert turns["mean_session_slowdown"] == pytest.approx(1.0, rel=0.1)
    assert results.summary.columns[-len(SESSION_METRICS) :] == list(SESSION_METRICS)
    header = (tmp_path / "out" / "summary.csv").read_text().splitlines()[0]
    assert header.endswith(",".join(SESSION_METRICS))
    assert {"mean", "ci95", "n"} == set(results.over_runs[1]["mean_session_slowdown"])
    assert set(METRICS) < set(results.summary.columns)
