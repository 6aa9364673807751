"""What a plan makes of a study's requests, and what it says about that before anything runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simsched.errors import InputError
from simsched.policies.user_policy import PolicyError
from simsched.sweep.execute import run_study
from simsched.sweep.inputs import prepare
from simsched.sweep.plan import Plan, make_plan
from simsched.sweep.study import make_study
from simsched.workload.formats import load_trace
from simsched.workload.trace_io import write_trace
from tests.sweep.test_sweep import write_jsonl


def planned(**options: Any) -> Plan:
    return make_plan(make_study({"policy": "fcfs", **options}))


def notes(**options: Any) -> str:
    return "\n".join(planned(**options).notes)


@pytest.fixture
def trace(tmp_path: Path) -> str:
    """300 requests, one every 0.1 s, ever longer."""
    return write_jsonl(
        tmp_path / "T.jsonl",
        [{"timestamp": i / 10, "input_length": 50, "output_length": 20 + i} for i in range(300)],
    )


def rates(**options: Any) -> list[float]:
    rates = (cell.load.request_rate for cell in planned(**options).cells.values())
    return [rate for rate in rates if rate is not None]


@pytest.mark.parametrize("cut", [{"num_requests": "100"}, {"duration": "9.95"}])
def test_the_capacity_is_that_of_the_requests_that_run(
    trace: str, tmp_path: Path, cut: dict[str, str]
) -> None:
    first = load_trace(trace)[0].take(np.arange(100))
    write_trace(first, tmp_path / "first.jsonl")
    alone = planned(trace=str(tmp_path / "first.jsonl")).notes[0]
    said = planned(trace=trace, **cut).notes[0]
    assert said.endswith(" for the first 100 requests")
    assert said.split("capacity")[1].startswith(alone.split("capacity")[1])
    whole = planned(trace=trace).notes[0]
    assert whole.split("capacity")[1] != alone.split("capacity")[1]


def test_a_share_of_the_capacity_and_the_requests_of_a_duration_agree(trace: str, tmp_path: Path) -> None:
    (cell,) = planned(trace=trace, duration="5", request_rate="0.5x").cells.values()
    kept = prepare(cell).trace
    rate = cell.load.request_rate
    assert rate is not None
    assert len(kept) == round(5 * rate) < 300
    write_trace(kept, tmp_path / "kept.jsonl")
    assert rates(trace=str(tmp_path / "kept.jsonl"), request_rate="0.5x") == pytest.approx([rate], rel=0.05)


def test_the_grid_counts_what_a_duration_keeps(trace: str) -> None:
    for options in ({"duration": "5"}, {"duration": "5", "request_rate": "7"}, {"num_requests": "7"}):
        plan = planned(trace=trace, **options)
        (number,) = plan.num_requests.values()
        (cell,) = plan.cells.values()
        assert number == len(prepare(cell).trace) < 300


def test_a_duration_of_arrivals_without_a_rate_is_refused(trace: str) -> None:
    for source in ({"trace": trace}, {"workload": "sharegpt"}):
        with pytest.raises(InputError, match=r"--duration: .*arrivals.* have no rate; give --num-requests"):
            planned(**source, arrivals="burst", duration="3")


def test_a_trace_that_is_too_short_is_said(trace: str) -> None:
    assert "T: 300 requests, fewer than the 999 asked for" in notes(trace=trace, num_requests="999")
    asked = notes(trace=trace, request_rate="10", duration="60")
    assert "T: 300 requests, fewer than the 600 asked for" in asked
    assert "its arrivals end after 29.9 s, before --duration 60" in notes(trace=trace, duration="60")
    for enough in ({"num_requests": "300"}, {"duration": "29"}, {"duration": "30", "request_rate": "10"}):
        assert "fewer" not in notes(trace=trace, **enough)
        assert "before --duration" not in notes(trace=trace, **enough)


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("edf", "edf: T has no column deadline or slo_ttft; the policy's own parameters hold"),
        ("edf(deadlines={chat: 5})", "T has no request of the class chat"),
        ("qoserve", "qoserve: T has no column slo_ttft or slo_tpot or deadline"),
        ("least-slack(starvation_threshold=9)", "has no column deadline or slo_ttft"),
        ("fair-batching", "has no column slo_ttft or slo_tpot"),
        ("plas", "plas: T has no column session_id; each is one by itself"),
        ("vtc", "vtc: T has no column tenant; all requests are equal"),
    ],
)
def test_what_a_policy_misses_in_a_trace_is_said(trace: str, policy: str, said: str) -> None:
    assert said in notes(trace=trace, policy=policy)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"max_num_batched_tokens": "64", "max_num_seqs": "128"},
            "--max-num-seqs 128 above --max-num-batched",
        ),
        ({"max_num_batched_tokens": "64"}, ""),  # then vLLM has as many sequences
        (
            {"long_prefill_token_threshold": "9000"},
            "--long-prefill-token-threshold 9000 above --max-model-len",
        ),
        (
            {"num_gpu_blocks": "900", "gpu_memory_utilization": "0.5"},
            "changes nothing beside --num-gpu-blocks",
        ),
        ({"num_gpu_blocks": "900"}, ""),
    ],
)
def test_options_that_vllm_refuses_or_that_change_nothing_are_said(
    trace: str, options: dict[str, str], said: str
) -> None:
    told = notes(trace=trace, **options)
    assert said in told
    assert bool(said) is ("does not start" in told or "changes nothing" in told)


@pytest.mark.parametrize(("sign", "said"), [(1, False), (-1, True)])
def test_scores_that_are_turned_around_are_said(tmp_path: Path, sign: int, said: bool) -> None:
    rows = [
        {"timestamp": i / 10, "input_length": 50, "output_length": 20 + i, "score": sign * (i // 2)}
        for i in range(50)
    ]
    told = notes(trace=write_jsonl(tmp_path / "S.jsonl", rows), policy="ranking")
    line = "ranking: the longer its requests the lower their score (rank correlation -1.00)"
    assert (line in told) is said


def test_a_policy_that_draws_numbers_without_a_seed_is_refused(trace: str, tmp_path: Path) -> None:
    drawing = """
import itertools
import random
from pydantic.dataclasses import dataclass
from simsched.policies.base import NEVER, Policy

count = itertools.count()

@dataclass
class Draws(Policy):
    preemptive: bool = False
    seed: int | None = None

    def __post_init__(self):
        self._random = random.Random(self.seed)
        self._drawn = {}

    def on_arrival(self, request, now):
        drawn = next(count) * 41 % 101 if self.seed is None else self._random.random()
        self._drawn[request.request_id] = drawn  # no run begins where another one did

    def priority(self, request, now):
        return self._drawn[request.request_id]

    def next_change(self, request, now):
        return NEVER
"""
    own = tmp_path / "own.py"
    own.write_text(drawing)
    planned(trace=trace, policy=f"{own}:Draws(seed=1)")
    with pytest.raises(PolicyError, match="two runs of one seed differ, as it draws numbers"):
        planned(trace=trace, policy=f"{own}:Draws")


def test_a_router_that_draws_numbers_without_a_seed_is_refused(trace: str, tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text("""
import random
from simsched.routers.base import Router

class Seeded(Router):
    def choose(self, request, replicas, now):
        return self.random.randrange(len(replicas))

class Dice(Router):
    def choose(self, request, replicas, now):
        return random.randrange(len(replicas))
""")
    planned(trace=trace, num_replicas="4", router=f"{own}:Seeded")
    with pytest.raises(InputError, match="router Dice: two runs of one seed choose differently"):
        planned(trace=trace, num_replicas="4", router=f"{own}:Dice")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"warmup": "31"}, "--warmup 31: nothing is left of the 30 s"),
        (
            {"warmup": "20", "cooldown": "10.5"},
            "--warmup 20 and --cooldown 10.5: nothing is left of the 30 s",
        ),
        ({"duration": "5", "cooldown": "5"}, "--cooldown 5: nothing is left of the 5 s"),
        ({"baseline": "srtf"}, "--baseline srtf: expected one of the policies, fcfs"),
    ],
)
def test_what_leaves_nothing_to_compare_is_refused(trace: str, given: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        planned(trace=trace, **given)


def test_a_warm_up_counts_from_the_first_arrival_of_a_replay(tmp_path: Path) -> None:
    rows = [{"timestamp": 50 + i / 2, "input_length": 50, "output_length": 2} for i in range(30)]
    path = write_jsonl(tmp_path / "T.jsonl", rows)
    plan = planned(trace=path, warmup="5", cooldown="2")
    (row,) = run_study(plan, tmp_path / "out").summary.to_dicts()
    assert (row["window_start"], row["window_end"]) == (55.0, 62.5)
    assert row["request_throughput"] == pytest.approx(2.0, rel=0.1)


def test_a_capacity_says_that_prefix_hits_are_left_out(tmp_path: Path) -> None:
    same = {"input_length": 64, "output_length": 5, "hash_block_size": 16}
    rows = [{"timestamp": i, "hash_ids": [0, 1, 2, 3 + i], **same} for i in range(4)]
    path = write_jsonl(tmp_path / "chat.jsonl", rows)
    shared = "(prefix hits not counted; 56% of the prompt tokens are shared, with all of them hit about "
    assert shared in notes(trace=path)
    alone, together = (
        [float(each) for each in re.findall(r"about ([\d.]+)", notes(trace=path, **replicas))]
        for replicas in ({}, {"num_replicas": "3"})
    )
    assert together == pytest.approx([3 * rate for rate in alone], rel=0.01)  # with hits and without
    assert shared not in notes(trace=path, enable_prefix_caching="false")
    assert "prefix hits" not in notes(workload="sharegpt", request_rate="4")


def test_dropped_and_cut_requests_are_said_of_how_many_and_why(tmp_path: Path) -> None:
    rows = [{"timestamp": i, "input_length": 9000 if i else 9, "output_length": 5} for i in range(4)]
    path = write_jsonl(tmp_path / "long.jsonl", rows)
    why = "over 8192 tokens in all (max_model_len 8192)"
    assert f"long: 3 of 4 requests dropped: {why}" in notes(trace=path, skip_invalid=True, num_requests="3")
    assert f"long: 3 of 4 requests truncated: {why}" in notes(trace=path, truncate=True)
    (tmp_path / "long.jsonl").write_text((tmp_path / "long.jsonl").read_text() + "{\n")
    assert "long: 1 of 5 rows dropped: not a JSON object" in notes(trace=path, skip_invalid=True)


def test_one_class_for_all_is_said() -> None:
    short = {"workload": "azure-code", "request_rate": "4", "num_requests": "50"}
    one = "classification: all requests of azure-code are in one class"
    assert one in notes(policy="classification", **short)
    assert one not in notes(policy="classification(buckets=percentile)", **short)


def test_a_prediction_that_nothing_reads_is_said(trace: str) -> None:
    small = {"request_rate": "4", "num_requests": "20"}
    for option in ("--tau", "--predictor", "--predictor-time"):
        value = {"--tau": "0.5", "--predictor": "oracle", "--predictor-time": "0.1"}[option]
        given = {option[2:].replace("-", "_"): value, **small}
        said = f"{option} changes nothing: no policy here"
        assert said in notes(policy="fcfs,mlfq", **given)
        assert said not in notes(policy="fcfs,ranking", **given)
    assert "--tau changes nothing" in notes(policy="ranking", tau="0.5", predictor="oracle", **small)


OWN = """
from dataclasses import dataclass
from simsched.policies.base import NEVER, Change, Policy

class Served(Policy):
    def priority(self, request, now): return request.attained_service

class Ran(Policy):
    def priority(self, request, now): return request.steps_run // 10

class Told(Ran):
    def next_change(self, request, now): return Change(after_steps_run=10 - request.steps_run % 10)

class Short(Policy):
    def priority(self, request, now): return request.num_prompt_tokens
    def next_change(self, request, now): return NEVER

class ServedButNever(Served):
    def next_change(self, request, now): return NEVER

class RanButLate(Ran):
    def next_change(self, request, now): return Change(after_steps_run=10)

class Older(Policy):
    def priority(self, request, now): return request.num_prompt_tokens - 1e3 * (now - request.arrival_time)
    def next_change(self, request, now): return NEVER
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path / "own.py"


BOTH = pytest.mark.parametrize("preset", ["vllm-v1", "vllm-0.4.1-ltr"])
SMALL = {"request_rate": "4", "num_requests": "50"}


@BOTH
@pytest.mark.parametrize(
    "name", ["ServedButNever", "RanButLate", "Older", "ServedButNever(starvation_threshold=200)"]
)
def test_an_own_policy_that_promises_too_much_is_refused(own: Path, preset: str, name: str) -> None:
    with pytest.raises(PolicyError, match=r"next_change (promises that priority\(\) stays|had promised)"):
        planned(policy=f"{own}:{name}", preset=preset, **SMALL)


@BOTH
@pytest.mark.parametrize("name", ["Served", "Ran", "Told", "Short", "Told(starvation_threshold=5)"])
def test_an_own_policy_that_keeps_its_promise_is_not(own: Path, preset: str, name: str) -> None:
    planned(policy=f"{own}:{name}", preset=preset, **SMALL)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "def on_arrival(self, request, now): request.num_prompt_tokens = 1",
            "on_arrival sets num_prompt_tokens",
        ),
        ("def on_finish(self, request, now): request.score = 1.0", "on_finish sets score of a request"),
        ("def on_queue(self, waiting, now): len(waiting[0].prompt_blocks)", "expected reads_prompts = True"),
        ("def on_preempt(self, request, now): request.num_cached_tokens", "expected reads_cache = True"),
        (
            "seen = {}\n    def on_arrival(self, request, now): self.seen[now] = 1",
            "all of its kind share seen",
        ),
    ],
)
def test_an_own_policy_is_refused_before_anything_is_written(tmp_path: Path, body: str, message: str) -> None:
    """Though this workload has no prefixes, and where no priority shows it."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from simsched.policies.base import Policy\n\n\nclass Mine(Policy):\n"
        f"    {body}\n    def priority(self, request, now):\n        return -request.arrival_time\n"
    )
    with pytest.raises(PolicyError, match=f"policy {file}:Mine: .*{message}"):
        planned(policy=f"fcfs,{file}:Mine", **SMALL)


def test_a_policy_that_steps_says_so_once_with_what_it_takes(tmp_path: Path) -> None:
    file = tmp_path / "slow.py"
    file.write_text(
        "from pydantic.dataclasses import dataclass\n"
        "from simsched.policies.base import NEVER, Policy\n\n\n"
        "@dataclass\nclass Slow(Policy):\n"
        "    def priority(self, request, now):\n        return request.num_prompt_tokens\n\n\n"
        "@dataclass\nclass Quick(Slow):\n"
        "    def next_change(self, request, now):\n        return NEVER\n"
    )
    plan = planned(policy=f"{file}:Slow,{file}:Quick", request_rate="4,8", num_requests=100, num_runs=2)
    said = [note for note in plan.notes if "step by step" in note]
    assert len(said) == 1
    assert said[0].startswith("Slow: has no next_change")


def test_sessions_without_a_rate_are_refused() -> None:
    """The paper's rates are of single requests: of these turns they are up to twelve times the capacity."""
    with pytest.raises(InputError, match="--arrivals sessions: no rate; expected --request-rate"):
        planned(workload="chat-sessions")
    assert planned(workload="chat-sessions", request_rate="0.5x").cells
    assert planned(workload="chat-sessions", arrivals="sessions(1)", duration="60").cells
