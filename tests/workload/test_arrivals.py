"""Arrival processes: their rate, their spread, and the random numbers they share."""

from __future__ import annotations

import numpy as np
import pytest

from simsched.errors import InputError
from simsched.workload.arrivals import Arrivals


def cv(times: np.ndarray) -> float:
    gaps = np.diff(times)
    return float(gaps.std() / gaps.mean())


@pytest.mark.parametrize(
    ("spec", "expected"),
    [("poisson", 1.0), ("gamma(cv=2)", 2.0), ("gamma(cv=0.5)", 0.5), ("gamma", 1.0), ("uniform", 0.0)],
)
def test_rate_and_spread(spec: str, expected: float) -> None:
    times = Arrivals.parse(spec).times(50_000, 8.0, seed=1)
    assert len(times) / times[-1] == pytest.approx(8.0, rel=0.03)
    assert cv(times) == pytest.approx(expected, abs=0.03)
    assert np.all(np.diff(times) >= 0)


def test_a_rate_only_stretches_the_pattern() -> None:
    slow, fast = (Arrivals.parse("gamma(cv=3)").times(1000, rate, seed=7) for rate in (2.0, 16.0))
    np.testing.assert_allclose(slow, fast * 8, rtol=1e-12)


def test_seeds_differ_and_a_longer_trace_begins_with_the_shorter() -> None:
    poisson = Arrivals.parse("poisson")
    assert not np.array_equal(poisson.times(10, 1.0, seed=0), poisson.times(10, 1.0, seed=1))
    np.testing.assert_array_equal(poisson.times(10, 1.0, seed=0), poisson.times(100, 1.0, seed=0)[:10])


def test_a_burst_and_an_infinite_rate_are_all_at_once() -> None:
    assert not Arrivals.parse("burst").times(5, None, seed=0).any()
    assert not Arrivals.parse("poisson").times(5, float("inf"), seed=0).any()


def test_closed_loop() -> None:
    arrivals = Arrivals.parse("closed(users=32,think_time=0.5)")
    assert (arrivals.users, arrivals.think_time) == (32, 0.5)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("pareto", "expected one of poisson"),
        ("gamma(cv=0)", "cv=0: expected a number"),
        ("gamma(cv=nan)", "cv=nan: expected a number"),
        ("gamma(cv=wide)", "cv=wide: expected a number"),
        ("gamma(shape=2)", "unknown parameter shape"),
        ("poisson(cv=2)", "expected one of exact"),
        ("closed", "users is missing: expected a number"),
        ("users", "n is missing: expected a number"),
        ("users(1.5)", "expected a whole number"),
        ("users(users=2)", "unknown parameter users"),
        ("sessions(0)", "rate=0: expected a number"),
        ("closed(users=1.5)", "expected a whole number"),
        ("closed(users=2,think_time=-1)", "think_time=-1"),
        ("gamma(cv=2", "expected NAME or NAME"),
        ("gamma(cv=2,cv=3)", "each parameter once"),
        ("", "expected NAME"),
    ],
)
def test_bad_specs(spec: str, message: str) -> None:
    with pytest.raises(InputError, match="--arrivals") as error:
        Arrivals.parse(spec)
    assert message in str(error.value)


@pytest.mark.parametrize("spec", ["burst", "closed(users=2)"])
def test_a_rate_that_would_do_nothing(spec: str) -> None:
    with pytest.raises(InputError, match="arrivals have no rate"):
        Arrivals.parse(spec).times(5, 4.0, seed=0)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), None])
def test_bad_rates(rate: float | None) -> None:
    with pytest.raises(InputError, match="--request-rate"):
        Arrivals.parse("poisson").times(5, rate, seed=0)


@pytest.mark.parametrize("spec", ["poisson(exact=true)", "gamma(cv=3,exact=true)"])
def test_exact_arrivals_have_the_rate_asked_for(spec: str) -> None:
    """As vLLM bench: the last of n requests comes at n / rate."""
    for seed in range(3):
        assert Arrivals.parse(spec).times(200, 8.0, seed)[-1] == pytest.approx(200 / 8)
    drawn = [Arrivals.parse("gamma(cv=3)").times(200, 8.0, seed)[-1] for seed in range(3)]
    assert max(abs(last - 25) for last in drawn) > 1


def test_a_burst_comes_before_the_others() -> None:
    times = Arrivals.parse("poisson(burst=3)").times(5, 2.0, seed=1)
    assert times[:3].tolist() == [0, 0, 0]
    assert times[3:].tolist() == Arrivals.parse("poisson").times(2, 2.0, seed=1).tolist()
    assert Arrivals.parse("uniform(burst=9)").times(4, 2.0, seed=0).tolist() == [0] * 4
    with pytest.raises(InputError, match=r"burst=1\.5: expected a whole number"):
        Arrivals.parse("poisson(burst=1.5)")


def test_sessions_without_a_rate_of_their_own_start_at_the_one_given() -> None:
    assert Arrivals.parse("sessions").rated
    assert not Arrivals.parse("sessions(2)").rated
    given = Arrivals.parse("sessions").times(5, 2.0, seed=3)
    assert given.tolist() == Arrivals.parse("sessions(2)").times(5, None, seed=3).tolist()
