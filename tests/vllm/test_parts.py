"""The parts of the adapter that need no vLLM: settings, versions, hints, the tracker of priorities."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simsched.engine.arrival import arrivals_of
from simsched.engine.preemption import Room, plan_preemptions
from simsched.engine.step_clock import StepClock
from simsched.engine.vllm_v1.stepping_request import Request
from simsched.errors import InputError
from simsched.policies.spec import make_policy
from simsched.vllm.priority_tracker import PriorityTracker
from simsched.vllm.settings import read_settings
from simsched.vllm.step_log import features
from simsched.vllm.version import check_version
from simsched.vllm.view import VllmView, read_hints
from simsched.workload.trace import Trace


@pytest.mark.parametrize("version", ["0.24.0", "0.32.0+cpu", "0.33.1"])
def test_tested_versions_are_accepted(version: str) -> None:
    check_version(version)


@pytest.mark.parametrize("version", ["0.23.0", "0.34.0", "1.0.0", "dev"])
def test_other_versions_are_refused(version: str) -> None:
    with pytest.raises(InputError, match=r"not supported.*0\.24 to 0\.33"):
        check_version(version)


def test_settings_name_the_wrong_key() -> None:
    assert read_settings({}).policy == "fcfs"
    with pytest.raises(InputError, match=r"step_lgo.*valid keys"):
        read_settings({"step_lgo": "x"})


def engine_request(**extra: Any) -> Any:
    return SimpleNamespace(
        request_id="a-1", num_prompt_tokens=5, num_output_tokens=0, num_computed_tokens=0, num_preemptions=0,
        priority=3, max_tokens=99, sampling_params=SimpleNamespace(extra_args=extra or None),
    )  # fmt: skip


def test_hints_become_the_policys_view() -> None:
    request = engine_request(
        simsched_score=0.5, simsched_predicted_class="2", simsched_tenant="t", other=1, simsched_priority=[1]
    )
    assert read_hints(request) == {"score": 0.5, "predicted_class": "2", "tenant": "t"}
    view = VllmView(request, 1.0, 0, StepClock())
    assert (view.score, view.predicted_class, view.tenant, view.priority) == (0.5, 2, "t", 3)
    assert not hasattr(view, "max_tokens")


def test_features_of_a_mixed_batch() -> None:
    batch = [(1, 9, True), (1, 0, False), (8, 4, False)]
    assert features(batch) == {"P": 9, "N": 1, "S": 2, "K": 10, "Q": 0.5 + 8 * 8.0}


def test_the_worst_make_way_only_if_that_is_enough() -> None:
    size = SimpleNamespace
    running = [
        (1.0, size(num_tokens=30, num_computed_tokens=32)),
        (5.0, size(num_tokens=9, num_computed_tokens=16)),
    ]
    small, large = size(num_tokens=20, num_computed_tokens=0), size(num_tokens=200, num_computed_tokens=0)
    full = Room(slots=0, blocks=1, tokens=100)
    assert plan_preemptions([(2.0, small)], running, full, 16) == [running[1][1]]
    assert plan_preemptions([(2.0, large)], running, full, 16) == []
    assert plan_preemptions([(5.0, small)], running, full, 16) == []  # ties do not displace


@settings(max_examples=60, deadline=None)
@given(st.data())
@pytest.mark.parametrize(
    "spec",
    [
        "mlfq",
        "srtf",
        "po",
        "mlfq(starvation_seconds=0.2)",
        "ranking(starvation_threshold=3,starvation_period=2)",
    ],
)
def test_the_tracker_keeps_the_order_of_the_simulators_reference(spec: str, data: st.DataObject) -> None:
    """Random steps: the tracker, which asks only when told to, agrees with asking everybody in each step."""
    n = 5
    lengths = data.draw(st.lists(st.integers(1, 60), min_size=n, max_size=n))
    trace = Trace(
        arrival_time=np.zeros(n), num_prompt_tokens=np.full(n, 4), num_output_tokens=np.full(n, 100),
        score=np.array(lengths, float), predicted_length=np.array(lengths, float),
    )  # fmt: skip
    reference, policy = make_policy(spec), make_policy(spec)
    clock = StepClock()
    priorities = PriorityTracker(policy, clock)
    requests = [Request(number, arrival) for number, arrival in enumerate(arrivals_of(trace))]
    views = []
    for request, length in zip(requests, lengths, strict=True):
        reference.on_arrival(request, 0.0)
        request.announce(reference.next_change(request, 0.0), 0.0)
        hints = {"simsched_score": length, "simsched_predicted_length": length,
                 "simsched_request_id": request.request_id}  # fmt: skip
        views.append(VllmView(engine_request(**hints), 0.0, request.number, clock))
        priorities.add(views[-1], 0.0)
    now = 0.0
    for _ in range(data.draw(st.integers(1, 40))):
        for request in requests:
            if request.due(now):
                reference.on_change(request, now)
                request.announce(reference.next_change(request, now), now)
            request.key = reference.priority(request, now)
        priorities.refresh(now)
        assert [view.key[0] for view in views] == [request.key for request in requests]
        ran = data.draw(st.sets(st.integers(0, n - 1), min_size=1))
        end = now + data.draw(st.floats(0.001, 0.05))
        for index in ran:
            requests[index].num_output_tokens += 1
            views[index].engine_request.num_output_tokens += 1
        priorities.step_done([views[index] for index in sorted(ran)], now, end)
        for request in requests:
            if request.step_done(now, end, request.number in ran):
                request.announce(reference.next_change(request, end), end)
        assert [view.steps_idle for view in views] == [request.steps_idle for request in requests]
        assert [view.attained_service for view in views] == [request.attained_service for request in requests]
        now = end
