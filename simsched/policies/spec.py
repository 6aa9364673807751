"""Policies as text: `mlfq(base_quantum=0.03,threshold=2)`, parsed and never evaluated."""

from __future__ import annotations

from typing import Any

from simsched.errors import InputError
from simsched.plugins import construct, find_class
from simsched.policies.base import Policy, registered
from simsched.policies.starvation import StarvationControl
from simsched.policies.user_policy import watched
from simsched.text.specs import parse_spec, split_specs

__all__ = ["GROUP", "make_policy", "policy_class", "split_specs"]

GROUP = "simsched.policies"
"""Entry points of this group in other packages are policies, by name."""

_STARVATION = ("starvation_threshold", "starvation_period")


def make_policy(spec: str) -> Policy:
    """A fresh policy: a registered name, an entry point of another package, or `./file.py:Class`.

    Raises:
        InputError: an unknown name or parameter, or a value out of bounds.
    """
    name, given = parse_spec(spec, "policy")
    parameters: dict[str, Any] = dict(given)
    cls = policy_class(name)
    starvation = {key: parameters.pop(key) for key in _STARVATION if key in parameters}
    policy: Policy = construct("policy", cls, name, parameters, others=_STARVATION)
    if not isinstance(policy.preemptive, bool):
        raise InputError(f"policy {name}: preemptive is {policy.preemptive!r}; expected true or false")
    if not starvation:
        return policy
    if _STARVATION[0] not in starvation:
        raise InputError(f"{spec}: starvation_period needs starvation_threshold")
    for key, value in starvation.items():
        if type(value) is not int or value < 1:
            raise InputError(f"{spec}: {key} is {value}; expected an integer, at least 1")
    return StarvationControl(policy, *(starvation[key] for key in _STARVATION if key in starvation))


def policy_class(name: str) -> type[Policy]:
    """The class that a spec's name stands for: one from outside is watched.

    Raises:
        InputError: there is none, or it is not a policy.
    """
    found = find_class("policy", name, registered(), GROUP)
    cls: type[Policy] = found.cls
    if found.is_ours:
        return cls
    own = watched(cls, name)
    if cls.__module__.startswith("simsched."):
        own = cls  # one of ours by another way
    own.name = own.name or found.short_name
    return own
