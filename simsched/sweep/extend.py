"""Extending finished results: the grid of what is there and what is added, with the old cells as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simsched.engine.config import EngineConfig, find_preset
from simsched.errors import InputError
from simsched.results.layout import read_manifest
from simsched.sweep.grid import expand
from simsched.sweep.inputs import DEFAULT_ROUTER, profile_of
from simsched.sweep.plan import Plan, make_plan
from simsched.sweep.study import PAPER_RATES, Study, axes, make_study
from simsched.text.options import option_flag

REPLACED = ("title", "figures")
"""What an extension may change, since no cell hangs on it."""


def plan_extension(path: str | Path, given: Mapping[str, Any]) -> Plan:
    """The plan of a results directory's study and more values of its axes, or more runs.

    Cells that are there keep their names, rates, capacities and seconds of arrivals; a new arm gets the
    seconds of the load that it meets.

    Args:
        path: the results directory.
        given: options of a study; lists are added to those of the directory.

    Raises:
        InputError: no results of `simsched run`; an option whose other value would change cells that are
            there; or anything wrong with the options.
    """
    manifest = read_manifest(Path(path))
    if manifest is None:
        raise InputError(f"{path}: --extend: no simsched results here; run without it first")
    if "imported" in manifest or "policy" not in manifest.get("study", {}):
        raise InputError(f"{path}: --extend: these results were imported, not run; nothing can be added")
    if "duration" not in manifest:
        raise InputError(f"{path}: --extend: made by an older version, which kept no durations")
    plan = make_plan(extended(_study_of(manifest), given, str(path)), there=manifest)
    missing = [name for name in manifest["cells"] if name not in plan.cells]
    if missing:
        raise InputError(
            f"{path}: --extend: cell {missing[0]} would be another one in the larger grid; "
            "run these options into a directory of their own (-o)"
        )
    return plan


def _study_of(manifest: Mapping[str, Any]) -> Study:
    """The study that a manifest holds."""
    kept = {name: value for name, value in manifest["study"].items() if value not in (None, [], {})}
    return make_study(kept, origin="manifest.json")


def extended(old: Study, given: Mapping[str, Any], path: str) -> Study:
    """The old study with the given values behind its own.

    Raises:
        InputError: a value that can't be added; `path` names the directory.
    """
    kept = {name: value for name, value in old if value not in (None, (), {})}
    asked = make_study({**kept, **given})
    changes: dict[str, Any] = {}
    for name in sorted(given, key=lambda name: name == "label"):
        before, wanted = getattr(old, name), getattr(asked, name)
        if name in axes("load", "engine", "order"):
            if wanted == before:
                continue
            values = before or _by_default(old, name, path)
            changes[name] = (*values, *(value for value in wanted if value not in values))
        elif name == "num_runs":
            changes[name] = max(before, wanted)
        elif name == "label":
            labels = {**(before or {}), **wanted}
            # a policy whose file has another name now is still the one of its label
            moved = {spec: labels[label] for label, spec in (before or {}).items()}
            policies = changes.get("policy", old.policy)
            changes |= {
                "label": labels,
                "policy": tuple(dict.fromkeys(moved.get(each, each) for each in policies)),
            }
        elif name in REPLACED:
            changes[name] = wanted
        elif wanted != before:
            raise InputError(
                f"{path}: --extend: {option_flag(name)} is {before} there, {wanted} here; "
                "an extension adds values of what is swept, and runs"
            )
    return make_study({**kept, **changes})


def _by_default(old: Study, name: str, path: str) -> tuple[Any, ...]:
    """The values that cells have of an axis that was not given."""
    if name in ("workload", "trace"):
        return ()
    if name == "arrivals" and not old.trace:
        return ("poisson",)
    if name == "request_rate" and (old.arrivals or not old.trace):
        return PAPER_RATES
    if name == "router" and old.num_replicas:
        return (DEFAULT_ROUTER,)
    if name == "host_speed":
        return (1.0,)
    profiles = {
        (preset, profile)
        for preset in old.preset
        for profile in old.cost_profile or (find_preset(preset).cost_profile,)
    }
    if name == "cost_profile" and len(profiles) == 1:
        return tuple(profile for _, profile in profiles)
    if name in EngineConfig.model_fields:
        given = {each: getattr(old, each) for each in EngineConfig.model_fields if each != "preset"}
        if all(len(values) < 2 for values in given.values()):
            options = {each: values[0] for each, values in given.items() if values}
            found = {
                getattr(
                    EngineConfig(**{**options, "preset": preset}).resolve(profile_of(expand(profile))), name
                )
                for preset, profile in profiles
            }
            if len(found) == 1 and None not in found:
                return tuple(found)
    raise InputError(
        f"{path}: --extend: {option_flag(name)} was not given there, and has no one value in its cells; "
        "run it into a directory of its own (-o)"
    )
