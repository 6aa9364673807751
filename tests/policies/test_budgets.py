"""Policies that set the token budget: the rules' values by hand, and what they promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.policies.fair_batching import FairBatching
from simsched.policies.p_pas import PPas
from simsched.policies.qoserve import QoServe
from simsched.policies.slack import Slack
from simsched.policies.spec import make_policy
from tests.engine.scenarios import Linear, same, trace
from tests.policies.engine import Engine
from tests.policies.view import View

DECODES = View("d", num_prompt_tokens=100, num_output_tokens=5, num_computed_tokens=104)
HALFWAY = View("p", num_prompt_tokens=1000, num_computed_tokens=400)
LONG = View("l", num_prompt_tokens=70_000, num_computed_tokens=4464)
NEW = View("n", num_prompt_tokens=500)


@pytest.mark.parametrize(
    ("running", "waiting", "plain", "plus"),
    [
        ([DECODES], [], 16_384, 16_384),
        ([DECODES, HALFWAY], [], 16_384, 16_384),
        ([HALFWAY, HALFWAY], [], 16_384, 16_384),
        ([DECODES, HALFWAY, HALFWAY], [], 1280, 1280),
        ([DECODES, HALFWAY], [NEW], 1280, 1280),
        ([DECODES], [NEW, NEW], 1280, 1280),
        ([DECODES, LONG], [], 16_384, 16_384),
        ([DECODES, DECODES, LONG], [], 16_384, 1280),
    ],
)
def test_p_pas(running: list[View], waiting: list[View], plain: int, plus: int) -> None:
    engine = Engine(running=running, waiting=waiting)
    assert PPas().token_budget(engine) == plain
    assert PPas(plus=True).token_budget(engine) == plus


def test_p_pas_counts_only_those_for_whom_there_is_a_place() -> None:
    assert PPas().token_budget(Engine(running=[DECODES], waiting=[NEW, NEW], max_num_seqs=2)) == 16_384


@pytest.mark.parametrize(
    ("now", "budget"),
    [
        # its sixth token is due at 1 + 5 * 0.1 s: a step of 10 ms and 1 ms a token may take 0.3 s, with 290
        (1.2, 1 + 290),
        # 50 ms are left, but the least of all is 0.1 s a token
        (1.45, 1 + 90),
        (3.0, 1 + 90),
    ],
)
def test_fair_batching(now: float, budget: int) -> None:
    policy = FairBatching(ttft=1.0, tpot=0.1)
    assert policy.token_budget(Engine(now=now + 1e-9, running=[DECODES, HALFWAY])) == budget - (now == 1.2)
    assert policy.token_budget(Engine(now=now, running=[HALFWAY])) == 100_000


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize(("slots", "blocks", "rate"), [(64, 2000, 5.0), (16, 110, 40.0), (4, 90, 200.0)])
def test_who_is_due_first_is_known_without_a_look_at_each(
    ahead: bool, slots: int, blocks: int, rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With preemptions and with many who wait, too: the same as if each running request were looked at."""
    asked = []

    def checked(slack: Slack, engine: Any) -> None:
        look(slack, engine)
        running = [
            each
            for each in engine.running
            if each.num_prompt_tokens + each.num_output_tokens - each.num_computed_tokens <= 1
        ]
        paces = [0.03 if each.slo_tpot is None else each.slo_tpot for each in running]
        firsts = [each.arrival_time + (0.5 if each.slo_ttft is None else each.slo_ttft) for each in running]
        due = [
            first + each.num_output_tokens * pace
            for first, each, pace in zip(firsts, running, paces, strict=True)
        ]
        assert engine.num_decodes == len(running)
        assert engine.decode_context == sum(each.num_computed_tokens + 1 for each in running)
        assert slack.least_pace() == min(paces, default=np.inf)
        first, enough = min(due, default=np.inf), (0.02, 0.3)[len(asked) % 2]
        found = slack.first_due(engine.now, enough)
        assert found == first or (found < first and found - engine.now >= enough)
        if len(asked) % 5 == 0:
            assert slack.first_due(engine.now, np.inf) == first
        asked.append(found < first)

    look = Slack.look
    monkeypatch.setattr(Slack, "look", checked)
    work = trace(150, rate, 3)
    random = np.random.default_rng(0)
    work = work.with_columns(
        slo_ttft=random.choice([0.2, 2.0, np.nan], 150), slo_tpot=random.choice([0.01, 0.1, np.nan], 150)
    )
    config = engine_config(
        max_num_seqs=slots, max_num_batched_tokens=256, num_gpu_blocks=blocks, max_model_len=1500,
        async_scheduling=ahead,
    )  # fmt: skip
    record = simulate(work, FairBatching(ttft=0.5, tpot=0.03), Linear(), config)
    assert record.finished.all()
    assert len(asked) > 100
    assert any(asked)
    assert not all(asked)
    assert (record.num_preemptions > 0).any() == (blocks < 200)


def test_qoserve_by_hand() -> None:
    policy = QoServe(alpha=0.01)
    chat = View(arrival_time=2.0, num_prompt_tokens=300, slo_ttft=4.0)
    batch = View(arrival_time=2.0, num_prompt_tokens=300, predicted_length=50.0, deadline=60.0)
    assert policy.priority(chat, 0.0) == (0, 9.0)
    assert policy.priority(batch, 0.0) == (0, 65.5)


@pytest.mark.parametrize(
    ("now", "budget"),
    [
        # its sixth token is due at 1 + 5 * 0.1 s: a step of 10 ms and 1 ms a token may take 0.5 s, or none
        (1.0, 1 + 490),
        (3.0, 1 + 256),
    ],
)
def test_qoserve_chunks_by_slack(now: float, budget: int) -> None:
    policy = QoServe(ttft=1.0, tpot=0.1)
    assert policy.token_budget(Engine(now=now - 1e-9, running=[DECODES, HALFWAY])) == budget


def test_qoserve_with_alpha_0_is_earliest_deadline_first() -> None:
    work = trace(80, 30.0, 4, slo_ttft=0.5 + 3.0 * (np.arange(80) % 4))
    config = engine_config(max_num_seqs=8, max_model_len=1500, num_gpu_blocks=2000)
    options = "alpha=0,relegated=0,tpot=1000000"
    same(
        simulate(work, make_policy(f"qoserve({options})"), Linear(), config),
        simulate(work, make_policy("edf"), Linear(), config),
    )


def test_qoserve_relegates_no_more_than_its_share() -> None:
    policy = QoServe(relegated=0.05)
    views = [View(str(number), slo_ttft=1.0) for number in range(60)]
    for view in views:
        policy.on_arrival(view, 0.0)
    for view in views:
        policy.on_change(view, 2.0)
    assert sum(policy.priority(view, 2.0)[0] for view in views) == 3
