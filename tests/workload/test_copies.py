"""A trace laid several times, one after the other."""

from __future__ import annotations

import numpy as np

from simsched.workload.copies import repeated
from simsched.workload.sessions import previous_turn
from simsched.workload.trace import Trace


def test_copies_follow_one_another_and_share_nothing() -> None:
    trace = Trace(
        arrival_time=np.array([1.0, 2.0, 3.0]),
        num_prompt_tokens=np.array([5, 6, 7]),
        num_output_tokens=np.array([1, 2, 3]),
        session_id=["s", "s", None],
        parent=[(), ("0",), ()],
        hash_ids=[(0,), (0, 3), (2,)],
        hash_block_size=4,
    )
    twice = repeated(trace, 2)
    assert twice.arrival_time.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert twice.num_output_tokens.tolist() == [1, 2, 3, 1, 2, 3]
    assert twice.request_ids() == ["0", "1", "2", "0#1", "1#1", "2#1"]
    assert twice.session_id == ["s", "s", None, "s#1", "s#1", None]
    assert twice.hash_ids == [(0,), (0, 3), (2,), (4,), (4, 7), (6,)]
    assert previous_turn(twice).tolist() == [-1, 0, -1, -1, 3, -1]


def test_a_lone_request_comes_every_second() -> None:
    lone = Trace(np.array([2.0]), np.array([5]), np.array([1]))
    assert repeated(lone, 3).arrival_time.tolist() == [2.0, 3.0, 4.0]
