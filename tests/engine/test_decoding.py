"""Decoding requests as sums: repeated steps, blocks that they take, and the uncontended run, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from simsched.cost_model.models import LinearCost
from simsched.engine.config import engine_config
from simsched.engine.recorder import Recorder
from simsched.engine.repeat import LONG, repeat_decodes
from simsched.engine.simulator import simulate
from simsched.engine.source import ClosedLoop, OpenLoop
from simsched.engine.vllm_v1.leaping import VllmV1Leap
from simsched.policies.spec import make_policy
from simsched.workload.trace import Trace


@pytest.mark.parametrize(
    ("most", "until", "end", "steps", "last"),
    [
        # a step of 2 decodes over 10 tokens ends at 100.0; the next ones take 1 + 0.5 * K = 7, 8, 9, 10 s
        (2, 1000.0, 107.0, 2, 7.0),
        (3, 1000.0, 115.0, 3, 8.0),
        (9, 107.0, 107.0, 2, 7.0),  # nobody starts at 107.0 or later
        (9, 107.1, 115.0, 3, 8.0),
        (9, 115.0, 115.0, 3, 8.0),
        (4, 124.0, 124.0, 4, 9.0),
    ],
)
def test_a_step_repeated(most: int, until: float, end: float, steps: int, last: float) -> None:
    ends: list[float] = []
    assert repeat_decodes(100.0, 1.0, 0.5, 10, 2, most, until, ends) == (end, steps, last)
    assert len(ends) == steps - 1
    assert ends[-1] == end


@pytest.mark.parametrize("most", [LONG - 1, LONG, LONG + 1, 500, 9000])
def test_long_repeats_are_the_sum_of_steps_to_the_last_bit(most: int) -> None:
    base, slope, K, N = 0.0113, 8.07e-8, 1234, 37
    expected = [0.1]
    for step in range(1, most):
        expected.append(expected[-1] + (base + slope * (K + N * step)))
    ends: list[float] = []
    end, steps, last = repeat_decodes(0.1, base, slope, K, N, most, 1e9, ends)
    assert (end, steps) == (expected[-1], most)
    assert ends == expected[1:]
    assert last == base + slope * (K + N * (most - 1))
    cut = expected[most // 2]
    assert repeat_decodes(0.1, base, slope, K, N, most, cut, None)[:2] == (cut, most // 2 + 1)


@pytest.mark.parametrize(
    ("first", "count", "blocks"),
    [(0, 1, 1), (1, 1, 0), (2, 1, 2), (0, 4, 3), (0, 8, 6), (2, 4, 3), (3, 3, 1), (1, 9, 6), (5, 0, 0)],
)
def test_blocks_that_decoding_requests_take(first: int, count: int, blocks: int) -> None:
    """Blocks of 4 tokens: one request takes one at step counter 0, 4, 8, ...; two at 2, 6, 10, ..."""
    config = engine_config(num_gpu_blocks=100, max_model_len=64, block_size=4)
    engine = VllmV1Leap(make_policy("fcfs"), config, Recorder(0))
    engine.growth_by_residue = [1, 0, 2, 0]
    assert engine.blocks_for(first, count) == blocks


SECOND = LinearCost(t0=1.0, a=0.0, b=0.0, c=0.0, d=0.0)
"""Every step takes a second."""


@pytest.mark.parametrize("spec", ["fcfs", "priority", "srtf", "mlfq"])
@pytest.mark.parametrize(
    ("arrivals", "outputs", "first", "finish"),
    [
        # nobody waits: a step holds one token of everybody and the prompts of those that have arrived
        ([0.0], [3], [1.0], [3.0]),
        ([0.0, 0.5], [3, 3], [1.0, 2.0], [3.0, 4.0]),
        ([0.0, 2.0], [3, 1], [1.0, 3.0], [3.0, 3.0]),  # at the very end of a step: it is in the next
        ([0.0, 10.0], [2, 2], [1.0, 11.0], [2.0, 12.0]),  # idle in between
        ([0.0, 0.0, 0.0], [1, 2, 3], [1.0, 1.0, 1.0], [1.0, 2.0, 3.0]),
    ],
)
def test_the_uncontended_run(
    spec: str, arrivals: list[float], outputs: list[int], first: list[float], finish: list[float]
) -> None:
    n = len(arrivals)
    trace = Trace(
        np.array(arrivals), np.full(n, 10), np.array(outputs), predicted_length=np.array(outputs, float)
    )
    config = engine_config(num_gpu_blocks=100, max_model_len=64)
    for leap in (True, False):
        record = simulate(trace, make_policy(spec), SECOND, config, leap=leap)
        assert record.first_token_time.tolist() == first
        assert record.finish_time.tolist() == finish


def test_an_open_loop_gives_its_rows_in_order_of_arrival() -> None:
    source = OpenLoop(Trace(np.array([0.5, 0.5, 2.0]), np.array([1, 2, 3]), np.array([4, 5, 6])))
    assert source.next_time == 0.5
    assert source.pop()[:4] == (0, 0.5, 1, 4)
    source.skip()
    assert source.next_time == 2.0
    assert source.pop().row == 2
    assert source.next_time == float("inf")


def test_users_send_their_next_request_after_the_answer_and_a_thought() -> None:
    trace = Trace(np.zeros(4), np.full(4, 5), np.full(4, 5), closed_loop_users=2, think_time=0.5)
    source = ClosedLoop(trace)
    assert [source.pop().row, source.pop().row] == [0, 1]
    assert source.next_time == float("inf")
    source.finished(1, 3.0)
    assert source.next_time == 3.5
    assert source.pop()[:2] == (2, 3.5)
    source.finished(0, 4.0)
    source.finished(2, 4.0)
    assert source.pop()[:2] == (3, 4.5)
    assert source.next_time == float("inf")  # there are no more
    assert source.arrival_times().tolist() == [0.0, 0.0, 3.5, 4.5]
