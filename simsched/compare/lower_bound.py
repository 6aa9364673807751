"""How far a results directory is from the best possible: its traces, made again, and their lower bounds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from simsched.errors import InputError
from simsched.sweep.cell import Arm, Cell

if TYPE_CHECKING:
    from simsched.results import Results

Bounds = dict[str, dict[str, float]]
"""Cell -> metric -> least possible value, in the metric's unit."""


def bounds_of_results(results: Results) -> tuple[Bounds, str]:
    """Lower bounds for every cell (`simsched.bounds`), and why there are none (else an empty string).

    The manifest says how to make the requests again; they are not taken from the results, which don't hold
    shared prefixes. Nothing is bounded unless every input is the one that the results were made from.
    """
    try:
        cells = cells_of_results(results)
    except InputError as error:
        return {}, f"No bounds: {error}."
    known: dict[Cell, dict[str, float]] = {}
    found: Bounds = {}
    for name, cell in cells.items():
        # what a bound depends on; policies and their predictors share it
        if len(cell.arm.fleet()) > 1:
            found[name] = {}
            continue
        plain = replace(cell, arm=Arm("fcfs", cell.arm.config, cell.arm.cost_profile), goodput=None)
        if plain not in known:
            known[plain] = _bounds(plain)
        found[name] = known[plain]
    if any(found.values()):
        return found, ""
    if any(len(cell.arm.fleet()) > 1 for cell in cells.values()):
        return found, "No bounds for several replicas."
    return found, "No bounds: arrivals of a closed loop depend on the policy."


def cells_of_results(results: Results) -> dict[str, Cell]:
    """The results' cells as they would run today.

    Raises:
        InputError: not a simulation of ours, or an input is gone or has changed.
    """
    study = results.manifest.get("study")
    if not isinstance(study, dict) or not study.get("policy"):
        raise InputError("the manifest has no study")
    from simsched.sweep.plan import make_plan
    from simsched.sweep.study import make_study

    given = {name: value for name, value in study.items() if value not in (None, [], {})}
    plan = make_plan(make_study(given, origin="manifest.json"), there=results.manifest)
    today = plan.manifest()
    for what in ("sha256", "cells"):
        if results.manifest.get(what) != today[what]:
            raise InputError(f"inputs have changed since these results were made ({what} in the manifest)")
    return plan.cells


def _bounds(cell: Cell) -> dict[str, float]:
    from simsched.bounds import lower_bounds
    from simsched.sweep.inputs import prepare, profile_of

    inputs = prepare(cell)
    return lower_bounds(inputs.trace, profile_of(cell.arm.cost_profile).cost, inputs.config)
