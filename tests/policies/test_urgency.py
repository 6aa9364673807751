"""Orders by what is cached, by waiting and by deadlines: by hand, and what they are known for."""

from __future__ import annotations

import numpy as np
import pytest

from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.errors import InputError
from simsched.policies.base import NEVER, Change
from simsched.policies.spec import make_policy
from simsched.record import RunRecord
from simsched.workload.trace import Trace
from tests.engine.scenarios import Linear, same, shared_prefixes, trace
from tests.policies.view import View


def run(work: Trace, spec: str, *, slots: int = 8, blocks: int = 3000) -> RunRecord:
    config = engine_config(max_num_seqs=slots, num_gpu_blocks=blocks, max_model_len=1500)
    return simulate(work, make_policy(spec), Linear(), config)


def test_lpm_by_hand() -> None:
    lpm = make_policy("lpm")
    assert lpm.priority(View(num_prompt_tokens=900, num_cached_tokens=320), 5.0) == (1, -320)
    assert lpm.priority(View(num_cached_tokens=320, steps_run=2, arrival_time=3.0), 5.0) == (0, 3.0)
    assert lpm.next_change(View(steps_run=2), 5.0) == NEVER


def test_lpm_finds_more_in_the_cache_and_is_fcfs_without_one() -> None:
    plain = trace(120, 60.0, 5, longest=1000)
    shared = shared_prefixes(plain, 6)
    hits = [
        float(np.nansum(run(shared, spec, slots=4, blocks=150).num_cached_tokens)) for spec in ("lpm", "fcfs")
    ]
    assert hits[0] > hits[1]
    same(run(plain, "lpm"), run(plain, "fcfs"))


def test_hrrn_by_hand() -> None:
    hrrn = make_policy("hrrn")
    # 4 s for 200 tokens that are not cached
    view = View(num_prompt_tokens=500, num_cached_tokens=300, arrival_time=1.0)
    assert hrrn.priority(view, 5.0) == (1, -0.02)
    assert hrrn.priority(View(steps_run=1, arrival_time=1.0), 5.0) == (0, 1.0)
    assert hrrn.next_change(View(), 5.0) == Change(after_steps_run=1, after_time=0.0)
    by_output = make_policy("hrrn(service=output)")
    assert by_output.priority(View(predicted_length=80.0, arrival_time=1.0), 5.0) == (1, -0.05)


def test_hrrn_lets_nobody_starve() -> None:
    """A longer prompt among ever more short ones: under shortest first it waits for all of them, here until
    its ratio is theirs. And no later one overtakes that asks as much."""
    n = 300
    prompts = np.where(np.arange(n) == 60, 60, 30)
    work = trace(n, 40.0, 2).with_columns(num_prompt_tokens=prompts, num_output_tokens=np.full(n, 12))
    wait = {}
    for spec in ("hrrn", "sjf-aging(form=sglang,aging_tokens=0)"):
        record = run(work, spec, slots=4)
        wait[spec] = record.first_scheduled_time[60] - record.arrival_time[60]
    assert wait["hrrn"] < 0.75 * wait["sjf-aging(form=sglang,aging_tokens=0)"]
    mixed = trace(150, 40.0, 3)
    record = run(mixed, "hrrn")
    later = mixed.arrival_time[None, :] > mixed.arrival_time[:, None]
    as_much = mixed.num_prompt_tokens[None, :] >= mixed.num_prompt_tokens[:, None]
    start = record.first_scheduled_time
    assert (start[:, None] <= start[None, :])[later & as_much].all()


@pytest.mark.parametrize(
    ("asked", "due"),
    [
        ({}, 17.0),
        ({"slo_ttft": 2.0}, 9.0),
        ({"slo_ttft": 2.0, "deadline": 30.0}, 37.0),
        ({"deadline": 0.5}, 7.5),
    ],
)
def test_edf_by_hand(asked: dict[str, float], due: float) -> None:
    edf = make_policy("edf")
    view = View(arrival_time=7.0, deadline=asked.get("deadline"), slo_ttft=asked.get("slo_ttft"))
    assert edf.priority(view, 8.0) == due
    assert edf.next_change(view, 8.0) == NEVER


def test_edf_by_class() -> None:
    edf = make_policy("edf(deadlines={chat: 5, batch: 60},deadline=20)")
    classes = ("chat", "batch", "agent", None)
    assert [edf.priority(View(request_class=each, arrival_time=2.0), 8.0) for each in classes] == [
        7,
        62,
        22,
        22,
    ]
    assert edf.priority(View(request_class="chat", slo_ttft=1.0, arrival_time=2.0), 8.0) == 3
    with pytest.raises(InputError, match="deadlines"):
        make_policy("edf(deadlines={chat: -5})")


def test_with_one_allowance_for_all_edf_is_fcfs() -> None:
    work = trace(80, 30.0, 4)
    same(run(work, "edf"), run(work, "fcfs"))


def test_edf_misses_fewer_deadlines() -> None:
    """Where half have much time and half have little: it meets what FCFS misses."""
    n = 200
    work = trace(n, 12.0, 8).with_columns(deadline=np.where(np.arange(n) % 2, 60.0, 3.0))
    due = work.arrival_time + np.asarray(work.deadline)
    late = {
        spec: int((run(work, spec).finish_time > due).sum())
        for spec in ("edf", "edf(preemptive=true)", "fcfs")
    }
    assert max(late["edf"], late["edf(preemptive=true)"]) < 0.8 * late["fcfs"]


def test_least_slack_by_hand() -> None:
    slack = make_policy("least-slack(time_per_token=0.001)")
    # due at 12, and 1.5 s of prefill to come
    assert slack.priority(View(arrival_time=7.0, slo_ttft=5.0, num_prompt_tokens=1500), 8.0) == (1, 10.5)
    assert slack.priority(View(arrival_time=7.0, num_prompt_tokens=1000), 8.0) == (1, 26.0)
    vllm = make_policy("least-slack(form=vllm)")
    # 200 * 2 / 40 + 10 * (1 - 2048 / 8192)
    view = View(arrival_time=6.0, slo_ttft=40.0, num_prompt_tokens=2048)
    assert vllm.priority(view, 8.0) == (1, -17.5)
    assert vllm.priority(View(arrival_time=6.0, num_prompt_tokens=8192), 8.0) == (1, -20.0)
    with pytest.raises(InputError, match="form vllm orders the queue alone"):
        make_policy("least-slack(form=vllm,preemptive=true)")


def test_without_service_times_least_slack_is_edf() -> None:
    n = 120
    work = trace(n, 30.0, 4).with_columns(slo_ttft=np.random.default_rng(1).uniform(0.5, 20, n))
    same(run(work, "least-slack(time_per_token=0)"), run(work, "edf"))
