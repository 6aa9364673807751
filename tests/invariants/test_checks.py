"""The checks can fail: each kind of damage to a sound log or record is found, and by the right invariant."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest

from simsched.engine.config import engine_config
from simsched.record import RunRecord
from simsched.workload.trace import Trace
from tests.invariants.cases import COST, Case
from tests.invariants.checks import Step, ViolationError, check

PRESSED = {"max_num_seqs": 4, "max_num_batched_tokens": 32, "num_gpu_blocks": 14, "max_model_len": 128}


def sound(preset: str) -> tuple[Case, list[Step], RunRecord]:
    """A run with prefills in chunks, preemptions and an idle spell."""
    rng = np.random.default_rng(5)
    n = 12
    arrivals = np.append(np.arange(n - 1) * 0.05, 1e4)
    trace = Trace(
        arrivals,
        rng.integers(20, 60, n),
        rng.integers(5, 40, n),
        request_id=[f"r{i}" for i in range(n)],
        score=rng.normal(size=n),
    )
    caching = {"enable_prefix_caching": False} if preset == "vllm-v1" else {}
    case = Case(trace, "ranking", engine_config(preset, **PRESSED, **caching))
    steps, record = case.run()
    check(steps, record, case.config, COST)
    assert record.num_preemptions.sum() > 0
    return case, steps, record


def last(steps: list[Step]) -> Step:
    return steps[-1]


def busiest(steps: list[Step]) -> Step:
    return max(steps, key=lambda step: len(step["scheduled"]))


def quietest(steps: list[Step]) -> Step:
    return min(steps, key=lambda step: sum(step["scheduled"].values()))


def first_id(step: Step) -> str:
    return next(iter(step["scheduled"]))


Damage = Callable[[list[Step], RunRecord], object]
DAMAGES: dict[str, tuple[str, Damage]] = {
    "a step is lost": ("clock", lambda s, r: s.pop(3)),
    "the clock goes back": ("clock", lambda s, r: s[5].update(time=s[4]["time"])),
    "a step takes no time": ("clock", lambda s, r: s[5].update(step_time=0.0)),
    "a step is too quick": ("cost", lambda s, r: s[5].update(step_time=s[5]["step_time"] * 0.999)),
    "it oversleeps": ("idle", lambda s, r: last(s).update(time=last(s)["time"] + 1)),
    "it rests with work at hand": ("idle", lambda s, r: s[5].update(time=s[5]["time"] + 0.001)),
    "a request is forgotten": ("conservation", lambda s, r: s[5].update(num_waiting=s[5]["num_waiting"] - 1)),
    "a request is made up": ("conservation", lambda s, r: last(s)["scheduled"].update(x=1)),
    "a ghost runs on": ("conservation", lambda s, r: last(s)["scheduled"].update(r0=1)),
    "it runs before it arrives": ("arrival", lambda s, r: quietest(s)["scheduled"].update(r11=1)),
    "no tokens": ("tokens", lambda s, r: s[2]["scheduled"].update({first_id(s[2]): 0})),
    "too many tokens": ("tokens", lambda s, r: last(s)["scheduled"].update({first_id(last(s)): 2})),
    "a leaked block": ("blocks", lambda s, r: last(s).update(kv_blocks_used=last(s)["kv_blocks_used"] + 1)),
    "more blocks than there are": ("blocks", lambda s, r: busiest(s).update(kv_blocks_used=15)),
    "the batch is over its budget": ("batch", lambda s, r: s[0]["scheduled"].update(r0=33)),
    "an empty batch": ("batch", lambda s, r: s[7].update(scheduled={})),
    "a preemption is not counted": ("preemption", lambda s, r: np.subtract.at(
        r.num_preemptions, np.argmax(r.num_preemptions), 1)),
    "a finish is late": ("record", lambda s, r: np.add.at(r.finish_time, 4, 0.01)),
    "a first token is early": ("record", lambda s, r: np.subtract.at(r.first_token_time, 4, 0.01)),
    "a first step is early": ("record", lambda s, r: np.subtract.at(r.first_scheduled_time, 4, 0.01)),
    "a gap is missed": ("record", lambda s, r: np.multiply.at(r.max_itl, 4, 0.5)),
    "a gap too many": ("record", lambda s, r: r.itl.add(0.01)),
}  # fmt: skip


@pytest.mark.parametrize("preset", ["vllm-v1", "vllm-0.4.1-ltr"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found(preset: str, damage: str) -> None:
    case, steps, record = sound(preset)
    steps, record = deepcopy(steps), deepcopy(record)
    invariant, harm = DAMAGES[damage]
    harm(steps, record)
    with pytest.raises(ViolationError) as found:
        check(steps, record, case.config, COST)
    assert found.value.invariant == invariant, found.value


def test_an_unused_slot_is_found() -> None:
    """Two could run and one does, at half the speed."""
    trace = Trace(np.zeros(2), np.array([4, 4]), np.array([3, 3]), request_id=["a", "b"])
    one, two = (
        engine_config(max_num_seqs=slots, num_gpu_blocks=50, max_model_len=64, enable_prefix_caching=False)
        for slots in (1, 2)
    )
    steps, record = Case(trace, "fcfs", one).run()
    check(steps, record, one, COST)
    with pytest.raises(ViolationError, match="with room"):
        check(steps, record, two, COST)


def test_a_request_that_never_ran_is_found() -> None:
    case, steps, record = sound("vllm-v1")
    with pytest.raises(ViolationError, match="left"):
        check(steps[:-1], record, case.config, COST)
