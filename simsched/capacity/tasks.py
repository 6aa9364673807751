"""What is searched: the arms of a study's grid, each with its load and an estimate, in several processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from simsched.capacity.probe import HOUR, Prober, Tried, unheard
from simsched.capacity.session_probe import SessionProber
from simsched.errors import InputError
from simsched.policies.spec import make_policy
from simsched.results import LOAD_OPTIONS, RUN_OPTIONS
from simsched.slo import Slo
from simsched.sweep.cell import Arm, Load
from simsched.sweep.inputs import profile_of
from simsched.sweep.plan import make_plan
from simsched.sweep.rates import notes_on_rates
from simsched.sweep.requests import file_of, requests_of
from simsched.sweep.study import Study
from simsched.text.arm_names import arm_name, resolved, study_labels
from simsched.text.options import differing
from simsched.text.table import counted
from simsched.workload.named import named_workload
from simsched.workload.sessions import sessions_of
from simsched.workload.trace import Trace

Key = tuple[str, str]
"""Workload and arm, as they are called."""
Found = TypeVar("Found")
OfArm = Callable[[str, str, float], None]
"""Told an arm's name, what was tried of it and seen, and how many seconds that took."""


def of_nobody(arm: str, what: str, seconds: float) -> None:
    """For searches that nobody watches."""


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
class Searched:
    """The arms that are searched, in the order of the grid."""

    tasks: dict[Key, list[tuple[Arm, Load, float]]]
    """Each seed's: what serves, what is offered, and an estimate of its capacity in requests/s."""
    chosen: dict[Key, dict[str, Any]]
    """The options of each that vary, the policy always."""
    notes: list[str]
    """On what was chosen for them."""

    def flat(self) -> Iterator[tuple[Key, tuple[Arm, Load, float]]]:
        """Every task with its key."""
        return ((key, task) for key, of_arm in self.tasks.items() for task in of_arm)


def tasks_of(study: Study, by: str | None = None) -> Searched:
    """The arms of a study, over its workloads and runs; its own rates are not looked at.

    Raises:
        InputError: anything wrong with the study, arrivals that have no rate, or requests without what they
            are judged apart `by` (one of `GROUPS`).
    """
    plan = make_plan(study.model_copy(update=_ONE_RATE | _length(study)))
    varying = _varying(list(plan.options.values()))
    labels = resolved(study_labels(study.label, ["policy", *varying]), list(plan.options.values()))
    tasks: dict[Key, list[tuple[Arm, Load, float]]] = {}
    chosen: dict[Key, dict[str, Any]] = {}
    for cell_name, cell in plan.cells.items():
        options = plan.options[cell_name]
        if cell.load.request_rate is None:
            raise InputError(f"--arrivals {cell.load.arrivals}: have no rate to search")
        if by is not None and getattr(_some(cell.load), GROUPS[by]) is None:
            raise InputError(f"--by {by}: the requests of {options['workload']} have none")
        arm = {"policy": options["policy"], **{name: options[name] for name in varying}}
        key = str(options["workload"]), arm_name(arm, ["policy", *varying], labels)
        chosen[key] = arm
        load = replace(cell.load, duration=None, num_requests=None)
        tasks.setdefault(key, []).append((cell.arm, load, plan.capacity[cell_name]))
    at_one_rate = set(notes_on_rates(plan.cells, plan.capacity, plan.offered))  # nobody's: rates are searched
    notes = [note for note in plan.notes if note not in at_one_rate]
    return Searched(tasks, chosen, [*notes, *_repeated(tasks)])


def _repeated(tasks: dict[Key, list[tuple[Arm, Load, float]]]) -> list[str]:
    """A line on each trace that is repeated, as it would not last an hour at an arm's capacity."""
    said: dict[str, None] = {}
    for of_arm in tasks.values():
        for _, load, capacity in of_arm:
            if load.trace is None:
                continue
            trace, _ = file_of(load)
            if len(trace) < capacity * HOUR:
                said[
                    f"{trace.name}: its {counted(len(trace), 'request')} are repeated, with prefixes and "
                    "sessions of their own, until they make an hour"
                ] = None
    return list(said)


def _some(load: Load) -> Trace:
    """Requests of the load, with all its columns."""
    if load.trace is not None:
        return file_of(load)[0]
    return requests_of(replace(load, num_requests=10, duration=None))[0]


def prober_of(arm: Arm, load: Load, question: Question, on_try: Tried = unheard) -> Prober:
    """Who tries rates of this arm: one that knows sessions where turns wait for answers."""
    column = GROUPS[question.by] if question.by is not None else None
    kind = Prober if turns_of(load) is None else SessionProber
    return kind(arm, load, slo=question.slo, group=column, hour=question.hour, on_try=on_try)


def turns_of(load: Load) -> float | None:
    """Mean turns of a session; None where no request waits for answers."""
    if load.workload is not None:
        workload = named_workload(load.workload)
        return workload.mean_turns if workload.default_arrivals == "sessions" else None
    trace, _ = file_of(load)
    return None if trace.think_times is None else len(trace) / (int(sessions_of(trace).max()) + 1)


def num_gpus(arm: Arm) -> int:
    """GPUs of all replicas of an arm."""
    return sum(_gpus_of(profile) for profile, _ in arm.fleet())


def search_arms(
    searched: Searched,
    search: Callable[[Any], Found],
    rest: tuple[Any, ...],
    jobs: int | None,
    on_arm: Callable[[str], None],
    on_try: OfArm,
) -> dict[Key, list[Found]]:
    """What the search finds of each arm, of its seeds in order.

    Args:
        search: of a task, the rest and who is told of tries, in one tuple.
        jobs: processes; None: one per core.
        on_arm: called with the name of each arm that is done.
        on_try: called in the process that searches with an arm's name, what was tried and seen, and the
            seconds that it took.
    """
    found: dict[Key, list[Found]] = {key: [] for key in searched.tasks}
    tasks = [(key, (*task, *rest, partial(on_try, key[1]))) for key, task in searched.flat()]
    for key, result in _in_processes(search, tasks, jobs):
        found[key].append(result)
        if len(found[key]) == len(searched.tasks[key]):
            on_arm(key[1])
    return found


def _in_processes(
    search: Callable[[Any], Found], tasks: Sequence[tuple[Key, Any]], jobs: int | None
) -> list[tuple[Key, Found]]:
    """What the search finds of each task, whose first part is an arm; in the order of the tasks, whatever the
    number of processes (None: one per core)."""
    wanted = max(1, min(jobs or os.cpu_count() or 1, len(tasks)))
    if wanted == 1:
        return [(key, search(task)) for key, task in tasks]
    from joblib import Parallel, delayed

    # those that take longest begin, so that all processes are busy to the end
    order = sorted(range(len(tasks)), key=lambda place: _takes_long(tasks[place][1][0]), reverse=True)
    found = Parallel(n_jobs=wanted, batch_size=1)(delayed(search)(tasks[place][1]) for place in order)
    results = dict(zip(order, found, strict=True))
    return [(key, results[place]) for place, (key, _) in enumerate(tasks)]


_ONE_RATE = {"request_rate": ("1x",), "figures": (), "goodput": None, "log_steps": False}


def _length(study: Study) -> dict[str, Any]:
    """A minute of a generated workload is enough to check it; a trace is taken whole."""
    return {"duration": None if study.trace else 60.0, "num_requests": None}


def _varying(options: Sequence[dict[str, Any]]) -> list[str]:
    names = [name for name in options[0] if name not in (*LOAD_OPTIONS, *RUN_OPTIONS, "policy")]
    return differing(names, options)


def _gpus_of(profile: str) -> int:
    file = profile_of(profile).file
    return file.hardware.num_gpus if file is not None and file.hardware is not None else 1


def _takes_long(arm: Arm) -> tuple[bool, bool]:
    """What preempts takes long, and longest what preempts without knowing whom."""
    policy = make_policy(arm.policy)
    return policy.preemptive and policy.reads is None, policy.preemptive
