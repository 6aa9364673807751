"""Did the simulator's scheduler decide as the real engine did, step by step, on the real engine's clock?

Times of a real run differ from simulated ones, so schedules drift apart. Here the simulator is given what
the engine met (which requests had arrived at each call of `schedule()`, and when; when each step began and
ended) and asked only to decide.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from simsched.engine.arrival import arrivals_of
from simsched.engine.base import Batch
from simsched.engine.config import ResolvedConfig
from simsched.engine.recorder import Recorder
from simsched.engine.vllm_v1.stepping import VllmV1
from simsched.engine.vllm_v1.stepping_async import AsyncVllmV1
from simsched.errors import InputError
from simsched.policies.base import Policy
from simsched.policies.spec import make_policy
from simsched.workload.trace import Trace
from validate.job import Job, job_of
from validate.lockstep import difference
from validate.replayed import FACTS, plan_of, read_facts

LOGGED: dict[str, type | tuple[type, ...]] = {
    "time": (int, float),
    "end": (int, float),
    "arrived": dict,
    "scheduled": dict,
    "preempted": list,
    "num_running": int,
    "num_waiting": int,
    "kv_blocks_used": int,
}
NOTHING = "the simulator has nothing to run"


def check_decisions(job: Job, steps: Sequence[dict[str, Any]], num_gpu_blocks: int) -> dict[str, Any]:
    """Are the batches of a step log those that the simulator forms?

    Args:
        job: what was replayed.
        steps: the lines of its step log.
        num_gpu_blocks: of the real engine.

    Returns:
        `steps` compared; `first_difference` in words, None if there is none; `not_judged`: why an older log
        of an asynchronous engine says nothing about this policy, or None. Of several replicas each is
        checked by itself, and the first difference is that of the first one that has any.
    """
    replicas = sorted({step["replica"] for step in steps if "replica" in step})
    if replicas:
        found = [
            _check_one(job, [step for step in steps if step["replica"] == number], num_gpu_blocks)
            for number in replicas
        ]
        differ = [
            f"replica {number}, {each['first_difference']}"
            for number, each in zip(replicas, found, strict=True)
            if each["first_difference"]
        ]
        return {
            "steps": sum(each["steps"] for each in found),
            "first_difference": next(iter(differ), None),
            "not_judged": next((each["not_judged"] for each in found if each["not_judged"]), None),
        }
    return _check_one(job, steps, num_gpu_blocks)


def _check_one(job: Job, steps: Sequence[dict[str, Any]], num_gpu_blocks: int) -> dict[str, Any]:
    names = job.trace.request_ids()
    index = {name: place for place, name in enumerate(names)}
    arrivals = np.array(job.trace.arrival_time)
    for step in steps:
        for name, time in step["arrived"].items():
            arrivals[index[name]] = time
    trace = job.trace.with_columns(arrival_time=arrivals)
    config = job.config.model_copy(update={"num_gpu_blocks": num_gpu_blocks})
    policy = make_policy(job.policy)
    stamped = all("schedule_begin" in step for step in steps)
    seconds = _watch_seconds(policy)
    kind: type[_Synchronous] | type[_Asynchronous]
    kind = _Asynchronous if config.async_scheduling else _Synchronous
    engine = kind(trace, policy, config)
    replayed = (_by_stamps if stamped else _without_stamps)(engine, steps, index)
    for number, (step, (batch, why)) in enumerate(zip(steps, replayed, strict=False), start=1):
        found = why if batch is None else difference(step, _as_logged(batch, engine.names))
        if found and config.async_scheduling and not stamped and seconds:
            reason = f"{job.policy} reads seconds, and this log lacks the times of the calls of schedule()"
            return {"steps": 0, "first_difference": None, "not_judged": reason}
        if found:
            return {"steps": number, "first_difference": f"step {number}: {found}", "not_judged": None}
    return {"steps": len(steps), "first_difference": None, "not_judged": None}


def decisions_of(replay: Path, traces: Sequence[Path] = ()) -> dict[str, dict[str, Any]]:
    """`check_decisions` of every cell of a replay, finished or not, from its directory alone.

    Args:
        replay: the directory.
        traces: as for `validate.replayed.plan_of`.

    Raises:
        InputError: not a replay's directory, a step log that is missing or damaged, or no trace.
    """
    cells = read_facts(replay)["cells"]
    plan = plan_of(replay, traces)
    found = {}
    for name, cell in plan.cells.items():
        if name not in cells:
            if (replay / "summary.json").is_file():
                raise InputError(f"{replay / FACTS}: damaged, no cell {name}")
            found[name] = {"steps": 0, "first_difference": None, "not_judged": "not played yet"}
            continue
        job = job_of(cell)
        steps = list(_read_log(replay / "steps" / f"{name}.jsonl", set(job.trace.request_ids())))
        # what the engine ran with; defaults may have changed since
        ran_with = cells[name].get("engine_options", {})
        options = {key: value for key, value in ran_with.items() if key in type(job.config).model_fields}
        job = replace(job, config=job.config.model_copy(update=options))
        found[name] = check_decisions(job, steps, int(cells[name]["num_gpu_blocks"]))
    return found


def _read_log(path: Path, names: set[str]) -> Iterator[dict[str, Any]]:
    """The lines of a step log of real vLLM, checked as far as the decisions need them."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read the step log: {error}") from None
    for number, text in enumerate(lines, start=1):
        where = f"{path}:{number}"
        try:
            step = json.loads(text)
        except ValueError:
            raise InputError(f"{where}: not JSON: {text[:60]!r}") from None
        for column, kind in LOGGED.items():
            value = step.get(column) if isinstance(step, dict) else None
            if not isinstance(value, kind) or isinstance(value, bool):
                raise InputError(f"{where}: {column} {value!r}: not a step of real vLLM, which logs it")
        for name in (*step["arrived"], *step["scheduled"], *step["preempted"]):
            if name not in names:
                raise InputError(f"{where}: request {name!r} is not in the replayed trace")
        yield step


def _as_logged(batch: Batch, names: Sequence[str]) -> dict[str, Any]:
    return {
        "scheduled": {names[each]: tokens for each, tokens in batch.scheduled.items()},
        "preempted": [names[each] for each in batch.preempted],
        "num_running": batch.num_running,
        "num_waiting": batch.num_waiting,
        "kv_blocks_used": batch.kv_blocks_used,
    }


def _watch_seconds(policy: Policy) -> list[str]:
    """A list that is no longer empty once the policy's priorities depend on seconds, as it announces."""
    found: list[str] = []
    announce = policy.next_change

    def next_change(request: Any, now: float) -> Any:
        change = announce(request, now)
        if not found and (
            change.after_service is not None
            or change.after_time is not None
            or change.while_running != "none"
        ):
            found.append(request.request_id)
        return change

    policy.next_change = next_change  # type: ignore[method-assign]
    return found


class _Engine(Protocol):
    """A simulated scheduler whose clock is the real engine's."""

    names: list[str]
    """Of the requests that have arrived, in that order."""

    def add(self, index: int, now: float) -> None: ...
    def form(self, now: float) -> Batch | None:
        """One call of `schedule()`."""
        ...

    def update(self, start: float, end: float) -> None:
        """The oldest step under way was it from `start` to `end`."""
        ...


class _Synchronous:
    def __init__(self, trace: Trace, policy: Policy, config: ResolvedConfig) -> None:
        self._scheduler = VllmV1(policy, config, Recorder(len(trace)))
        self._arrivals = arrivals_of(trace)
        self.names: list[str] = []
        self._batch: Batch | None = None

    def add(self, index: int, now: float) -> None:
        self.names.append(self._arrivals[index].request_id)
        self._scheduler.add_request(self._arrivals[index], now)

    def form(self, now: float) -> Batch | None:
        self._batch = self._scheduler.schedule(now)
        return self._batch

    def update(self, start: float, end: float) -> None:
        assert self._batch is not None
        self._scheduler.update(self._batch, end, end - start, end - start)


class _Asynchronous:
    def __init__(self, trace: Trace, policy: Policy, config: ResolvedConfig) -> None:
        self._scheduler = AsyncVllmV1(policy, config, Recorder(len(trace)))
        self._arrivals = arrivals_of(trace)
        self.names: list[str] = []
        self._under_way: deque[Batch] = deque()

    def add(self, index: int, now: float) -> None:
        self.names.append(self._arrivals[index].request_id)
        self._scheduler.add_request(self._arrivals[index], now)

    def form(self, now: float) -> Batch | None:
        batch = self._scheduler.schedule(now)
        if batch is not None:
            self._under_way.append(batch)
        return batch

    def update(self, start: float, end: float) -> None:
        self._scheduler.update(self._under_way.popleft(), end, end - start, end - start)


class _Call(NamedTuple):
    """A call of `schedule()`, at `time`, and the requests that were added before it, when."""

    time: float
    added: list[tuple[str, float]]


def _calls(step: dict[str, Any]) -> Iterator[_Call]:
    """Those that formed nothing since the last step, then the one that formed this step."""
    waiting = deque(zip(step["arrived"], step["added"], strict=True))
    for time in [*step["empty_schedules"], step["schedule_begin"]]:
        added = []
        while waiting and waiting[0][1] <= time:
            added.append(waiting.popleft())
        yield _Call(time, added)


def _by_stamps(
    engine: _Engine, steps: Sequence[dict[str, Any]], index: dict[str, int]
) -> Iterator[tuple[Batch | None, str]]:
    """The simulator's batch for each step, or why there is none; calls of `schedule()` and ends of steps in
    the order of time."""
    under_way: deque[dict[str, Any]] = deque()
    for step in steps:
        batch = None
        for call in _calls(step):
            while under_way and under_way[0]["end"] <= call.time:
                done = under_way.popleft()
                engine.update(done["time"], done["end"])
            for name, time in call.added:
                engine.add(index[name], time)
            if batch is not None:
                yield None, "the simulator forms a batch where vLLM formed none"
                return
            batch = engine.form(call.time)
        yield batch, NOTHING
        under_way.append(step)


def _without_stamps(
    engine: _Engine, steps: Sequence[dict[str, Any]], index: dict[str, int]
) -> Iterator[tuple[Batch | None, str]]:
    """The same from a log without the times of those calls: a step is formed when all before it are over
    (asynchronous: all but one, or all if nothing can run till then)."""
    depth = 2 if isinstance(engine, _Asynchronous) else 1
    under_way: deque[dict[str, Any]] = deque()
    for step in steps:
        now = step["time"]
        while len(under_way) >= depth:
            done = under_way.popleft()
            engine.update(done["time"], done["end"])
        for name in step["arrived"]:
            engine.add(index[name], now)
        batch = engine.form(now)
        while batch is None and under_way:
            done = under_way.popleft()
            engine.update(done["time"], done["end"])
            batch = engine.form(now)
        for _ in step["preempted"]:  # a call that only made room has preempted somebody
            batch = batch or engine.form(now)
        yield batch, NOTHING
        under_way.append(step)
