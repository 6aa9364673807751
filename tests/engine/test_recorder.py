"""The recorder by hand: what it is told, step by step, and the columns that it makes of it."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest

from simsched.engine.recorder import PATIENCE, Recorder, run_record
from simsched.errors import RunError
from simsched.workload.trace import Trace


def trace(n: int) -> Trace:
    return Trace(np.zeros(n), np.full(n, 5), np.full(n, 3))


def test_a_request_that_is_paused_has_its_pause_as_longest_gap() -> None:
    recorder = Recorder(1)
    recorder.scheduled(0, 0.0)
    recorder.steps(1.0, 1.0, 1, 0)  # its prefill, until 1.0
    recorder.token(0, 1.0)
    recorder.steps(0.5, 0.5, 1, 1)  # a token at 1.5
    recorder.pause(0, 1.5)
    recorder.steps(2.0, 2.0, 1, 0)  # it is left out until 3.5
    recorder.steps(0.5, 0.5, 1, 0)
    recorder.token(0, 4.0)
    recorder.finish(0, 4.0)
    record = run_record(trace(1), np.zeros(1), [([0], recorder)], 4.0, {}, {})
    assert record.first_scheduled_time.tolist() == [0.0]
    assert record.first_token_time.tolist() == [1.0]
    assert record.finish_time.tolist() == [4.0]
    assert record.max_itl.tolist() == [2.5]
    assert (record.itl.count, record.itl.total) == (2, 3.0)
    assert record.num_steps == 4


@pytest.mark.parametrize(
    ("durations", "began_after", "longest"),
    [
        ([3.0, 1.0, 2.0], 0, 3.0),
        ([3.0, 1.0, 2.0], 1, 2.0),
        ([3.0, 1.0, 2.0, 0.5], 3, 0.5),
        ([1.0, 1.0, 1.0], 2, 1.0),
    ],
)
def test_the_longest_gap_is_the_longest_step_since_it_began(
    durations: list[float], began_after: int, longest: float
) -> None:
    recorder = Recorder(1)
    for number, seconds in enumerate([9.0, *durations]):
        recorder.steps(seconds, seconds, 1, int(number > began_after))
        if number == began_after:
            recorder.token(0, 0.0)
    recorder.finish(0, 1.0)
    assert recorder.max_itl[0] == longest


def test_a_leap_is_a_ramp_of_gaps() -> None:
    """Four steps of 1.0, 1.5, 2.0 and 2.5 s for 3 requests: 12 gaps of 21 s in all."""
    recorder = Recorder(3)
    recorder.steps(1.0, 2.5, 4, 3)
    record = run_record(trace(3), np.zeros(3), [([0, 1, 2], recorder)], 7.0, {}, {})
    assert (record.itl.count, record.itl.total) == (12, 21.0)
    assert record.decode_steps.tolist() == [0, 0, 0, 4]


def test_replicas_fill_their_own_rows() -> None:
    one, other = Recorder(), Recorder()
    for recorder, finished in ((one, [1.0]), (other, [2.0, 3.0])):
        recorder.make_room(len(finished))
        recorder.steps(1.0, 1.0, 1, len(finished))
        for number, time in enumerate(finished):
            recorder.token(number, time)
            recorder.finish(number, time)
    record = run_record(
        trace(4), np.zeros(4), [([2], one), ([3, 0], other)], 3.0, {"swapped": 1}, {1: "max_num_queued_reqs"}
    )
    np.testing.assert_array_equal(record.finish_time, [3.0, nan, 1.0, 2.0])
    assert record.rejected.tolist() == [False, True, False, False]
    assert record.counters == {"swapped": 1, "rejected by max_num_queued_reqs": 1}
    assert record.num_steps == 2
    assert record.decode_steps.tolist() == [0, 1, 1]


def test_displacing_each_other_for_ever_is_refused() -> None:
    recorder = Recorder(2)
    recorder.scheduled(0, 0.0)
    recorder.scheduled(1, 0.0)

    def displace() -> None:
        for _ in range(PATIENCE * 4):
            recorder.preempted(0)

    with pytest.raises(RunError, match="2 requests displace each other before any gets a token"):
        displace()
