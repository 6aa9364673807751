"""The rates of every arm of a grid, in several processes; and how many replicas a load needs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from simsched.capacity.probe import HOUR, Probe, Prober
from simsched.capacity.search import Found, Rate, find_rates, over_seeds
from simsched.errors import InputError
from simsched.policies.spec import make_policy
from simsched.results import LOAD_OPTIONS, RUN_OPTIONS
from simsched.slo import Slo
from simsched.sweep.cell import Arm, Load
from simsched.sweep.inputs import profile_of
from simsched.sweep.plan import make_plan
from simsched.sweep.rates import notes_on_rates
from simsched.sweep.study import Study

GROUPS = {"tenant": "tenant", "class": "request_class", "priority": "priority"}
"""What requests may be judged apart by -> the trace's column."""


@dataclass(frozen=True)
class Question:
    """What is asked of every arm."""

    slo: Slo | None = None
    burst: int = 1500
    """Requests of the burst that is to drain; 0: not asked."""
    by: str | None = None
    """One of `GROUPS`."""
    hour: float = HOUR
    """Seconds of arrivals that decide."""


@dataclass(frozen=True)
class ArmRates:
    """The rates of an arm, in requests/s."""

    chosen: dict[str, Any]
    """Its options that vary, the policy always."""
    name: str
    workload: str
    stable: Rate
    recovers: Rate
    slo: Rate
    slo_by: dict[str, Rate]
    reasons: dict[str, str]
    probes: list[Probe]
    """Of the first seed, by their rate."""
    num_replicas: int
    """Engines that take these rates together, behind a router; of a lone engine, 1."""
    num_gpus: int
    """Of all of them."""

    def to_dict(self, question: Question, request_rate: float | None = None) -> dict[str, Any]:
        """For JSON."""
        asked = question.slo is not None
        row: dict[str, Any] = {
            "arm": self.chosen,
            "workload": self.workload,
            "stable_rate": self.stable.rate,
            "stable_rate_ci": _interval(self.stable),
            "recovers_rate": self.recovers.rate,
            "recovers_rate_ci": _interval(self.recovers),
            "burst": question.burst,
            "slo": question.slo.text if question.slo is not None else None,
            "slo_rate": self.slo.rate if asked else None,
            "slo_rate_ci": _interval(self.slo) if asked else None,
            "reasons": self.reasons,
        }
        if question.by is not None:
            row["slo_rate_by"] = {group: rate.rate for group, rate in self.slo_by.items()}
        if request_rate is not None:
            row |= {
                "request_rate": request_rate,
                "replicas": self.replicas(question, request_rate),
                "gpu_hours_per_hour": self.gpus(question, request_rate),
            }
        return row

    def replicas(self, question: Question, request_rate: float) -> int | None:
        """How many replicas serve this load within the objective, or stably where there is none.

        Poisson arrivals that are dealt out at random are Poisson at each replica; a router that balances
        better needs no more. Where the rates are of several replicas, load is dealt to whole groups of them,
        each behind its router. None where no rate qualifies.
        """
        groups = self._groups(question, request_rate)
        return None if groups is None else groups * self.num_replicas

    def gpus(self, question: Question, request_rate: float) -> int | None:
        """How many GPUs these replicas have."""
        groups = self._groups(question, request_rate)
        return None if groups is None else groups * self.num_gpus

    def _groups(self, question: Question, request_rate: float) -> int | None:
        most = self.slo.rate if question.slo is not None else self.stable.rate
        return None if not most else math.ceil(request_rate / most - 1e-9)


def _interval(rate: Rate) -> list[float | None] | None:
    return None if rate.rate is None else [rate.low, rate.high]


def arm_rates(
    study: Study,
    question: Question,
    *,
    jobs: int | None = None,
    on_arm: Callable[[str], None] = lambda name: None,
) -> tuple[list[ArmRates], list[str]]:
    """The rates of every arm of a study, over its workloads and runs; its own rates are not looked at.

    Args:
        study: policies, engines, predictions, workloads or traces, `num_runs` and `seed`.
        question: what is asked.
        jobs: processes; None: one per core, at most one per arm.
        on_arm: called with the name of each arm that is done.

    Returns:
        The arms in the order of the grid, and notes on what was chosen for them.

    Raises:
        InputError: anything wrong with the study, or arrivals that have no rate.
    """
    plan = make_plan(study.model_copy(update=_ONE_RATE | _length(study)))
    varying = _varying(list(plan.options.values()))
    tasks: dict[tuple[str, str], list[tuple[Arm, Load, float, Question]]] = {}
    chosen: dict[tuple[str, str], dict[str, Any]] = {}
    for cell_name, cell in plan.cells.items():
        options = plan.options[cell_name]
        if cell.load.request_rate is None:
            raise InputError(f"--arrivals {cell.load.arrivals}: have no rate to search")
        arm = {"policy": options["policy"], **{name: options[name] for name in varying}}
        key = str(options["workload"]), _name(arm)
        chosen[key] = arm
        load = replace(cell.load, duration=None, num_requests=None)
        tasks.setdefault(key, []).append((cell.arm, load, plan.capacity[cell_name], question))
    flat = [(key, task) for key, of_arm in tasks.items() for task in of_arm]
    found: dict[tuple[str, str], list[Found]] = {key: [] for key in tasks}
    for key, result in _run(flat, jobs):
        found[key].append(result)
        if len(found[key]) == len(tasks[key]):
            on_arm(key[1])
    rates = []
    for key, results in found.items():
        arm_of_first = tasks[key][0][0]
        groups = sorted(set.intersection(*(set(each.slo_by) for each in results)))
        rates.append(
            ArmRates(
                chosen=chosen[key],
                name=key[1],
                workload=key[0],
                stable=over_seeds([each.stable for each in results]),
                recovers=over_seeds([each.recovers for each in results]),
                slo=over_seeds([each.slo for each in results]),
                slo_by={name: over_seeds([each.slo_by[name] for each in results]) for name in groups},
                reasons={name: text for each in results for name, text in each.reasons.items()},
                probes=results[0].probes,
                num_replicas=len(arm_of_first.fleet()),
                num_gpus=sum(_num_gpus(profile) for profile, _ in arm_of_first.fleet()),
            )
        )
    at_one_rate = set(notes_on_rates(plan.cells, plan.capacity, plan.offered))  # nobody's: rates are searched
    return rates, [note for note in plan.notes if note not in at_one_rate]


_ONE_RATE = {"request_rate": ("1x",), "figures": (), "goodput": None, "log_steps": False}


def _length(study: Study) -> dict[str, Any]:
    """A minute of a generated workload is enough to check it; a trace is taken whole."""
    return {"duration": None if study.trace else 60.0, "num_requests": None}


def _varying(options: Sequence[dict[str, Any]]) -> list[str]:
    names = [name for name in options[0] if name not in (*LOAD_OPTIONS, *RUN_OPTIONS, "policy")]
    return [name for name in names if len({str(each[name]) for each in options}) > 1]


def _name(arm: dict[str, Any]) -> str:
    parts = [f"{name}={value}" for name, value in arm.items() if name != "policy" and value is not None]
    return ", ".join([str(arm["policy"]), *parts])


def _num_gpus(profile: str) -> int:
    file = profile_of(profile).file
    return file.hardware.num_gpus if file is not None and file.hardware is not None else 1


Key = tuple[str, str]
Task = tuple[Arm, Load, float, Question]


def _run(tasks: Sequence[tuple[Key, Task]], jobs: int | None) -> list[tuple[Key, Found]]:
    """The results in the order of the tasks, whatever the number of processes."""
    wanted = max(1, min(jobs or os.cpu_count() or 1, len(tasks)))
    if wanted == 1:
        return [(key, _find(task)) for key, task in tasks]
    from joblib import Parallel, delayed

    # those that take longest begin, so that all processes are busy to the end
    order = sorted(range(len(tasks)), key=lambda place: _takes_long(tasks[place][1][0]), reverse=True)
    found = Parallel(n_jobs=wanted, batch_size=1)(delayed(_find)(tasks[place][1]) for place in order)
    results = dict(zip(order, found, strict=True))
    return [(key, results[place]) for place, (key, _) in enumerate(tasks)]


def _takes_long(arm: Arm) -> tuple[bool, bool]:
    """What preempts takes long, and longest what preempts without knowing whom."""
    policy = make_policy(arm.policy)
    return policy.preemptive and policy.reads is None, policy.preemptive


def _find(task: Task) -> Found:
    arm, load, estimate, question = task
    column = GROUPS[question.by] if question.by is not None else None
    prober = Prober(arm, load, slo=question.slo, group=column, hour=question.hour)
    return find_rates(prober, estimate, burst=question.burst, slo=question.slo)
