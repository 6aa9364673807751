"""Each policy's own rule."""

from __future__ import annotations

import pytest

from simsched.policies.base import NEVER, Change
from simsched.policies.fastserve import FastServe
from simsched.policies.fcfs import Fcfs
from simsched.policies.ljf import Ljf
from simsched.policies.mlfq import Mlfq
from simsched.policies.po import Po
from simsched.policies.priority import ClientPriority
from simsched.policies.ranking import Ranking
from simsched.policies.sjf import Sjf
from simsched.policies.spec import make_policy
from simsched.policies.srtf import Srtf
from simsched.policies.starvation import StarvationControl
from tests.policies.view import View


def test_defaults_of_preemption() -> None:
    lazy = {name for name in ("fcfs", "priority", "sjf", "ljf") if not make_policy(name).preemptive}
    eager = {
        name
        for name in ("srtf", "mlfq", "fastserve", "ranking", "classification", "po")
        if make_policy(name).preemptive
    }
    assert len(lazy) == 4
    assert len(eager) == 6
    assert make_policy("sjf(starvation_threshold=5)").preemptive


def test_orders() -> None:
    early, late = View(arrival_time=1.0), View(arrival_time=2.0)
    assert Fcfs().priority(early, 9.0) < Fcfs().priority(late, 9.0)
    assert ClientPriority().priority(View(priority=0), 0) < ClientPriority().priority(View(priority=2), 0)
    short, long = View(predicted_length=5.0, score=0.1), View(predicted_length=500.0, score=0.9)
    assert Sjf().priority(short, 0) < Sjf().priority(long, 0)
    assert Ljf().priority(short, 0) > Ljf().priority(long, 0)
    assert Ranking().priority(short, 0) < Ranking().priority(long, 0)
    assert Srtf().priority(View(predicted_length=500.0, num_output_tokens=499), 0) < Srtf().priority(short, 0)


def test_po_serves_the_preamble_first() -> None:
    po = Po(preamble=15)
    fresh, known = View(predicted_length=900.0, num_output_tokens=14), View(num_output_tokens=15)
    assert po.priority(fresh, 0) < po.priority(known, 0)
    assert po.next_change(fresh, 0).after_steps_run == 1
    assert po.next_change(known, 0) == NEVER


def test_mlfq_sinks_when_service_exceeds_the_quantum_and_starts_anew() -> None:
    mlfq, view = Mlfq(base_quantum=0.1, threshold=2), View()
    mlfq.on_arrival(view, 0.0)
    assert mlfq.next_change(view, 0.0).after_service == pytest.approx(0.1)
    view.attained_service = 0.1
    mlfq.on_change(view, 0.1)
    assert mlfq.priority(view, 0.1) == 0  # not exceeded
    view.attained_service = 0.15
    mlfq.on_change(view, 0.15)
    assert mlfq.priority(view, 0.15) == 1
    assert mlfq.next_change(view, 0.15).after_service == pytest.approx(0.2)


def test_mlfq_promotes_the_starving_only_when_asked() -> None:
    for seconds, level in ((None, 1), (3.0, 0)):
        mlfq, view = Mlfq(base_quantum=0.1, starvation_seconds=seconds), View()
        mlfq.on_arrival(view, 0.0)
        view.attained_service, view.steps_run = 0.2, 9
        mlfq.on_change(view, 0.2)
        mlfq.on_preempt(view, 1.0)
        change = mlfq.next_change(view, 1.0)
        assert change.after_time == (None if seconds is None else pytest.approx(3.0))
        mlfq.on_change(view, 3.9)
        assert mlfq.priority(view, 3.9) == 1
        mlfq.on_change(view, 4.0)
        assert mlfq.priority(view, 4.0) == level


def test_skip_join_starts_where_the_quantum_covers_the_prefill() -> None:
    fast = FastServe(base_quantum=0.01, threshold=2, prefill_time_per_token=1e-4)
    for tokens, level in ((100, 0), (101, 1), (200, 1), (201, 2), (1600, 4)):
        view = View(request_id=str(tokens), num_prompt_tokens=tokens)
        fast.on_arrival(view, 0.0)
        assert fast.priority(view, 0.0) == level


def test_starvation_control_promotes_for_a_period() -> None:
    control = StarvationControl(Ranking(), threshold=10, period=2)
    view = View(score=5.0)
    control.on_arrival(view, 0.0)
    assert control.priority(view, 0) == (1, 5.0)
    assert control.next_change(view, 0) == Change(after_steps_idle=10)
    view.steps_idle = 10
    control.on_change(view, 0)
    assert control.priority(view, 0) == (0, 5.0)
    view.steps_idle, view.steps_run = 0, 1
    control.on_change(view, 0)
    assert control.next_change(view, 0) == Change(after_steps_run=1, after_steps_idle=10)
    view.steps_run = 2
    control.on_change(view, 0)
    assert control.priority(view, 0) == (1, 5.0)


def test_a_promoted_request_that_starves_again_gets_its_whole_period_back() -> None:
    control = StarvationControl(Ranking(), threshold=10, period=3)
    view = View(score=5.0, steps_idle=10)
    control.on_arrival(view, 0.0)
    control.on_change(view, 0)
    view.steps_run, view.steps_idle = 2, 10
    control.on_change(view, 0)
    view.steps_run, view.steps_idle = 4, 0
    control.on_change(view, 0)
    assert control.priority(view, 0) == (0, 5.0)
    view.steps_run = 5
    control.on_change(view, 0)
    assert control.priority(view, 0) == (1, 5.0)
