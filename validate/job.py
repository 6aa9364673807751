"""One run on a real engine: what goes in, what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from simsched.engine.config import ResolvedConfig
from simsched.errors import InputError
from simsched.record import RunRecord
from simsched.routers.base import Router
from simsched.sweep.cell import Arm, Cell
from simsched.sweep.inputs import prepare
from simsched.text.options import option_flag
from simsched.workload.trace import Trace


@dataclass(frozen=True)
class Job:
    """A cell of a study, prepared: the simulator would start from the same."""

    policy: str
    trace: Trace
    config: ResolvedConfig
    given: dict[str, Any]
    """`num_gpu_blocks`, where it was given."""
    num_replicas: int = 1
    router: Router | None = None
    """Which of several servers gets a request; a run uses it up."""
    seed: int = 0
    """Of the router's chance."""


class Outcome(NamedTuple):
    """What a real run left behind."""

    record: RunRecord
    steps: Sequence[dict[str, Any]]
    lateness: Sequence[float]


def check_data_parallel(engine: str, arms: Iterable[Arm]) -> None:
    """Refuse a replay through vLLM's own balancer whose simulation would be of something else.

    Raises:
        InputError: another kind of engine, one replica, or another router.
    """
    if engine != "http":
        raise InputError(f"--data-parallel: --engine {engine} has no balancer; expected --engine http")
    for arm in arms:
        if (arm.num_replicas or 1) < 2:
            raise InputError("--data-parallel: expected --num-replicas of 2 or more")
        if (arm.router or "").partition("(")[0] != "vllm-dp":
            raise InputError(
                f"--data-parallel: --router {arm.router}: vLLM's own balancer chooses; expected vllm-dp"
            )


def job_of(cell: Cell) -> Job:
    """Read, generate and check what the cell needs, as the simulator does.

    Raises:
        InputError: what the simulator refuses, another engine than vLLM V1, limits by which a server
            refuses requests, or replicas that differ.
    """
    arm = cell.arm
    if arm.config.preset != "vllm-v1":
        raise InputError(f"--preset {arm.config.preset}: the engine of a replay is vllm-v1")
    for option in ("max_num_queued_reqs", "max_num_queued_tokens"):
        if getattr(arm.config, option) is not None:
            raise InputError(
                f"{option_flag(option)}: a replay wants every answer; lock-step compares refusals"
            )
    if arm.config.moe_data_parallel:
        raise InputError(
            "--moe-data-parallel: the models of a replay are dense; python -m validate ranks compares ranks"
        )
    if arm.replicas is not None:
        raise InputError(f"--replicas {arm.replicas}: servers of a replay are alike; expected --num-replicas")
    inputs = prepare(cell)
    if inputs.router is not None and inputs.router.reporting().block_events is not None:
        raise InputError(f"--router {arm.router}: a replay hears no KV events; expected kv_events=false")
    blocks = arm.config.num_gpu_blocks
    given = {"num_gpu_blocks": blocks} if blocks is not None else {}
    return Job(
        arm.policy, inputs.trace, inputs.config, given, inputs.num_replicas, inputs.router, inputs.seed
    )
