"""SJF with aging: each form's score by hand, and what aging is for."""

from __future__ import annotations

import math

import pytest

from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.errors import InputError
from simsched.policies.base import NEVER
from simsched.policies.sjf_aging import SjfAging
from simsched.policies.spec import make_policy
from tests.engine.scenarios import Linear, trace
from tests.policies.view import View


@pytest.mark.parametrize(
    ("form", "prompt", "wait", "key"),
    [
        # both sigmoids are 1/2 at their medians
        ("vllm", 32768, 5.0, -0.5),
        ("vllm", 65536, 10.0, -(0.5 / (1 + math.e) + 0.5 / (1 + math.exp(-1)))),
        # 1/2 of 1 / (1 + 1) for the length; what all share, the present, is left out: 1/2 of -(3 - 2) / 5
        ("trtllm", 32768, 2.0, -0.25 + 0.1),
        ("trtllm-cached", 1000, 20.0, 900.0),
        ("trtllm-cached", 1000, 200.0, 0.0),
        ("trtllm-cached", 1000, 300.0, 0.0),
        # 500 tokens less 2 s at 1,000 a second, and the present left out
        ("sglang", 500, 2.0, 500.0 + 1000.0 * 1.0),
        ("ewsjf", 511, 4.0, -4.0 * (1 + 0.5 * math.log(512))),
        ("ewsjf", 1023, 4.0, -4.0 * (1 + 0.5 * math.log(1024)) / 2),
    ],
)
def test_scores_by_hand(form: str, prompt: int, wait: float, key: float) -> None:
    policy = make_policy(f"sjf-aging(form={form})")
    now = 3.0 if form in ("trtllm", "sglang") else 1000.0
    view = View(num_prompt_tokens=prompt, arrival_time=now - wait)
    assert policy.priority(view, now) == (1, pytest.approx(key, rel=1e-12))


@pytest.mark.parametrize("form", ["trtllm", "sglang"])
def test_where_all_age_alike_the_order_of_two_is_that_of_their_scores(form: str) -> None:
    """At any time: what is left out is the same for both."""

    def score(view: View, now: float) -> float:
        wait = now - view.arrival_time
        if form == "sglang":
            return view.num_prompt_tokens - 1000 * wait
        return -(0.5 / (1 + view.num_prompt_tokens / 32768) + 0.5 * wait / 5)

    policy = make_policy(f"sjf-aging(form={form})")
    for long, late in ((3000, 1.0), (3000, 5.0), (20000, 0.1), (30000, 0.3)):
        one = View(num_prompt_tokens=long, arrival_time=2.0)
        other = View(num_prompt_tokens=100, arrival_time=2.0 + late)
        for now in (10.0, 50.0):
            first = policy.priority(one, now) < policy.priority(other, now)
            assert first == (score(one, now) < score(other, now))


def test_who_has_run_goes_first_and_stays() -> None:
    policy = make_policy("sjf-aging(form=vllm)")
    assert policy.priority(View(steps_run=3, arrival_time=7.0, num_prompt_tokens=9999), 8.0) == (0, 7.0)
    assert policy.next_change(View(steps_run=3), 8.0) == NEVER
    assert policy.next_change(View(), 8.0).after_time == 0.0


def test_what_is_left_of_a_predicted_output() -> None:
    policy = make_policy("sjf-aging(form=sglang,size=output,preemptive=true)")
    assert policy.reads == "predicted_length"
    assert SjfAging.reads is None
    view = View(predicted_length=50.0, num_output_tokens=20, arrival_time=2.0)
    assert policy.priority(view, 9.0) == (1, 2030.0)
    assert policy.priority(View(predicted_length=50.0, num_output_tokens=70), 9.0) == (1, 1.0)


def test_a_parameter_of_another_form_is_refused() -> None:
    with pytest.raises(InputError, match=r"form vllm takes no aging_tokens; it takes length_median"):
        make_policy("sjf-aging(aging_tokens=5)")


@pytest.mark.parametrize(
    ("spec", "seconds_per_token", "seconds"),
    [("form=sglang,aging_tokens=200", 1 / 200, 0.0), ("form=trtllm-cached,aging=0.8", 0.0, 1 / 0.8)],
)
def test_aging_bounds_who_may_overtake(spec: str, seconds_per_token: float, seconds: float) -> None:
    """A prompt of L tokens is overtaken by none that comes L / `aging_tokens`, or 1 / `aging`, later."""
    work = trace(150, 40.0, 3)
    config = engine_config(max_num_seqs=8, num_gpu_blocks=3000, max_model_len=1500)
    record = simulate(work, make_policy(f"sjf-aging({spec})"), Linear(), config)
    arrival, scheduled = record.arrival_time, record.first_scheduled_time
    bound = arrival + seconds_per_token * work.num_prompt_tokens + seconds
    later = arrival[None, :] > bound[:, None]
    assert later.sum() > 300
    assert (scheduled[:, None] <= scheduled[None, :])[later].all()
    overtaken = (scheduled[:, None] > scheduled[None, :]) & (arrival[None, :] > arrival[:, None])
    assert overtaken.sum() > 100


@pytest.mark.parametrize(("form", "counts"), [("sglang", True), ("trtllm-cached", True), ("trtllm", False)])
def test_two_forms_leave_out_what_is_cached(form: str, counts: bool) -> None:
    policy = make_policy(f"sjf-aging(form={form})")
    assert policy.reads_cache == counts
    hit = View(num_prompt_tokens=2000, num_cached_tokens=1900)
    alike = View(num_prompt_tokens=100 if counts else 2000)
    assert policy.priority(hit, 1.0) == policy.priority(alike, 1.0)
