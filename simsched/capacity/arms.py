"""The rates of every arm of a grid, in several processes; and how many replicas a load needs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simsched.capacity.probe import Probe, Tried
from simsched.capacity.search import Found, Rate, find_rates, over_seeds
from simsched.capacity.session_probe import SessionProber
from simsched.capacity.tasks import (
    OfArm,
    Question,
    num_gpus,
    of_nobody,
    prober_of,
    search_arms,
    tasks_of,
    turns_of,
)
from simsched.sweep.cell import Arm, Load
from simsched.sweep.study import Study


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
    turns: float | None = None
    """Mean turns of a session, where later ones wait for answers: rates are then turns/s."""

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
        if self.turns is not None:
            row["turns_per_session"] = self.turns
            for name in ("stable", "slo"):
                row[f"{name}_session_rate"] = self.sessions(getattr(self, name))
        if question.by is not None:
            row["slo_rate_by"] = {group: rate.rate for group, rate in self.slo_by.items()}
        if request_rate is not None:
            row |= {
                "request_rate": request_rate,
                "replicas": self.replicas(question, request_rate),
                "gpu_hours_per_hour": self.gpus(question, request_rate),
            }
        return row

    def sessions(self, rate: Rate) -> float | None:
        """This rate of turns in sessions/s."""
        return None if rate.rate is None or self.turns is None else rate.rate / self.turns

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
    on_start: Callable[[int], None] = lambda arms: None,
    on_try: OfArm = of_nobody,
) -> tuple[list[ArmRates], list[str]]:
    """The rates of every arm of a study, over its workloads and runs; its own rates are not looked at.

    Args:
        study: policies, engines, predictions, workloads or traces, `num_runs` and `seed`.
        question: what is asked.
        jobs: processes; None: one per core, at most one per arm.
        on_arm: called with the name of each arm that is done.
        on_start: called with the number of arms when everything has been checked.
        on_try: called in the process that searches with an arm's name, what was tried and seen, and the
            seconds that it took; a function of a module, as that process imports it.

    Returns:
        The arms in the order of the grid, and notes on what was chosen for them.

    Raises:
        InputError: anything wrong with the study, or arrivals that have no rate.
    """
    searched = tasks_of(study, question.by)
    on_start(len(searched.tasks))
    found = search_arms(searched, _find, (question,), jobs, on_arm, on_try)
    rates = []
    for key, results in found.items():
        first, load, _ = searched.tasks[key][0]
        groups = sorted(set.intersection(*(set(each.slo_by) for each in results)))
        rates.append(
            ArmRates(
                chosen=searched.chosen[key],
                name=key[1],
                workload=key[0],
                stable=over_seeds([each.stable for each in results]),
                recovers=over_seeds([each.recovers for each in results]),
                slo=over_seeds([each.slo for each in results]),
                slo_by={name: over_seeds([each.slo_by[name] for each in results]) for name in groups},
                reasons={name: text for each in results for name, text in each.reasons.items()},
                probes=results[0].probes,
                num_replicas=len(first.fleet()),
                num_gpus=num_gpus(first),
                turns=turns_of(load),
            )
        )
    return rates, searched.notes


def _find(task: tuple[Arm, Load, float, Question, Tried]) -> Found:
    arm, load, estimate, question, on_try = task
    prober = prober_of(arm, load, question, on_try)
    if not isinstance(prober, SessionProber):
        return find_rates(prober, estimate, burst=question.burst, slo=question.slo)
    found = find_rates(prober, estimate, burst=0, slo=question.slo)
    if question.burst:
        found.reasons.setdefault("recovers", "bursts are not searched where turns wait for answers")
    return found
