"""Policies that say who is let in: the rules' values by hand, and what they promise."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.policies.a_min import AMin
from simsched.policies.base import ADMIT, hold
from simsched.policies.mc_sf import McSf
from simsched.policies.memory import Promised, demand, demands, peak_tokens, predicted_length
from simsched.policies.past_future import PastFuture
from simsched.policies.spec import make_policy
from simsched.policies.svf import SmallestVolume
from tests.engine.scenarios import Linear, same, trace
from tests.policies.engine import Engine
from tests.policies.view import View


@pytest.mark.parametrize(
    ("requests", "peak"),
    [
        ([], 0),
        ([(10, 5)], 15),
        # at the end of the first 13 + 23, then 28 alone
        ([(10, 3), (20, 8)], 36),
        # at the end of the second (10 + 2) + (1 + 2), at that of the first 10 + 9
        ([(10, 9), (1, 2)], 19),
        ([(5, 4), (5, 4), (5, 4)], 27),
    ],
)
def test_the_peak_of_memory(requests: list[tuple[int, int]], peak: int) -> None:
    assert peak_tokens(requests) == peak


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 30)), max_size=8))
def test_the_peak_is_that_of_a_simulation(requests: list[tuple[int, int]]) -> None:
    held = [
        sum(now + step for now, left in requests if left >= step)
        for step in range(1, max((left for _, left in requests), default=0) + 1)
    ]
    assert peak_tokens(requests) == max(held, default=0)


@pytest.mark.parametrize(("blocks", "answer"), [(36, ADMIT), (35, hold())])
def test_mc_sf_admits_what_fits_to_the_end(blocks: int, answer: object) -> None:
    """As in the second line above: 20 + 8 runs, with 2 of 10 tokens generated, and 10 + 3 asks."""
    running = View("a", num_prompt_tokens=18, predicted_length=10.0, num_output_tokens=2)
    asks = View("b", num_prompt_tokens=10, predicted_length=3.0)
    assert McSf().admit(asks, Engine(running=[running], num_blocks=blocks)) == answer


def test_mc_sf_expects_one_more_of_what_is_longer_than_predicted() -> None:
    running = View("a", num_prompt_tokens=10, predicted_length=5.0, num_output_tokens=7)
    asks = View("b", num_prompt_tokens=4, predicted_length=6.0)
    # 17 + 1 and 4 + 1 in the next step, 4 + 6 in the end
    assert McSf().admit(asks, Engine(running=[running], num_blocks=23)) == ADMIT
    assert McSf().admit(asks, Engine(running=[running], num_blocks=22)) == hold()


def test_smallest_volume() -> None:
    """100 prompt tokens, 4 to come: 400 in the prompt, and 1 + 2 + 3 + 4."""
    assert SmallestVolume().priority(View(num_prompt_tokens=100, predicted_length=4.0), 0.0) == 410


def test_smallest_volume_is_shortest_first_where_prompts_are_equal() -> None:
    work = trace(80, 30.0, 4)
    work = work.with_columns(num_prompt_tokens=np.full(80, 60))
    config = engine_config(max_num_seqs=8, num_gpu_blocks=200, max_model_len=1500)
    runs = [simulate(work, make_policy(spec), Linear(), config) for spec in ("svf", "mc-sf")]
    same(*runs)
    assert len(np.unique(runs[0].first_scheduled_time)) > 20


@pytest.mark.parametrize("spec", ["mc-sf", "svf"])
def test_nobody_is_preempted_where_predictions_are_true(spec: str) -> None:
    """Blocks of one token, as the paper has them; shortest first alone preempts."""
    work = trace(80, 40.0, 2, longest=400)
    config = engine_config(
        max_num_seqs=64,
        num_gpu_blocks=900,
        max_model_len=420,
        block_size=1,
        enable_prefix_caching=False,
    )
    assert simulate(work, make_policy(spec), Linear(), config).num_preemptions.sum() == 0
    alone = simulate(work, make_policy("sjf(preemptive=false)"), Linear(), config)
    assert alone.num_preemptions.sum() > 0


@given(st.integers(1, 50), st.integers(0, 40), st.one_of(st.none(), st.floats(1, 60)), st.integers(60, 120))
def test_what_is_written_out_is_the_same(
    prompt: int, generated: int, predicted: float | None, most: int
) -> None:
    view = View(num_prompt_tokens=prompt, num_output_tokens=generated, predicted_length=predicted)
    assert demands([view], most) == [demand(view, predicted_length(view), most)]


def test_a_min() -> None:
    policy = AMin()
    running = View("a", num_prompt_tokens=10, length_quantiles=(3.0, 9.0), num_output_tokens=5)
    asks = View("b", num_prompt_tokens=10, length_quantiles=(2.0, 50.0))
    assert policy.bound(running) == 5
    assert policy.priority(asks, 0.0) == 2
    # 15 + 1 and 10 + 1, then 12
    assert policy.admit(asks, Engine(running=[running], num_blocks=27)) == ADMIT
    assert policy.admit(asks, Engine(running=[running], num_blocks=26)) == hold()
    assert policy.victim([running, asks], Engine()) is asks
    twin = View("c", length_quantiles=(2.0, 50.0))
    assert policy.victim([asks, twin], Engine()) is twin
    policy.on_preempt(running, 0.0)
    assert policy.priority(running, 0.0) == 5


def test_past_future_draws_from_the_latest_answers() -> None:
    policy = PastFuture(reserved=0.0, window=3)
    for name in "abcdx":
        policy.on_arrival(View(name), 0.0)
    asks = View("x", num_prompt_tokens=10)
    policy.admit(asks, Engine())
    assert policy.demands([asks], 1000) == [(10, 990)]
    for place, length in enumerate((99, 5, 20, 60)):
        policy.on_finish(View("abcd"[place], num_output_tokens=length), float(place))
    policy.admit(asks, Engine())
    assert policy.demands([asks], 1000)[0] in ((10, 5), (10, 20), (10, 60))
    at_20, at_60 = (View("x", num_prompt_tokens=10, num_output_tokens=count) for count in (20, 60))
    assert policy.demands([at_20, at_60], 1000) == [(30, 40), (70, 930)]
    assert policy.demands([at_20, View("x", num_prompt_tokens=1000)], 40) == [(30, 10), (1000, 1)]


def test_past_future_looks_at_nobody_where_all_would_fit() -> None:
    """Whatever it draws, none needs more than the longest sequence and the token that makes it end."""
    policy = PastFuture(reserved=0.0)
    running = [View(name, num_prompt_tokens=10) for name in "ab"]
    for each in (*running, asks := View("x", num_prompt_tokens=10)):
        policy.on_arrival(each, 0.0)
    assert (
        policy.admit(asks, Engine(running=running, num_blocks=3, block_size=101, max_model_len=100)) == ADMIT
    )
    # 30 tokens now and 90 more each: 300
    assert (
        policy.admit(asks, Engine(running=running, num_blocks=3, block_size=100, max_model_len=100)) == ADMIT
    )
    assert (
        policy.admit(asks, Engine(running=running, num_blocks=1, block_size=299, max_model_len=100)) == hold()
    )


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize(("window", "blocks"), [(1000, 700), (60, 300), (200, 3000)])
def test_past_future_bounds_what_it_takes_each_to_need(
    ahead: bool, window: int, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has been let in, at each look, though most of them were looked at some time ago."""
    seen = []
    fits = PastFuture._fits

    def checked(policy: PastFuture, request: View, engine: Engine) -> bool:
        answer = fits(policy, request, engine)
        policy._bounds.total(engine.num_steps, engine.max_model_len)
        for each in (*engine.running, *engine.let_in):
            look = policy._bounds._of.get(each.request_id)
            if look is not None:
                needed = sum(policy.demands([each], engine.max_model_len)[0])
                assert needed <= look.bound
                seen.append((look.steps < engine.num_steps, look.bound <= engine.max_model_len))
        return answer

    monkeypatch.setattr(PastFuture, "_fits", checked)
    config = engine_config(num_gpu_blocks=blocks, max_model_len=1500, max_num_seqs=64, async_scheduling=ahead)
    record = simulate(trace(500, 12.0, 3), PastFuture(window=window), Linear(), config)
    assert record.finished.all()
    assert (True, True) in seen


@pytest.mark.parametrize("policy", ["mc-sf", "a-min"])
def test_room_for_all_that_was_promised_is_room_to_the_end(
    policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is let in without a look at each would be with one, those let in with it included."""
    seen = []
    fits = Promised.fits_anyway

    def checked(memory: Promised, need: int, engine: Engine) -> bool:
        answer = fits(memory, need, engine)
        if answer:
            assert all(each.request_id in memory._of for each in (*engine.running, *engine.let_in))
            everyone = [(need, 0), *demands([*engine.running, *engine.let_in], engine.max_model_len)]
            held = engine.num_blocks * engine.block_size
            if policy == "mc-sf" and engine.num_decodes == engine.num_running:
                assert peak_tokens(everyone) <= held
            seen.append(engine.num_let_in)
        return answer

    monkeypatch.setattr(Promised, "fits_anyway", checked)
    config = engine_config(num_gpu_blocks=1500, max_model_len=1500, max_num_seqs=64)
    record = simulate(trace(300, 20.0, 3), make_policy(policy), Linear(), config)
    assert record.finished.all()
    assert max(seen) > 0


def test_past_future_preempts_less_than_no_admission() -> None:
    work = trace(200, 20.0, 6, longest=1000)
    config = engine_config(max_num_seqs=64, num_gpu_blocks=250, max_model_len=1100)
    careful = simulate(work, make_policy("past-future"), Linear(), config)
    plain = simulate(work, make_policy("fcfs"), Linear(), config)
    assert careful.num_preemptions.sum() < plain.num_preemptions.sum() / 2


def test_the_policy_of_the_contributors_guide(tmp_path: Path) -> None:
    """20 lines that use `admit`: some are rejected, all others served, leaping as stepping."""
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    code = re.findall(r"```python\n(# roomy.py\n.*?)```", text, re.S)[0]
    (tmp_path / "roomy.py").write_text(code)
    spec = f"{tmp_path}/roomy.py:Roomy(longest=400)"
    work = trace(120, 30.0, 8)
    config = engine_config(max_num_seqs=32, num_gpu_blocks=150, max_model_len=1500)
    stepped = simulate(work, make_policy(spec), Linear(), config, leap=False)
    same(stepped, simulate(work, make_policy(spec), Linear(), config))
    assert stepped.rejected is not None
    assert (stepped.rejected == (work.num_prompt_tokens > 400)).all()
    assert (stepped.finished == ~stepped.rejected).all()
    assert stepped.counters["rejected by admit"] == stepped.rejected.sum() > 0
