"""Rates of sessions: turns/s, in the window in which as many come as go."""

from __future__ import annotations

import numpy as np
import pytest

from simsched.capacity import Question, arm_rates
from simsched.capacity.session_probe import SessionProber
from simsched.capacity.tasks import prober_of, tasks_of
from simsched.errors import InputError
from simsched.sweep.study import make_study
from simsched.workload.starts import last_start, thinking_before
from simsched.workload.trace import Trace

CHAT = {"workload": "chat-sessions(think_time=5)", "policy": "fcfs", "max_num_seqs": 8}


def test_thinking_before_a_turn_is_that_of_the_longest_way() -> None:
    trace = Trace(
        arrival_time=np.array([1.0, 1.0, 1.0, 1.0, 7.0, 7.0]),
        num_prompt_tokens=np.full(6, 10),
        num_output_tokens=np.full(6, 10),
        request_id=["plan", "search", "read", "write", "other", "next"],
        parent=[(), ("plan",), ("plan",), ("search", "read"), (), ("other",)],
        think_times=np.array([np.nan, 1.5, 0.2, 2.0, np.nan, 4.0]),
    )
    assert thinking_before(trace).tolist() == [0.0, 1.5, 0.2, 3.5, 0.0, 4.0]
    assert last_start(trace) == 7.0
    assert thinking_before(trace.with_columns(think_times=None)).tolist() == [0.0] * 6


def test_the_stable_rate_of_sessions() -> None:
    """Eight slots take about as many turns as requests with the same answers."""
    question = Question(burst=100, hour=2000.0)
    study = make_study(CHAT)
    (arm,), _ = arm_rates(study, question, jobs=1)
    assert arm.stable.rate is not None
    assert arm.turns == pytest.approx(3.45, abs=0.1)
    assert arm.sessions(arm.stable) == arm.stable.rate / arm.turns
    row = arm.to_dict(question)
    assert row["stable_session_rate"] == arm.stable.rate / row["turns_per_session"]
    assert row["recovers_rate"] is None
    assert row["reasons"] == {"recovers": "bursts are not searched where turns wait for answers"}
    # beside the same engine where each turn is a request by itself
    single = make_study({**CHAT, "workload": "sharegpt"})
    (alone,), _ = arm_rates(single, Question(burst=0, hour=2000.0), jobs=1)
    assert alone.stable.rate is not None
    assert 0.8 < arm.stable.rate / alone.stable.rate < 1.0


def test_far_above_it_nothing_is_steady() -> None:
    (((arm, load, estimate),),) = tasks_of(make_study(CHAT)).tasks.values()
    prober = prober_of(arm, load, Question(hour=2000.0))
    assert isinstance(prober, SessionProber)
    assert prober.probe(0.5 * estimate).steady
    assert not prober.probe(1.5 * estimate).steady
    assert not prober.probe(4.0 * estimate).steady


@pytest.mark.parametrize(
    ("arrivals", "why"),
    [("sessions(rate=2)", "have a rate of their own, 2; expected sessions"), ("users(4)", "have no rate")],
)
def test_arrivals_with_a_rate_of_their_own(arrivals: str, why: str) -> None:
    with pytest.raises(InputError, match=rf"--request-rate: arrivals .* {why}"):
        arm_rates(make_study({**CHAT, "arrivals": [arrivals]}), Question())
