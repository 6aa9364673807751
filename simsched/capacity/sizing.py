"""How many replicas behind a router serve a given load: the smallest number that is steady and meets the
objective, where one replica less does not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

from simsched.capacity.probe import Prober, Tried
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
from simsched.text.table import counted

MOST = 4096
"""Replicas of a run."""
FACTOR = 20
"""A search ends at so many times the number that the estimated capacity of one replica asks for."""


@dataclass(frozen=True)
class Size:
    """What a search found."""

    replicas: int | None
    """The smallest number that serves the load; None: none that was tried."""
    tried: dict[int, bool] = field(default_factory=dict)
    """Number of replicas, ascending -> do so many serve it?"""


def smallest(serves: Callable[[int], bool], start: int) -> Size:
    """Search the smallest number of replicas that serves a load, from an estimate.

    It supposes that more replicas serve whatever fewer do.
    """
    most = min(MOST, FACTOR * start)
    tried: dict[int, bool] = {}

    def does(number: int) -> bool:
        if number not in tried:
            tried[number] = serves(number)
        return tried[number]

    # Upwards, in steps that double, until so many are enough.
    few, enough, step = 0, start, 1
    while not does(enough):
        if enough >= most:
            return Size(None, tried)
        few, enough, step = enough, min(most, enough + step), 2 * step
    # Then downwards likewise, until so many are too few; and bisection between the two.
    step = 1
    while enough - few > 1:
        number = (few + enough) // 2 if few else max(1, enough - step)
        if does(number):
            enough, step = number, 2 * step
        else:
            few = number
    return Size(enough, dict(sorted(tried.items())))


@dataclass(frozen=True)
class ArmSize:
    """How many replicas of an arm serve the load, whichever of the seeds it is of."""

    chosen: dict[str, Any]
    """Its options that vary, the policy always."""
    name: str
    workload: str
    replicas: int | None
    """None: no number that was tried serves it, and `reason` says so."""
    num_gpus: int | None
    """Of all of them."""
    turns: float | None
    """Mean turns of a session, where later ones wait for answers: the rate is then turns/s."""
    tried: dict[int, bool]
    """Number of replicas, ascending -> did so many serve the load of the first seed?"""
    reason: str | None = None

    def to_dict(self, question: Question, request_rate: float) -> dict[str, Any]:
        """For JSON."""
        row = {
            "arm": self.chosen,
            "workload": self.workload,
            "request_rate": request_rate,
            "slo": question.slo.text if question.slo is not None else None,
            "replicas": self.replicas,
            "gpu_hours_per_hour": self.num_gpus,
            "tried": [{"replicas": number, "serve": serve} for number, serve in self.tried.items()],
            "reason": self.reason,
        }
        if self.turns is not None:
            row |= {"turns_per_session": self.turns, "session_rate": request_rate / self.turns}
        return row


def arm_sizes(
    study: Study,
    question: Question,
    request_rate: float,
    *,
    jobs: int | None = None,
    on_arm: Callable[[str], None] = lambda name: None,
    on_start: Callable[[int], None] = lambda arms: None,
    on_try: OfArm = of_nobody,
) -> tuple[list[ArmSize], list[str]]:
    """How many replicas each arm needs behind its router for so many requests/s.

    Args:
        study: as for `simsched.capacity.arm_rates`, with routers, and `num_replicas` of 1.
        question: the objective; without one, the backlog must not grow.
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
    found = search_arms(searched, _find, (question, request_rate), jobs, on_arm, on_try)
    sizes = []
    for key, of_seeds in found.items():
        one, load, _ = searched.tasks[key][0]
        numbers = [size.replicas for size in of_seeds if size.replicas is not None]
        most = max(numbers) if len(numbers) == len(of_seeds) else None
        tried = max(max(size.tried) for size in of_seeds)
        failed = f"{tried:,} replicas do not serve {request_rate:g} requests/s"
        sizes.append(
            ArmSize(
                chosen=searched.chosen[key],
                name=key[1],
                workload=key[0],
                replicas=most,
                num_gpus=None if most is None else most * num_gpus(one),
                turns=turns_of(load),
                tried=of_seeds[0].tried,
                reason=failed if most is None else None,
            )
        )
    return sizes, searched.notes


def _find(task: tuple[Arm, Load, float, Question, float, Tried]) -> Size:
    arm, load, capacity, question, request_rate, on_try = task

    def serves(number: int) -> bool:
        began = perf_counter()
        found = _keeps(prober_of(replace(arm, num_replicas=number), load, question), request_rate)
        serve = f"serve{'s' if number == 1 else ''}" if found else f"do{'es' if number == 1 else ''} not"
        on_try(f"{counted(number, 'replica')} {serve}", perf_counter() - began)
        return found

    return smallest(serves, max(1, min(MOST, math.ceil(request_rate / capacity))))


def _keeps(prober: Prober, request_rate: float) -> bool:
    """Is it steady at this rate, and does it meet the objective?"""
    probe = prober.probe(request_rate)
    if not probe.steady or prober.slo is None:
        return probe.steady
    return all(prober.slo.is_met(attained) for attained in probe.attained.values())
