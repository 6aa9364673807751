"""Simulate every cell of a replay by a cost profile, from the replay's directory alone, without vLLM.

The plan is in the manifest; what the engine ran with beyond that (KV blocks, resolved options, vLLM's
version) in `replay.json`. Metrics are of the whole run and predictors take no time: a replay's own
predictions were made before it began.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from simsched.cost_model.base import CostModel
from simsched.cost_model.host import HostedCost
from simsched.cost_model.host_speed import by_launches, by_total, decode_error, total_error
from simsched.cost_model.overlapped import is_overlapped, read_overlapped
from simsched.cost_model.profile import Profile
from simsched.cost_model.step_log import read_step_logs
from simsched.engine.config import EngineConfig
from simsched.engine.simulator import simulate
from simsched.engine.step_cost import SerialCost
from simsched.errors import InputError
from simsched.metrics import beyond_fit, summarize
from simsched.request_table import request_table
from simsched.results import Results, ResultsWriter, check_target
from simsched.sweep.cell import Cell
from simsched.sweep.inputs import Inputs, prepare, profile_of
from simsched.workload.trace import Trace
from validate.components import cell_table
from validate.replayed import FACTS, open_replay, plan_of, read_facts

Speed = float | Literal["given"]
SPEEDS = (0.1, 10.0)  # of a host: a speed beyond is no host's
SAME = 1e-6  # seconds: an arrival time in a file has as many digits


@dataclass(frozen=True)
class Prediction:
    """The simulated cells, and at which host speed each was."""

    results: Results
    speeds: dict[str, float]


def predict(
    real: Path,
    cost_profile: str,
    out: Path,
    *,
    traces: Sequence[Path] = (),
    host_speed: Speed = 1.0,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Prediction:
    """Simulate every cell of a replay.

    Args:
        real: the replay's directory.
        cost_profile: a profile's name or file.
        out: the results directory, with a step log for each cell.
        traces: where the replayed traces lie now, if neither there nor beside the replay.
        host_speed: of all cells; or `given`: each cell at the speed that its own step log shows.
        overwrite: replace what `out` holds.
        say: is told each cell and its host speed.

    Raises:
        InputError: not a replay, other requests than it had, or a host speed for a profile without a host.
    """
    facts = read_facts(real)
    plan = plan_of(real, traces, cost_profile=cost_profile, predictor_time=0.0, log_steps=True)
    profile = profile_of(cost_profile)
    if profile.host is None and host_speed != 1.0:
        raise InputError(f"--host-speed {host_speed}: cost profile {profile.name} has no host")
    prepared = {name: _prepare(cell, name, facts, open_replay(real)) for name, cell in plan.cells.items()}
    speeds = {
        name: _speed(real, name, inputs, profile) if host_speed == "given" else host_speed
        for name, inputs in prepared.items()
    }
    steps = {name: _step_errors(real, name, inputs, profile) for name, inputs in prepared.items()}
    manifest = {
        **plan.manifest(),
        "source": f"predicted from {real.name}",
        "host_speed": {"asked": host_speed, "cells": speeds},
        "steps_really_taken": steps,
    }
    check_target(out, manifest, overwrite=overwrite)
    writer = ResultsWriter.create(out, manifest, overwrite=overwrite)
    for name, inputs in prepared.items():
        log = writer.step_log(name)
        cost = _cost(profile, speeds[name])
        record = simulate(inputs.trace, inputs.policy, cost, inputs.config, step_log=log, seed=inputs.seed)
        beyond = beyond_fit(record, inputs.max_decodes)
        writer.write_cell(name, request_table(record), summarize(record), log, beyond_fit=beyond)
        say(_line(name, profile, speeds[name], steps[name]))
    return Prediction(writer.merge(), speeds)


def _line(name: str, profile: Profile, speed: float, steps: dict[str, Any] | None) -> str:
    text = name if profile.host is None else f"{name}: host speed {speed:.3g}"
    if steps is not None:
        text += (
            f"; the steps really taken, at the speed of their launches ({steps['speed_of_launches']:.3g}): "
            f"total {steps['total_error']:+.1%}"
        )
        if steps["decode_median_error"] is not None:
            text += f", a decode {steps['decode_median_error']:.1%} in the median"
    return text


def _step_errors(real: Path, name: str, inputs: Inputs, profile: Profile) -> dict[str, Any] | None:
    """How the profile prices the batches that the engine really formed, with the host as fast as those of
    its launches that bounded a step; None where host and device don't overlap, or nothing is logged."""
    log = real / "steps" / f"{name}.jsonl"
    if profile.host is None or not inputs.config.async_scheduling:
        return None
    if not log.is_file() or not is_overlapped(log):
        return None
    taken, cost = read_overlapped([log], profile.graphs), _hosted(profile, 1.0)
    speed = by_launches(taken, cost) or 1.0
    return {
        "speed_of_launches": speed,
        "total_error": total_error(taken, cost, speed),
        "decode_median_error": decode_error(taken, cost, speed),
    }


def _cost(profile: Profile, speed: float) -> CostModel | HostedCost:
    """What `simulate` takes; `speed` multiplies the host's own."""
    return profile.cost if profile.host is None else _hosted(profile, speed)


def _hosted(profile: Profile, speed: float) -> HostedCost:
    assert profile.host is not None
    host = replace(profile.host, speed=profile.host.speed * speed)
    return HostedCost(device=profile.cost, host=host, graphs=profile.graphs)


def _prepare(cell: Cell, name: str, facts: dict[str, Any], real: Results) -> Inputs:
    """What the cell's run starts from, on the engine that really ran, checked against its requests."""
    if name not in facts["cells"]:
        raise InputError(f"{real.path / FACTS}: damaged, no cell {name}")
    known = facts["cells"][name]
    # older replays say only how many blocks there were: the rest is in the manifest
    options = {"num_gpu_blocks": known["num_gpu_blocks"]}
    options |= known.get("engine_options") or {"async_scheduling": bool(cell.arm.config.async_scheduling)}
    options = {
        option: value
        for option, value in options.items()
        if option in EngineConfig.model_fields and value is not None
    }
    config = cell.arm.config.model_copy(update=options)
    inputs = prepare(replace(cell, arm=replace(cell.arm, config=config)))
    _check_requests(inputs.trace, name, real)
    return inputs


def _check_requests(trace: Trace, name: str, real: Results) -> None:
    """Refuse to predict a run of other requests than those that were replayed."""
    table = cell_table(real, name)
    columns: dict[str, Any] = {
        "request_id": trace.request_ids(),
        "arrival_time": trace.arrival_time,
        "num_prompt_tokens": trace.num_prompt_tokens,
        "num_output_tokens": trace.num_output_tokens,
    }
    for column, ours in columns.items():
        theirs = table[column].to_list()
        same = len(theirs) == len(ours)
        if column == "arrival_time":
            same = same and np.allclose(theirs, ours, rtol=0, atol=SAME)
        else:
            same = same and theirs == list(ours)
        if not same:
            raise InputError(
                f"{real.path}: cell {name} was replayed with other requests than {trace.name} has "
                f"({column} differs)"
            )


def _speed(real: Path, name: str, inputs: Inputs, profile: Profile) -> float:
    """The host's speed in a run, in units of the profile's, by its step log alone."""
    log = real / "steps" / f"{name}.jsonl"
    if not log.is_file():
        raise InputError(f"--host-speed given: {log}: no such step log")
    assert profile.host is not None
    if inputs.config.async_scheduling and is_overlapped(log):
        return by_total(read_overlapped([log], profile.graphs), _hosted(profile, 1.0))
    steps = read_step_logs([log]).steps

    def total(speed: float) -> float:
        """Seconds of all steps where host and device take turns."""
        return float(steps.predict(SerialCost(_hosted(profile, speed), inputs.config)).sum())

    low, high = SPEEDS
    for _ in range(30):  # the total grows with the speed
        middle = (low * high) ** 0.5
        low, high = (middle, high) if total(middle) < steps.time.sum() else (low, middle)
    return float(middle)
