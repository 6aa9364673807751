"""The intervals of an asynchronous engine, by hand and against the rule step by step."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simsched.cost_model.recursion import BatchTimes, Recursion

# Steps of one run: (host, before, gpu, tail; None: one graph), then the intervals by hand, with settle 1.
TABLE = [
    pytest.param(
        # launched at 4, first kernel at 3, device at 13, update at 14; the next launch is over at 4 + 4 = 8
        [(4, 3, 10, None), (4, 3, 10, None), (4, 3, 10, None)],
        [14, 10, 10],
        id="the device bounds it",
    ),
    pytest.param(
        # the second launch (20) begins when the first is done (4): 24; device of the second at 24 + 2 = 26
        [(4, 3, 5, None), (20, 8, 10, 2)],
        [24, 27 - 24],
        id="a long launch shows in the step before",
    ),
    pytest.param(
        # device starves: the third is launched from 9 (the first update) on, its first kernel is at 9 + 6
        [(4, 3, 5, None), (4, 3, 2, None), (7, 6, 4, None), (7, 6, 4, None)],
        [9, 16 - 9, 23 - 16, 27 - 23],
        id="the device waits for the host",
    ),
]


@pytest.mark.parametrize(("steps", "expected"), TABLE)
def test_one_run(steps: list[tuple[float, float, float, float | None]], expected: list[float]) -> None:
    rows = [[-math.inf if value is None else float(value) for value in step] for step in steps]
    host, before, gpu, tail = np.array(rows).T[:, :, None]
    times = BatchTimes(host, before, gpu, tail, np.array([1.0]))
    first = np.arange(len(steps)) == 0
    assert Recursion(first).run(times).interval[:, 0].tolist() == expected


def stepwise(after_idle: list[bool], rows: list[tuple[float, ...]], settle: float) -> list[float]:
    """The rule as `recursion.py` states it, a step at a time."""
    intervals = []
    n = len(rows)
    device = end = base = launched = first_kernel = 0.0
    for k, (host, before, gpu, tail) in enumerate(rows):
        if after_idle[k]:
            end, device = 0.0, -math.inf
            launched, first_kernel = host, before
            base = launched
        device = max(max(device, first_kernel) + gpu, launched + tail)
        ended = device + settle
        if k + 1 < n and not after_idle[k + 1]:
            launched, first_kernel = base + rows[k + 1][0], base + rows[k + 1][1]
            ended = max(ended, launched)
        intervals.append(ended - end)
        base = end = ended
    return intervals


some = st.floats(0.0, 50.0)


@given(
    st.lists(
        st.tuples(st.booleans(), some, some, some, st.one_of(some, st.just(-math.inf))),
        min_size=1,
        max_size=30,
    ),
    some,
)
def test_all_stretches_at_once_are_each_by_itself(
    steps: list[tuple[bool, float, float, float, float]], settle: float
) -> None:
    after_idle = [True, *(idle for idle, *_ in steps[1:])]
    rows = [row for _, *row in steps]
    host, before, gpu, tail = np.array(rows).T[:, :, None].repeat(2, axis=2)
    found = Recursion(np.array(after_idle)).run(
        BatchTimes(host, before, gpu, tail, np.array([settle, settle]))
    )
    expected = stepwise(after_idle, [tuple(row) for row in rows], settle)
    assert found.interval[:, 0].tolist() == expected
    assert found.interval[:, 1].tolist() == expected


def test_a_run_begins_idle() -> None:
    with pytest.raises(ValueError, match="idle"):
        Recursion(np.array([False, True]))
