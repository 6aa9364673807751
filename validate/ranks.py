"""Lock-step of ranks that step together: each pass of the simulator beside those of vLLM's busy loops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from simsched.engine.simulator import simulate
from simsched.errors import RunError
from simsched.policies.spec import make_policy
from simsched.routers.spec import make_router
from simsched.vllm_versions import OPTIONS_SINCE, parse_version
from validate.cases import Case, random_cases
from validate.lockstep import difference, time_difference
from validate.virtual_ranks import play_ranks


@dataclass
class RankCase:
    """So many ranks, each with the engine of a case; requests go to them at random."""

    case: Case
    num_ranks: int


@dataclass
class RankOutcome:
    """How far the passes are the same."""

    of: RankCase
    passes: int = 0
    """Of all ranks, of the longer of the two sides."""
    dummies: int = 0
    """Of those, vLLM's dummy batches."""
    divergent_passes: int = 0
    first_divergence: str | None = None

    def diverged(self, text: str) -> None:
        """One more differs."""
        self.divergent_passes += 1
        self.first_divergence = self.first_divergence or text

    def as_json(self) -> dict[str, Any]:
        """The case as `--json` writes it."""
        case, config = self.of.case, self.of.case.config
        return {
            "name": case.name,
            "policy": case.policy,
            "scheduler": case.scheduler,
            "async": config.async_scheduling,
            "num_ranks": self.of.num_ranks,
            "prefill_schedule_interval": config.prefill_schedule_interval,
            "dp_sync_interval": config.dp_sync_interval,
            "passes": self.passes,
            "dummy_passes": self.dummies,
            "divergent_passes": self.divergent_passes,
            "first_divergence": self.first_divergence,
        }


def rank_cases(count: int, version: str, seed: int = 0) -> Iterator[RankCase]:
    """The engines and workloads of `random_cases`, as ranks: two to four, and what they have in common."""
    has_interval = parse_version(version) >= OPTIONS_SINCE["dp_sync_interval"]
    for number, case in enumerate(random_cases(count, version, seed)):
        stream = np.random.default_rng([seed, number, 3])
        interval = int(stream.choice([0, 1, 5, 40]))
        options = {
            "moe_data_parallel": True,
            "prefill_schedule_interval": int(stream.choice([1, 1, 2, 5])),
            "dp_sync_interval": interval if interval and has_interval else None,
            # a server's limits are for whoever stands before the ranks
            "max_num_queued_reqs": None,
            "max_num_queued_tokens": None,
        }
        whole = Case(
            case.name, case.policy, case.scheduler, case.trace, case.config.model_copy(update=options)
        )
        yield RankCase(whole, int(stream.choice([2, 2, 3, 4])))


def run_rank_case(given: RankCase, seed: int = 0) -> RankOutcome | None:
    """Both sides, compared pass by pass; None where requests displace each other for ever."""
    case, n = given.case, given.num_ranks
    outcome = RankOutcome(given)
    simulated: list[list[dict[str, Any]]] = [[] for _ in range(n)]
    try:
        record = simulate(
            case.trace, make_policy(case.policy), case.cost, case.config,
            leap=False, step_log=lambda line: simulated[line["replica"]].append(line), seed=seed,
            num_replicas=n, router=make_router("random"),
        )  # fmt: skip
    except RunError:
        return None
    assert record.replica is not None
    real = play_ranks(case.trace, record.replica, n, case.policy, case.cost, case.config, case.scheduler)
    for rank, (ours, theirs) in enumerate(zip(simulated, real, strict=True)):
        outcome.passes += max(len(ours), len(theirs))
        outcome.dummies += sum(line["dummy"] for line in theirs)
        for number, (mine, vllms) in enumerate(zip(ours, theirs, strict=False), start=1):
            if found := _difference(vllms, mine):
                outcome.diverged(f"rank {rank}, pass {number}: {found}")
        # the simulation ends with the last answer, vLLM's ranks when they have agreed that it was the last
        for line in (*ours[len(theirs) :], *theirs[len(ours) :]):
            if not line["dummy"]:
                outcome.diverged(f"rank {rank}: one side has finished, the other has a batch")
    return outcome


def _difference(real: dict[str, Any], simulated: dict[str, Any]) -> str | None:
    if real["dummy"] != simulated["dummy"]:
        return f"dummy: vLLM {real['dummy']}, simulator {simulated['dummy']}"
    if not real["dummy"] and (found := difference(real, simulated)):
        return found
    return time_difference(real, simulated) or time_difference(real, simulated, "step_time")
