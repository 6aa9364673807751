"""UniBoost: the boost by hand, its two limits, and the adaptive gamma."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.policies.base import NEVER
from simsched.policies.spec import make_policy
from simsched.policies.uniboost import UniBoost
from simsched.policies.uniboost_guard import UniBoostGuard
from tests.engine.scenarios import Linear, same, trace
from tests.policies.engine import Engine
from tests.policies.view import View


@pytest.mark.parametrize(
    ("tokens", "gamma", "boost"),
    [
        # exp(-gamma w) = 1/2 at gamma w = ln 2: a boost of ln 2 / gamma
        (1000, math.log(2) / 0.064, 0.064),
        # w = 0.64 s at 10 a second: -ln(1 - exp(-6.4)) / 10
        (10_000, 10.0, -math.log(1 - math.exp(-6.4)) / 10),
        (100, 10.0, -math.log(1 - math.exp(-0.064)) / 10),
    ],
)
def test_the_boost_by_hand(tokens: int, gamma: float, boost: float) -> None:
    policy = make_policy(f"uniboost(gamma={gamma!r})")
    view = View(num_prompt_tokens=tokens, arrival_time=5.0)
    assert policy.priority(view, 9.0) == pytest.approx(5.0 - boost, rel=1e-12)
    assert policy.next_change(view, 9.0) == NEVER


def test_from_shortest_first_to_first_come() -> None:
    """The two limits of gamma, as schedules."""
    work = trace(80, 30.0, 7)
    config = engine_config(max_num_seqs=8, num_gpu_blocks=2000, max_model_len=1500)

    def run(spec: str):  # type: ignore[no-untyped-def]
        return simulate(work, make_policy(spec), Linear(), config)

    same(run("uniboost(gamma=1e5)"), run("fcfs"))
    shortest = run("sjf-aging(form=sglang,aging_tokens=0)")
    same(run("uniboost(gamma=1e-7,time_per_token=1)"), shortest)


def test_the_boost_is_bounded_so_nobody_starves() -> None:
    """Whoever came longer ago than the largest boost is ahead of all who come now."""
    policy = UniBoost()
    largest = policy.boost(policy.time_per_token, policy.gamma)
    assert largest == pytest.approx(0.7354, abs=1e-3)
    old = View(num_prompt_tokens=10**9, arrival_time=10.0)
    new = View(num_prompt_tokens=1, arrival_time=10.0 + largest + 1e-6)
    assert policy.priority(old, 20.0) < policy.priority(new, 20.0)


@pytest.mark.parametrize(("tail", "target"), [(1.0, 200.0), (1.5, 1 + 199 * math.exp(-2)), (50.0, 1.0)])
def test_gamma_goes_to_its_target(tail: float, target: float) -> None:
    """The slowest 4 % take `tail` times as long as the others, so t99 / t95 = tail."""
    policy = UniBoost(adaptive=True)
    for number in range(300):
        end = 10.0 + number / 1000
        seconds = tail if number % 25 == 0 else 1.0
        policy.on_finish(View(arrival_time=end - seconds), end)
    view = View(num_prompt_tokens=1000, arrival_time=14.0)

    def gamma(now: float) -> float:
        key = policy.priority(view, now)
        low, high = 0.5, 400.0  # the boost falls with gamma: bisect
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if policy.boost(0.064, middle) > 14.0 - key else (low, middle)
        return low

    assert gamma(14.999) == pytest.approx(10.0)  # the interval in which they were done
    assert gamma(15.0) == pytest.approx(10 + 0.3 * (target - 10), rel=1e-9)
    assert gamma(12.0) == pytest.approx(10.0)  # and an earlier time again


def test_the_next_refit_is_announced_not_too_late() -> None:
    policy = UniBoost(adaptive=True)
    for now in (0.0, 0.1, 4.9999999, 5.0, 1e5 / 3, 123456.789):
        after = policy.next_change(View(), now).after_time
        assert after is not None
        assert now + after <= (now // 5 + 1) * 5
        assert now + after > (now // 5 + 1) * 5 - 1e-9


def test_what_is_cached_is_no_work() -> None:
    policy = UniBoost()
    hit = View(num_prompt_tokens=20_000, num_cached_tokens=19_900)
    assert policy.priority(hit, 1.0) == policy.priority(View(num_prompt_tokens=100), 1.0)


def test_who_was_preempted_is_kept_until_it_has_got_further() -> None:
    """0.25 s at first, then the powers of two of it."""
    policy = UniBoostGuard()
    best, middle, worst = (View(name, attained_service=1.0) for name in "abc")
    three, engine = [best, middle, worst], Engine()
    assert policy.victim(three, engine) is worst
    policy.on_preempt(worst, 1.0)  # 1 s is a power itself: it must pass 2
    worst.attained_service = 2.0
    assert policy.victim(three, engine) is middle
    worst.attained_service = 2.01
    assert policy.victim(three, engine) is worst
    policy.on_preempt(middle, 1.0)
    best.attained_service, worst.attained_service = 0.25, 1.9
    assert policy.victim(three, engine) is worst  # none may be: it is the worst of all
    best.attained_service = 0.26
    assert policy.victim(three, engine) is best


@given(steps=st.lists(st.floats(0.001, 3.0), max_size=60))
def test_it_is_preempted_a_logarithmic_number_of_times(steps: list[float]) -> None:
    """Alone with one that may never be, it makes room no more than 1 + log2(service / first) times."""
    policy, request, other = UniBoostGuard(), View("a", attained_service=0.0), View("b")
    times = 0
    for step in steps:
        request.attained_service += step
        if policy.victim([other, request], Engine()) is request and (
            request.attained_service > policy._until.get("a", policy.first)
        ):
            policy.on_preempt(request, 0.0)
            times += 1
    assert times <= max(0.0, 1 + math.log2(max(request.attained_service, 1e-9) / policy.first))
