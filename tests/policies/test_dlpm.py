"""Deficit longest prefix match: values by hand, and its two limits."""

from __future__ import annotations

import numpy as np

from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.policies.dlpm import DeficitLongestPrefixMatch
from simsched.policies.lpm import LongestPrefixMatch
from tests.engine.scenarios import Linear, shared_prefixes, trace
from tests.policies.view import View

CONFIG = engine_config(max_num_seqs=8, max_num_batched_tokens=512, num_gpu_blocks=200, max_model_len=1500)


def test_a_tenant_that_has_used_its_share_comes_behind() -> None:
    policy = DeficitLongestPrefixMatch(quantum=100.0)
    greedy = View("g", tenant="a", num_prompt_tokens=200, num_cached_tokens=80)
    policy.on_arrival(greedy, 0.0)
    greedy.steps_run, greedy.num_output_tokens = 1, 1
    assert policy.deficit("a", 1.0) == 100 - (120 + 2)
    more = View("m", tenant="a", num_prompt_tokens=200, num_cached_tokens=160)
    other = View("o", tenant="b", num_prompt_tokens=50)
    for request in (other, more):  # in the other order, a would have been alone, and got a quantum
        policy.on_arrival(request, 1.0)
    assert policy.priority(more, 1.0) == (2, -160)
    assert policy.priority(other, 1.0) == (1, 0)


def test_quanta_are_added_until_somebody_who_waits_has_something_left() -> None:
    policy = DeficitLongestPrefixMatch(quantum=100.0)
    one, two = View("1", tenant="a", num_prompt_tokens=250), View("2", tenant="a", num_cached_tokens=32)
    for request in (one, two):
        policy.on_arrival(request, 0.0)
    one.steps_run, one.num_output_tokens = 1, 5
    assert policy.deficit("a", 1.0) == 300 - 260  # alone in the queue: two quanta more
    assert policy.priority(two, 1.0) == (1, -32)
    fresh = View("3", tenant="b")
    policy.on_arrival(fresh, 2.0)
    assert policy.deficit("b", 2.0) == 100  # one quantum, not what it has not used before


def test_how_often_the_order_is_asked_for_is_all_the_same() -> None:
    """Two engines that ask at different times find the same quanta."""
    often, seldom = (DeficitLongestPrefixMatch(quantum=100.0) for _ in range(2))
    first, second, third = (View(str(i), tenant="ab"[i % 2], num_prompt_tokens=90) for i in range(3))
    for policy in (often, seldom):
        policy.on_arrival(first, 0.0)
    first.steps_run = 1
    for policy in (often, seldom):
        policy.on_arrival(second, 1.0)
    for now in range(2, 9):
        first.num_output_tokens = 20 * now
        often.priority(second, float(now))
    second.steps_run = 1
    for policy in (often, seldom):
        policy.on_arrival(third, 9.0)
    assert often.deficit("a", 9.0) == seldom.deficit("a", 9.0)
    assert often.deficit("b", 9.0) == seldom.deficit("b", 9.0)


def test_a_preempted_request_counts_by_what_it_finds_in_the_queue() -> None:
    policy = DeficitLongestPrefixMatch(quantum=1000.0)
    request = View("r", tenant="a", num_prompt_tokens=100, num_cached_tokens=20)
    policy.on_arrival(request, 0.0)
    request.steps_run = 1
    assert policy.counter("a", 1.0) == 80
    policy.on_preempt(request, 1.0)
    request.num_cached_tokens = 96
    assert policy.counter("a", 2.0) == 4
    policy.on_preempt(request, 3.0)  # again
    request.num_cached_tokens = 48
    assert policy.counter("a", 4.0) == 52
    policy.on_finish(request, 5.0)
    assert policy.counter("a", 5.0) == 52


def test_an_unlimited_quantum_is_longest_prefix_first() -> None:
    requests = shared_prefixes(trace(80, 40.0, 4), 2).with_columns(tenant=[f"t{i % 3}" for i in range(80)])
    fair, plain = (
        simulate(requests, policy, Linear(), CONFIG)
        for policy in (DeficitLongestPrefixMatch(quantum=float("inf")), LongestPrefixMatch())
    )
    np.testing.assert_array_equal(fair.finish_time, plain.finish_time)


def test_a_small_quantum_is_fairer() -> None:
    """One tenant sends nine requests of ten, all with one long prefix: those of the other need not wait."""
    n = 200
    plain = trace(n, 0.0, 5, longest=300)
    flood = np.arange(n) % 10 != 0
    requests = plain.with_columns(
        num_prompt_tokens=np.where(flood, 200, 60),
        tenant=["flood" if each else "calm" for each in flood],
        hash_ids=[(1, 2, 3, 4, 5, 6) if each else (100 + i,) for i, each in enumerate(flood)],
        hash_block_size=32,
    )
    waits = {}
    for quantum in (200.0, float("inf")):
        record = simulate(requests, DeficitLongestPrefixMatch(quantum=quantum), Linear(), CONFIG)
        waits[quantum] = record.first_scheduled_time[~flood].mean()
    assert waits[200.0] < 0.7 * waits[float("inf")]
