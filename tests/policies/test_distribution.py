"""Policies that read a predicted distribution: exact values by hand, and what their papers claim."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.errors import InputError
from simsched.policies.base import Change
from simsched.policies.distribution import gittins_index, mean_beyond
from simsched.policies.spec import make_policy
from simsched.policies.tie import Tie
from simsched.record import RunRecord
from tests.engine.scenarios import Linear, same, trace
from tests.policies.view import View

COINS = (10.0, 100.0)
"""Ten or a hundred tokens, as likely."""


@pytest.mark.parametrize(
    ("age", "index"),
    [
        # stop at 10: 10 spent for a chance of 1/2; stop at 100: (10 + 100) / 2 for certain
        (0, 20.0),
        (4, 12.0),
        (9, 2.0),
        # ten are outlived: 90 to go
        (10, 90.0),
        (60, 40.0),
        (100, 0.0),
        (130, -30.0),
    ],
)
def test_the_gittins_index_by_hand(age: int, index: float) -> None:
    assert gittins_index(COINS, age) == pytest.approx(index)
    view = View(length_quantiles=COINS, num_output_tokens=age)
    assert make_policy("gittins").priority(view, 0.0) == pytest.approx(index)


def test_gittins_tells_when_its_index_jumps() -> None:
    gittins = make_policy("gittins")
    view = View(length_quantiles=COINS, num_output_tokens=4)
    assert gittins.next_change(view, 0.0) == Change(after_steps_run=6, while_running="improves")
    view.num_output_tokens = 100
    assert gittins.next_change(view, 0.0) == Change(while_running="improves")


@given(st.lists(st.integers(1, 500), min_size=1, max_size=12), st.integers(0, 520))
def test_the_index_is_the_infimum_over_all_stops(lengths: list[int], age: int) -> None:
    """By its definition, token by token."""
    points = sorted(float(length) for length in lengths)
    beyond = [point - age for point in points if point > age]
    if not beyond:
        assert gittins_index(points, age) == points[-1] - age
        return
    tried = []
    for stop in range(1, 501):
        done = sum(left <= stop for left in beyond)
        if done:
            tried.append(sum(min(left, stop) for left in beyond) / done)
    assert gittins_index(points, age) == pytest.approx(min(tried))


def run(spec: str, *, points: np.ndarray | None = None, slots: int = 8) -> RunRecord:
    work = trace(80, 20.0, 9)
    if points is not None:
        work = work.with_columns(length_quantiles=points)
    config = engine_config(max_num_seqs=slots, num_gpu_blocks=500, max_model_len=1500)
    return simulate(work, make_policy(spec), Linear(), config)


def lengths() -> np.ndarray:
    return trace(80, 20.0, 9).num_output_tokens.astype(float)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("spec", ["gittins", "trail(c=1e9)"])
def test_with_a_distribution_of_one_point_it_is_srtf(spec: str, count: int) -> None:
    same(run(spec, points=np.tile(lengths()[:, None], count)), run("srtf"))


def test_gittins_beats_the_mean_where_lengths_are_known_in_distribution_only() -> None:
    """One slot: the index minimises the mean latency, the mean length does not."""
    rng = np.random.default_rng(2)
    n = 400
    long = np.where(rng.random(n) < 0.5, 600, 200)  # of two kinds: 2 or 600 tokens, 2 or 200
    short = np.where(long == 600, 2, 180)
    outputs = np.where(rng.random(n) < 0.5, short, long)
    work = trace(n, 0.0, 1).with_columns(
        num_prompt_tokens=np.full(n, 16),
        num_output_tokens=outputs,
        predicted_length=(short + long) / 2.0,
        length_quantiles=np.stack([short, long], axis=1).astype(float),
    )
    config = engine_config(max_num_seqs=1, num_gpu_blocks=500, max_model_len=1500)

    def latency(spec: str) -> float:
        return float(simulate(work, make_policy(spec), Linear(), config).finish_time.mean())

    # kind 1 has the larger mean (301 over 190) and the smaller index (4 over 190)
    assert latency("gittins") < 0.8 * latency("sjf")


def test_the_cost_of_sagesched_by_hand() -> None:
    # 100 tokens of prompt: 10 tokens cost 1,000 + 50, 100 cost 10,000 + 5,000
    view = View(num_prompt_tokens=100, length_quantiles=COINS)
    policy = make_policy("sagesched")
    assert policy.priority(view, 0.0) == pytest.approx(min(2 * 1050.0, (1050 + 15000) / 2))
    view.num_output_tokens = 4
    assert policy.priority(view, 0.0) == pytest.approx(2 * (1050.0 - 408.0))
    longer = View(num_prompt_tokens=2000, length_quantiles=(9.0, 90.0))
    assert make_policy("gittins").priority(longer, 0.0) < make_policy("gittins").priority(
        View(length_quantiles=COINS), 0.0
    )
    assert policy.priority(longer, 0.0) > policy.priority(
        View(num_prompt_tokens=100, length_quantiles=COINS), 0.0
    )


def test_the_score_of_tie_by_hand() -> None:
    points = tuple(float(n) for n in range(100, 2100, 100))  # 100 to 2,000
    # mean 1,050; CVaR at 0.9 is the mean of 1,900 and 2,000
    assert Tie().score(points, 0.1) == pytest.approx(1050 + 195)
    assert Tie(max_length=1000).score(points, 0.5) == pytest.approx((5500 + 10 * 1000) / 20 + 500)
    # 3 of 20 points and 4 of 10: 0.85 leaves 3, 0.9 of 5 points half a point
    assert Tie(alpha=0.85).score(points, 1.0) == pytest.approx(1050 + 1900)
    assert Tie().score((1.0, 2.0, 3.0, 4.0, 7.0), 1.0) == pytest.approx(3.4 + 7.0)
    assert Tie(alpha=0.7).score((1.0, 2.0, 3.0, 4.0, 7.0), 1.0) == pytest.approx(3.4 + (7 + 0.5 * 4) / 1.5)


def test_tie_grows_careful_with_its_queue() -> None:
    tie = Tie(batch_size=2)
    for number in range(12):
        tie.on_arrival(View(request_id=str(number), length_quantiles=(10.0,)), 0.0)
    scores = [math.exp(tie.priority(View(request_id=str(number)), 0.0)) for number in range(12)]
    # Lq = 0, 0, 1, 2, ...: beta = 0.1 up to Lq / B = 1, then Lq / 20, at most 0.5
    betas = [0.1, 0.1, 0.1, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5]
    assert scores == pytest.approx([10 * (1 + beta) for beta in betas])


@pytest.mark.parametrize("now", [200.0, 1000.0])
def test_the_order_of_two_is_that_of_their_decayed_scores(now: float) -> None:
    tie = Tie(beta=0.1)
    for length, arrival in ((100.0, 90.0), (110.0, 90.0), (110.0, 60.0), (90.0, 100.0), (220.0, 0.0)):
        view = View(request_id=f"{length} {arrival}", length_quantiles=(length,), arrival_time=arrival)
        tie.on_arrival(view, arrival)
    decayed = {key: float(key.split()[0]) * 0.9 ** ((now - float(key.split()[1])) / 30) for key in tie._keys}
    assert sorted(decayed, key=decayed.__getitem__) == sorted(tie._keys, key=tie._keys.__getitem__)


@pytest.mark.parametrize(
    ("tokens", "ran", "key"),
    [
        (0, 0, (1, 55.0)),
        (4, 4, (1, 51.0)),
        # ten are outlived, but it is predicted anew at 16 only
        (15, 15, (1, 40.0)),
        (16, 16, (1, 84.0)),
        # 0.4 of the first prediction
        (22, 22, (0, 78.0)),
        (120, 120, (0, -20.0)),
    ],
)
def test_trail_by_hand(tokens: int, ran: int, key: tuple[int, float]) -> None:
    view = View(length_quantiles=COINS, num_output_tokens=tokens, steps_run=ran)
    assert make_policy("trail(c=0.4)").priority(view, 0.0) == key


def test_trail_predicts_anew_when_it_must() -> None:
    trail = make_policy("trail(c=0.4)")
    view = View(length_quantiles=COINS, num_output_tokens=3, steps_run=3)
    assert trail.next_change(view, 0.0) == Change(after_steps_run=13, while_running="improves")
    view.num_output_tokens = view.steps_run = 16
    assert trail.next_change(view, 0.0) == Change(after_steps_run=6, while_running="improves")
    view.num_output_tokens = view.steps_run = 22
    assert trail.next_change(view, 0.0) == Change(after_steps_run=82, while_running="improves")


def test_with_c_0_trail_does_not_preempt() -> None:
    assert not make_policy("trail(c=0)").preemptive
    config = engine_config(max_num_seqs=4, num_gpu_blocks=5000, max_model_len=1500)
    work = trace(80, 20.0, 9)
    assert simulate(work, make_policy("trail(c=0)"), Linear(), config).num_preemptions.sum() == 0
    some = [
        simulate(work, make_policy(f"trail(c={c})"), Linear(), config).num_preemptions.sum()
        for c in (0.2, 0.8, 5)
    ]
    assert 0 < some[0] < some[1] <= some[2]


@pytest.mark.parametrize(
    ("tokens", "left"), [(0, 55.0), (49, 55.0), (50, 50.0), (99, 50.0), (100, 0.0), (150, -50.0)]
)
def test_elis_by_hand(tokens: int, left: float) -> None:
    view = View(length_quantiles=COINS, num_output_tokens=tokens)
    policy = make_policy("elis")
    assert policy.priority(view, 0.0) == left
    assert policy.next_change(view, 0.0) == Change(after_steps_run=50 - tokens % 50)


def test_what_is_left_of_a_distribution() -> None:
    assert [mean_beyond(COINS, age) for age in (0, 9.9, 10, 99, 100, 200)] == [55, 55, 100, 100, 100, 100]


@pytest.mark.parametrize("spec", ["tie", "gittins", "sagesched", "trail", "elis"])
def test_a_distribution_is_needed(spec: str) -> None:
    view = View(length_quantiles=None)
    policy = make_policy(spec)
    with pytest.raises(InputError, match="request r: no length_quantiles; expected a trace with them"):
        (policy.on_arrival if spec == "tie" else policy.priority)(view, 0.0)
