"""Warm-up, growth and steadiness: known series, known queues, and runs of the engine."""

from __future__ import annotations

import heapq
import math

import numpy as np
import pytest

from simsched.metrics import Requests, measure
from simsched.results.windows import backlog_of, load_windows
from simsched.steady import (
    SteadyState,
    mean_backlog,
    mser5,
    remaining_tokens,
    session_window,
    steady_state,
    steady_state_of_sessions,
    trend,
)


def test_mser5_cuts_a_ramp_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, 1000)
    ramp = np.concatenate([np.linspace(-50, 0, 200), np.zeros(800)]) + noise
    assert 150 <= mser5(ramp) <= 260
    assert mser5(noise) <= 100
    assert mser5(np.arange(1000.0)) == 500  # never settles: half is the most
    assert mser5(np.zeros(10)) == 0


def test_backlog_and_work_by_hand() -> None:
    arrival, first = np.array([0.0, 1.0]), np.array([1.0, 3.0])
    finish, tokens = np.array([3.0, math.nan]), np.array([4, 10])
    edges = np.array([0.0, 1.0, 2.0, 4.0])
    assert mean_backlog(arrival, finish, edges).tolist() == [1.0, 2.0, 1.5]
    # the first has 4 tokens to go until 1, then two a second; the second's end is not known
    assert remaining_tokens(arrival, first, finish, tokens, edges).tolist() == [4.0, 14.0, 12.0, 10.0]


def test_a_trend_has_its_slope_and_covers_it_in_the_presence_of_memory() -> None:
    times = np.arange(1000.0)
    assert trend(times, 3 * times).slope == pytest.approx(3)
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        steps = rng.normal(0, 1, 1000)
        values = np.zeros(1000)
        for i in range(1, 1000):
            values[i] = 0.97 * values[i - 1] + steps[i]  # remembers for 33 samples
        found = trend(times, values + 0.02 * times)
        covered += found.low <= 0.02 <= found.high
    assert covered / 300 >= 0.9


def queue(load: float, n: int, seed: int = 0) -> SteadyState:
    """M/M/1 with a mean service of a second, served in order; a request is its service in tokens."""
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(1 / load, n))
    service = rng.exponential(1, n)
    finish = np.zeros(n)
    free = 0.0
    for i in range(n):
        free = max(free, arrival[i]) + service[i]
        finish[i] = free
    found = steady_state(arrival, finish - service, finish, np.maximum(1, service * 100).astype(int))
    assert found is not None
    return found


@pytest.mark.parametrize("seed", range(4))
def test_a_queue_below_its_capacity_is_steady_and_one_above_grows(seed: int) -> None:
    assert queue(0.7, 40_000, seed).steady
    above = queue(1.1, 40_000, seed)
    assert above.growing
    assert above.requests.slope == pytest.approx(0.1, rel=0.3)
    assert not above.steady


def test_a_run_that_is_too_short_is_neither() -> None:
    short = queue(0.9, 100)
    assert not short.steady
    assert not short.growing


@pytest.mark.parametrize(
    ("seconds", "alone", "every", "longer", "growth_low"),
    [
        (10.0, 3.0, 0.1, 0.0, None),  # it fills: the run is hardly longer than its requests
        (10.0, 3.0, 0.1, 0.3, None),
        (10.0, 3.0, 0.1, 2.0, 0.5),  # it takes twice as many requests a second as it serves
        (40.0, 3.0, 0.1, 1.0, 0.5),  # each request takes longer than the one before
        (40.0, 3.0, 0.1, 0.0, 0.0),
        (40.0, 0.2, 1.0, 0.01, None),  # a third of a request more over the whole run
    ],
)
def test_an_engine_that_fills_is_not_said_to_grow(
    seconds: float, alone: float, every: float, longer: float, growth_low: float | None
) -> None:
    arrival = np.arange(0.0, seconds, every)
    taken = alone + longer * arrival
    nans, ones = np.full(len(arrival), np.nan), np.ones(len(arrival), dtype=int)
    found = backlog_of(
        Requests(
            arrival, arrival + 0.1, arrival + taken, ones, 100 * ones, 0 * ones, nans, taken / alone, ones < 1
        )
    )
    assert found is not None
    assert not (growth_low is None and (found["steady"] or found["growing"]))
    if growth_low is None:
        assert (found["growth_low"] or 0.0) <= 0.0
    else:
        assert (found["growth_low"] > growth_low) is (longer > 0)


def test_requests_all_at_once_tell_nothing() -> None:
    zeros = np.zeros(100)
    assert steady_state(zeros, zeros + 1, zeros + 2, np.ones(100, dtype=int)) is None
    assert steady_state(zeros[:0], zeros[:0], zeros[:0], np.ones(0, dtype=int)) is None


def test_a_stable_system_serves_what_it_is_offered_in_the_window() -> None:
    """M/M/50: over the whole run the drain counts, in the window it does not."""
    rng = np.random.default_rng(3)
    n = 4000
    arrival = np.cumsum(rng.exponential(0.1, n))
    service = rng.exponential(3, n)
    free = [0.0] * 50
    finish = np.zeros(n)
    for i in range(n):
        start = max(arrival[i], heapq.heappop(free))
        finish[i] = start + service[i]
        heapq.heappush(free, finish[i])
    ones, nans = np.ones(n, dtype=int), np.full(n, np.nan)
    requests = Requests(arrival, finish - service, finish, ones, ones, ones, nans, nans, ones < 1)
    start, end = 50.0, float(arrival[-1]) - 20
    values = measure(requests, goodput={"e2el": 1e6}, window=(start, end))
    offered = ((arrival >= start) & (arrival <= end)).sum() / (end - start)
    assert values["request_throughput"] == pytest.approx(offered, rel=0.02)
    assert values["request_goodput"] == values["request_throughput"]
    assert values["good_share"] == 1.0
    assert (values["window_start"], values["window_end"]) == (start, end)
    assert values["num_requests"] == ((arrival >= start) & (arrival <= end)).sum()
    assert measure(requests)["request_throughput"] < values["request_throughput"]


def backlog(steady: bool, warmup: float) -> dict[str, object]:
    return {"steady": steady, "warmup_end": warmup, "arrivals_end": 100.0}


@pytest.mark.parametrize(
    ("wanted", "first", "second", "window"),
    [
        ({}, (True, 10.0), (True, 20.0), None),
        ({"warmup": 0, "cooldown": 0}, (True, 10.0), (True, 20.0), None),
        ({"warmup": "auto", "cooldown": "auto"}, (True, 10.0), (True, 20.0), (20.0, 95.0)),
        ({"warmup": "auto", "cooldown": "auto"}, (True, 10.0), (False, 20.0), (10.0, 96.0)),
        ({"warmup": "auto", "cooldown": "auto"}, (False, 10.0), (False, 20.0), None),
        ({"warmup": 30, "cooldown": 0}, (False, 10.0), (False, 20.0), (30.0, 100.0)),
        ({"warmup": 0, "cooldown": 40}, (True, 10.0), (True, 20.0), (0.0, 60.0)),
    ],
)
def test_cells_of_a_load_share_a_window(
    wanted: dict[str, object],
    first: tuple[bool, float],
    second: tuple[bool, float],
    window: tuple[float, float] | None,
) -> None:
    cells = {"a": {"policy": "fcfs", "request_rate": 2.0}, "b": {"policy": "srtf", "request_rate": 2.0}}
    found = load_windows(
        cells, {"a": backlog(*first), "b": backlog(*second)}, {"a": 4000.0, "b": 5000.0}, wanted
    )
    assert found == {"a": window, "b": window}


def test_seconds_of_warm_up_count_from_the_first_arrival() -> None:
    cells = {"a": {"policy": "fcfs", "workload": "T", "request_rate": None}}
    found = load_windows(cells, {"a": backlog(True, 1.0)}, {"a": 1.0}, {"warmup": 5.0}, {"a": 60.0})
    assert found == {"a": (65.0, 100.0)}


def test_the_window_of_sessions() -> None:
    """A turn without session is one by itself; 99 % of the turns come within 8 s of their session's start."""
    session = np.array([0, 1, 0, -1, 1, 2, *[3] * 100])
    arrival = np.array([1.0, 2.0, 9.0, 4.0, 3.0, 20.0, *[7.0] * 100])
    run_in, last = session_window(session, arrival)
    assert last == 20.0
    since = [0.0, 0.0, 8.0, 0.0, 1.0, 0.0, *[0.0] * 100]
    assert run_in == float(np.percentile(since, 99.0))
    assert session_window(np.array([-1, -1]), np.array([3.0, 5.0])) == (0.0, 5.0)


def test_turns_behind_the_last_start_say_nothing_of_the_load() -> None:
    """An overload while sessions start, which empties as the last turns trickle in."""
    rng = np.random.default_rng(2)
    starts = np.sort(rng.uniform(0, 1000, 2000))
    arrival = np.concatenate([starts, starts[:400] + 3000 + rng.uniform(0, 500, 400)])
    finish = arrival + np.where(arrival < 1000, 0.2 * arrival, 1.0) + 1.0
    tokens = np.full(len(arrival), 10)
    session = np.concatenate([np.arange(2000), np.arange(400)])
    order = np.argsort(arrival)
    times = arrival[order], arrival[order] + 0.5, finish[order], tokens
    whole = steady_state(*times)
    assert whole is not None
    assert not whole.growing  # over the whole it does not grow
    state = steady_state_of_sessions(*times, (100.0, session_window(session[order], arrival[order])[1]))
    assert state is not None
    assert state.growing
    assert state.arrivals_end < 1000
