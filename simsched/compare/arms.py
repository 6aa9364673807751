"""Arms and loads: what whoever runs the server chooses, and what happens to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from simsched.errors import InputError
from simsched.results import LOAD_OPTIONS, RUN_OPTIONS
from simsched.text.selection import parse_arm, same_value

Arm = dict[str, Any]
"""The options of a cell that were chosen and vary in its directory, the policy always."""
Load = dict[str, Any]
"""The options of a cell that happen to it and vary, but for the run and its seed."""


def is_chosen(option: str) -> bool:
    """Does this option make an arm? All do that make neither a load nor a run."""
    return option not in LOAD_OPTIONS and option not in RUN_OPTIONS


def json_load(load: Load) -> Load:
    """A load for JSON, which has no infinity: a burst's rate is the string "inf"."""
    return {name: "inf" if value == math.inf else value for name, value in load.items()}


def find_arm(arms: Mapping[str, Arm], wanted: str | None, option: str = "--baseline") -> str:
    """The name of the arm that this text says.

    Args:
        arms: name -> arm, in the order of the grid.
        wanted: a policy, by its specification or by its name where that is enough, and `NAME=VALUE` of other
            options; what it leaves out may be anything as long as one arm remains, of several policies FCFS.
            None: the first arm of FCFS, or where that is absent the first.
        option: what to call it in an error.

    Raises:
        InputError: it fits no arm, or several.
    """
    if wanted is None:
        return next((name for name, arm in arms.items() if arm["policy"] == "fcfs"), next(iter(arms)))
    if wanted in arms:
        return wanted
    policy, given = parse_arm(wanted, option)
    for name in given:
        if all(name not in arm for arm in arms.values()):
            known = dict.fromkeys(option for arm in arms.values() for option in arm)
            raise InputError(f"{option} {wanted}: no option {name} varies here; expected {', '.join(known)}")
    fitting = [
        name
        for name, arm in arms.items()
        if all(same_value(arm.get(option), value) for option, value in given.items())
    ]
    if policy is not None:
        exact = [name for name in fitting if arms[name]["policy"] == policy]
        fitting = exact or [name for name in fitting if arms[name]["policy"].partition("(")[0] == policy]
    elif len(fitting) > 1:
        fitting = [name for name in fitting if arms[name]["policy"] == "fcfs"] or fitting
    if len(fitting) == 1:
        return fitting[0]
    found = "fits no arm" if not fitting else f"fits {len(fitting)} arms"
    shown = "; ".join(list(fitting or arms)[:12])
    raise InputError(f"{option} {wanted}: {found} of these results; expected one of: {shown}")
