"""The virtual token counter: values by hand, and the bound that the paper proves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.policies.fcfs import Fcfs
from simsched.policies.vtc import Vtc
from simsched.record import RunRecord
from simsched.workload.trace import Trace
from tests.engine.scenarios import Linear
from tests.policies.view import View


def test_a_counter_adds_up_prompts_and_outputs() -> None:
    policy = Vtc()
    one = View("one", tenant="a", num_prompt_tokens=10)
    policy.on_arrival(one, 0.0)
    assert policy.priority(one, 0.0) == (1, 0.0)
    one.steps_run, one.num_output_tokens = 1, 1
    assert policy.priority(one, 1.0) == (0, 0.0)  # it has run: it goes on
    assert policy.counter("a", 1.0) == 10 + 2 * 1
    one.num_output_tokens = 5
    assert policy.counter("a", 2.0) == 10 + 2 * 5
    policy.on_finish(one, 2.0)
    assert policy.counter("a", 2.0) == 20


def test_a_tenant_that_comes_back_is_lifted_to_the_least_of_those_that_wait() -> None:
    policy = Vtc()
    one = View("one", tenant="a", num_prompt_tokens=100)
    two = View("two", tenant="b", num_prompt_tokens=40)
    for request in (one, two):
        policy.on_arrival(request, 0.0)
    one.steps_run, one.num_output_tokens = 3, 1
    two.steps_run, two.num_output_tokens = 1, 1
    for name, tenant in (("three", "b"), ("four", "a")):  # b was admitted last, and a has had more
        policy.on_arrival(View(name, tenant=tenant), 1.0)
    new = View("five", tenant="c")
    policy.on_arrival(new, 1.0)
    assert policy.priority(new, 1.0) == (1, 42)


def test_a_tenant_that_finds_nobody_waiting_is_lifted_to_the_one_admitted_last() -> None:
    policy = Vtc()
    early, late = (
        View("early", tenant="a", num_prompt_tokens=100),
        View("late", tenant="b", num_prompt_tokens=7),
    )
    for request in (early, late):
        policy.on_arrival(request, 0.0)
    early.steps_run, early.num_output_tokens = 9, 9
    late.steps_run, late.num_output_tokens = 2, 2
    new = View("new", tenant="c")
    policy.on_arrival(new, 1.0)
    assert policy.priority(new, 1.0) == (1, 7 + 2 * 2)
    for request in (early, late):
        policy.on_finish(request, 2.0)
    other = View("other", tenant="d")
    new.steps_run = 1
    policy.on_finish(new, 3.0)
    policy.on_arrival(other, 4.0)
    assert policy.priority(other, 4.0) == (1, policy.counter("c", 4.0))


@pytest.mark.parametrize("last", [0, 1])
def test_of_those_done_at_one_time_the_one_admitted_last_counts(last: int) -> None:
    """In whichever order the engine tells of them."""
    policy = Vtc()
    first, second = View("0", tenant="a", num_prompt_tokens=70), View("1", tenant="b", num_prompt_tokens=7)
    for request in (first, second):
        policy.on_arrival(request, 0.0)
    first.steps_run, second.steps_run = 9, 3
    for request in (first, second) if last else (second, first):
        policy.on_finish(request, 2.0)
    new = View("2", tenant="c")
    policy.on_arrival(new, 3.0)
    assert policy.priority(new, 3.0) == (1, 7)


def test_who_was_admitted_last_is_found_among_many() -> None:
    """Though not everybody runs in every step, and some are done."""
    random = np.random.default_rng(0)
    policy = Vtc()
    here: list[View] = []
    for number in range(3000):
        request = View(str(number), tenant=f"t{number % 7}", arrival_time=number / 10)
        policy.on_arrival(request, number / 10)
        last = policy._admitted_last()
        if here:
            assert last is policy._tenants[here[-1].tenant]
        request.steps_run = 1
        here.append(request)
        for each in here:
            each.steps_run += int(random.integers(3))
        while len(here) > 20:
            policy.on_finish(here.pop(int(random.integers(len(here)))), number / 10)
    assert len(policy._latest) < 2000


def test_of_those_seen_together_the_one_that_has_run_least_was_admitted_last() -> None:
    policy = Vtc()
    requests = [View(str(number), tenant=f"t{number}") for number in range(3)]
    for request in requests:
        policy.on_arrival(request, 0.0)
    for request, steps_run in zip(requests, (5, 2, 7), strict=True):
        request.steps_run = steps_run
    policy.on_arrival(View("3", tenant="t3"), 1.0)
    assert policy._admitted_last() is policy._tenants["t1"]


def backlogged(seed: int, tenants: int) -> Trace:
    """Everybody sends all at once; one sends ever longer requests than the others."""
    random = np.random.default_rng(seed)
    n = 40 * tenants
    owner = random.integers(tenants, size=n)
    outputs = np.clip(random.lognormal(3.0, 1.0, n) * np.where(owner == 0, 3, 1), 1, 300).astype(np.int64)
    prompts = np.clip(random.lognormal(3.5, 1.0, n), 1, 200).astype(np.int64)
    return Trace(np.zeros(n), prompts, outputs, tenant=[f"t{i}" for i in owner])


def largest_difference(record: RunRecord, trace: Trace) -> float:
    """Of the service of any two tenants in any interval in which both have something waiting."""
    assert trace.tenant is not None
    owner = np.array(trace.tenant)
    names = sorted(set(trace.tenant))
    # as each request is admitted: what each tenant has been served by then, by its admitted requests
    until = {name: record.first_scheduled_time[owner == name].max() for name in names}
    moments = np.unique(record.first_scheduled_time)
    first, last = record.first_token_time, record.finish_time
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = np.where(last > first, (trace.num_output_tokens - 1) / (last - first), 0.0)
    served = {}
    for name in names:
        mine = owner == name
        generated = np.clip(moments[:, None] - first[mine], 0, (last - first)[mine]) * rate[mine]
        generated += moments[:, None] >= first[mine]
        prompts = (moments[:, None] >= first[mine]) * trace.num_prompt_tokens[mine]
        served[name] = (prompts + 2 * generated).sum(axis=1)
    worst = 0.0
    for one in names:
        for other in names:
            both = moments <= min(until[one], until[other])
            gap = (served[one] - served[other])[both]
            worst = max(worst, float((gap - np.minimum.accumulate(gap)).max()))
    return worst


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), tenants=st.integers(2, 4))
def test_the_bound_on_the_difference_of_service(seed: int, tenants: int) -> None:
    """Theorem 4.4: at most 2 max(w_in L_in, w_out M), with M tokens in the largest batch."""
    blocks = 60
    config = engine_config(
        max_num_seqs=8, max_num_batched_tokens=512, num_gpu_blocks=blocks + 1, max_model_len=600
    )
    trace = backlogged(seed, tenants)
    record = simulate(trace, Vtc(), Linear(), config)
    bound = 2 * max(1 * int(trace.num_prompt_tokens.max()), 2 * blocks * 16)
    assert largest_difference(record, trace) <= bound


def test_first_come_first_served_breaks_it() -> None:
    """Where one tenant has sent everything before the others, they wait for all of it."""
    n = 400
    owner = ["flood"] * (n - 20) + ["calm"] * 20
    trace = Trace(np.zeros(n), np.full(n, 100, dtype=np.int64), np.full(n, 100, dtype=np.int64), tenant=owner)
    config = engine_config(max_num_seqs=4, max_num_batched_tokens=512, num_gpu_blocks=61, max_model_len=600)
    bound = 2 * 2 * 60 * 16
    assert largest_difference(simulate(trace, Vtc(), Linear(), config), trace) <= bound
    assert largest_difference(simulate(trace, Fcfs(), Linear(), config), trace) > bound


def test_one_tenant_is_first_come_first_served() -> None:
    trace = backlogged(3, 1)
    config = engine_config(max_num_seqs=8, max_num_batched_tokens=512, num_gpu_blocks=200, max_model_len=600)
    fair, plain = (simulate(trace, policy, Linear(), config) for policy in (Vtc(), Fcfs()))
    np.testing.assert_array_equal(fair.finish_time, plain.finish_time)
    assert fair.finish_time == pytest.approx(plain.finish_time)
