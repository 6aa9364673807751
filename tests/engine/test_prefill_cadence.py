"""`prefill_schedule_interval` on an engine by itself (vLLM 0.33): tables worked by hand; `python -m validate
lockstep --random` compares it with vLLM's scheduler."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simsched.cost_model.models import LinearCost
from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.policies.spec import make_policy
from simsched.workload.trace import Trace
from tests.engine.scenarios import same, trace

UNIT = LinearCost(t0=1.0, a=0.0, b=0.0, c=0.0, d=0.0)


def batches(work: Trace, **options: Any) -> list[dict[str, int]]:
    config = engine_config(num_gpu_blocks=1000, max_model_len=1024, **options)
    log: list[dict[str, Any]] = []
    simulate(work, make_policy("fcfs"), UNIT, config, step_log=log.append)
    return [line["scheduled"] for line in log]


def at(*rows: tuple[float, int, int]) -> Trace:
    arrival, prompt, answer = zip(*rows, strict=True)
    return Trace(np.array(arrival), np.array(prompt), np.array(answer), name="cadence")


@pytest.mark.parametrize(
    ("rows", "interval", "options", "expected"),
    [
        # Prefills in steps 1, 4 and 7: a request that arrives in between waits, decodes go on.
        (
            [(0, 9, 8), (0.5, 9, 2), (3.5, 9, 1)], 3, {},
            [{"0": 9}, {"0": 1}, {"0": 1}, {"0": 1, "1": 9}, {"0": 1, "1": 1}, {"0": 1}, {"0": 1, "2": 9},
             {"0": 1}],
        ),
        # Nobody decodes: there is nothing to go on with, so a prompt goes on in every step.
        ([(0, 30, 1)], 4, {"max_num_batched_tokens": 10}, [{"0": 10}, {"0": 10}, {"0": 10}]),
        # A step leaves somebody waiting for a place: from then on nothing is put off, until nobody is left.
        (
            [(0, 9, 3), (0, 9, 2), (0, 9, 1)], 8, {"max_num_seqs": 2},
            [{"0": 9, "1": 9}, {"0": 1, "1": 1}, {"0": 1, "2": 9}],
        ),
        # Steps without tokens do not count, so after an idle time a prompt may have to wait still.
        ([(0, 9, 2), (1.5, 9, 1)], 5, {}, [{"0": 9}, {"0": 1}, {"1": 9}]),
        # A running prompt waits with its next chunk, too, while another request decodes.
        (
            [(0, 4, 6), (0.5, 24, 1)], 2, {"max_num_batched_tokens": 13},
            [{"0": 4}, {"0": 1}, {"0": 1, "1": 12}, {"0": 1}, {"0": 1, "1": 12}, {"0": 1}],
        ),
    ],
)  # fmt: skip
def test_steps(
    rows: list[tuple[float, int, int]], interval: int, options: dict[str, Any], expected: list[dict[str, int]]
) -> None:
    assert batches(at(*rows), prefill_schedule_interval=interval, **options) == expected


@pytest.mark.parametrize("asynchronous", [False, True])
def test_leaping_is_stepping_and_one_is_off(asynchronous: bool) -> None:
    work = trace(60, 20.0, 8, longest=600)

    def run(leap: bool, **options: Any) -> Any:
        config = engine_config(
            num_gpu_blocks=400, max_model_len=1024, async_scheduling=asynchronous, max_num_seqs=12, **options
        )
        return simulate(work, make_policy("srtf"), UNIT, config, leap=leap)

    same(run(False, prefill_schedule_interval=4), run(True, prefill_schedule_interval=4))
    same(run(False, prefill_schedule_interval=1), run(True))
    assert run(True, prefill_schedule_interval=4).num_steps != run(True).num_steps
