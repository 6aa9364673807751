"""Policies as text: `mlfq(base_quantum=0.03,threshold=2)`, parsed and never evaluated."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from simsched.errors import InputError
from simsched.plugins import construct, find_class
from simsched.policies.adopted import adopted_object
from simsched.policies.base import Policy, registered
from simsched.policies.starvation import StarvationControl
from simsched.policies.user_policy import watched
from simsched.text.specs import parse_spec, split_specs

__all__ = ["GROUP", "make_policy", "policy_class", "split_specs"]

GROUP = "simsched.policies"
"""Entry points of this group in other packages are policies, by name."""

_STARVATION = ("starvation_threshold", "starvation_period")


def make_policy(spec: str) -> Policy:
    """A fresh policy: a registered name, an entry point of another package, `./file.py:Class`, or what
    `adopt` has returned.

    Raises:
        InputError: an unknown name or parameter, or a value out of bounds.
    """
    if (held := adopted_object(spec)) is not None:
        copied = deepcopy(held)
        try:
            copied.__class__ = _own(type(held), spec, spec)
        except TypeError as error:
            raise InputError(f"policy {spec}: {error}; expected a class without __slots__") from None
        return copied
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
    return _own(found.cls, name, found.short_name)


def _own(cls: type[Policy], spec: str, name: str) -> type[Policy]:
    """A class from outside, watched unless it is one of ours; `name`: in results, if it gives itself none."""
    ours = isinstance(cls, type) and cls.__module__.startswith("simsched.")
    own = cls if ours and issubclass(cls, Policy) else watched(cls, spec)
    own.name = own.name or name
    return own
