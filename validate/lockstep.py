"""Lock-step: the simulator beside vLLM's real scheduler, compared after every step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from simsched.engine.simulator import simulate
from simsched.errors import InputError
from simsched.policies.spec import make_policy
from validate.cases import Case
from validate.virtual_engine import VirtualEngine

COMPARED = ("scheduled", "preempted", "num_running", "num_waiting", "kv_blocks_used")
TIME_TOLERANCE = 1e-9  # relative: sums of the same step times, perhaps in another order


@dataclass
class Outcome:
    """How far two schedules are the same."""

    case: Case
    steps: int = 0
    """Steps of the longer of the two."""
    divergent_steps: int = 0
    first_divergence: str | None = None
    livelock: bool = False
    """The simulator has stopped: requests displace each other for ever."""

    def diverged(self, text: str) -> None:
        """One more step differs."""
        self.divergent_steps += 1
        self.first_divergence = self.first_divergence or f"step {self.steps}: {text}"

    def as_json(self) -> dict[str, Any]:
        """The case as `--json` writes it."""
        return {
            "name": self.case.name,
            "group": self.case.group,
            "policy": self.case.policy,
            "scheduler": self.case.scheduler,
            "async": self.case.config.async_scheduling,
            "steps": self.steps,
            "divergent_steps": self.divergent_steps,
            "first_divergence": self.first_divergence,
        }


def run_case(case: Case) -> Outcome:
    """Both sides, one step at a time: vLLM's is asked for its next step whenever the simulator makes one."""
    outcome = Outcome(case)
    real = VirtualEngine(case.trace, case.policy, case.cost, case.config, case.scheduler).steps()

    def check(simulated: dict[str, Any]) -> None:
        outcome.steps += 1
        step = next(real, None)
        if step is None:
            outcome.diverged("the simulator goes on where vLLM has finished")
        elif found := difference(step, simulated) or time_difference(step, simulated):
            outcome.diverged(found)

    try:
        simulate(case.trace, make_policy(case.policy), case.cost, case.config, leap=False, step_log=check)
    except InputError:
        if not case.may_livelock:
            raise
        outcome.livelock = True
        return outcome
    for _ in real:
        outcome.steps += 1
        outcome.diverged("vLLM goes on where the simulator has finished")
    return outcome


def run_cases(cases: Iterator[Case]) -> Iterator[Outcome]:
    """The outcomes, one by one."""
    for case in cases:
        yield run_case(case)


def report(version: str, outcomes: list[Outcome]) -> dict[str, Any]:
    """What `--json` writes."""
    return {
        "vllm_version": version,
        "cases": [outcome.as_json() for outcome in outcomes],
        "steps_compared": sum(outcome.steps for outcome in outcomes),
        "divergent_steps": sum(outcome.divergent_steps for outcome in outcomes),
    }


def difference(real: dict[str, Any], simulated: dict[str, Any]) -> str | None:
    """What two steps decide differently, in words; the order of a batch counts, that of victims does not."""
    for column in COMPARED:
        ours, theirs = simulated[column], real[column]
        if column == "scheduled":
            ours, theirs = list(ours.items()), list(theirs.items())
        elif column == "preempted":
            ours, theirs = sorted(ours), sorted(theirs)
        if ours != theirs:
            return f"{column}: vLLM {_short(theirs)}, simulator {_short(ours)}"
    return None


def time_difference(real: dict[str, Any], simulated: dict[str, Any], column: str = "time") -> str | None:
    """Whether two steps differ in a time by more than `TIME_TOLERANCE`, in words."""
    if abs(real[column] - simulated[column]) > TIME_TOLERANCE * max(1.0, abs(real[column])):
        return f"{column}: vLLM {real[column]!r}, simulator {simulated[column]!r}"
    return None


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 160 else text[:157] + "..."
