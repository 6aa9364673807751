"""Program-level attained service: levels and promotions by hand."""

from __future__ import annotations

from simsched.policies.plas import Plas
from simsched.policies.uncached_first import UncachedFirst
from tests.policies.view import View


def test_a_call_starts_where_its_session_stands_and_goes_down() -> None:
    """Levels end at 1, 3 and 7 seconds."""
    policy = Plas(levels=4, quantum=1.0)
    call = View("c", session_id="s", session_service=2.0)
    policy.on_arrival(call, 0.0)
    assert policy.priority(call, 0.0) == 1
    call.steps_run, call.attained_service = 5, 0.75
    assert policy.next_change(call, 1.0).after_service == 3.0 - 2.75
    call.attained_service = 1.0
    assert policy.priority(call, 1.0) == 1  # a level includes its end
    call.attained_service = 1.01
    assert policy.priority(call, 1.0) == 2
    call.attained_service = 100.0
    assert policy.priority(call, 1.0) == 3
    assert policy.next_change(call, 1.0).after_service is None


def test_who_waits_for_too_long_goes_to_the_top_and_counts_anew() -> None:
    policy = Plas(levels=4, quantum=1.0, starvation_ratio=2.0)
    call = View("c", session_id="s", session_service=4.0, steps_idle=1)
    policy.on_arrival(call, 0.0)
    assert policy.priority(call, 3.0) == 2
    assert policy.next_change(call, 3.0).after_time == 2 * 4.0 - 3.0
    policy.on_change(call, 7.0)
    assert policy.priority(call, 7.0) == 2
    policy.on_change(call, 8.0)
    assert policy.priority(call, 8.0) == 0
    call.steps_idle, call.attained_service = 0, 1.5
    assert policy.priority(call, 9.5) == 1


def test_uncached_first() -> None:
    policy = UncachedFirst(starvation_steps=10)
    short, long = View("a", num_prompt_tokens=100), View("b", num_prompt_tokens=400, num_cached_tokens=320)
    assert policy.priority(short, 0.0) == (2, 100)
    assert policy.priority(long, 0.0) == (2, 80)
    short.steps_idle = 4
    assert policy.next_change(short, 0.0).after_steps_idle == 6
    short.steps_idle = 10
    assert policy.priority(short, 0.0) < policy.priority(long, 0.0)
    short.steps_run = 1
    assert policy.priority(short, 0.0) == (0, 0.0)
