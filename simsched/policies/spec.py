"""Policies as text: `mlfq(base_quantum=0.03,threshold=2)`, parsed and never evaluated."""

from __future__ import annotations

import importlib.util
import sys
from copy import deepcopy
from dataclasses import fields
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from simsched.errors import InputError
from simsched.policies.base import Policy, registered
from simsched.policies.starvation import StarvationControl
from simsched.policies.user_policy import raised, watched
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
    policy = _construct(cls, name, parameters)
    if not starvation:
        return policy
    if _STARVATION[0] not in starvation:
        raise InputError(f"{spec}: starvation_period needs starvation_threshold")
    for key, value in starvation.items():
        if type(value) is not int or value < 1:
            raise InputError(f"{spec}: {key} is {value}; expected an integer, at least 1")
    return StarvationControl(policy, *(starvation[key] for key in _STARVATION if key in starvation))


def policy_class(name: str) -> type[Policy]:
    """The class that a spec's name stands for.

    Raises:
        InputError: there is none, or it is not a policy.
    """
    known = registered()
    if name in known:
        cls: type[Policy] = known[name]
        return cls
    if ".py:" in name:
        return _from_file(name)
    plugins = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name in plugins:
        try:
            found = plugins[name].load()
        except (Exception, SystemExit) as error:
            raise InputError(f"policy {name}: {plugins[name].value}: {raised(error, None)}") from error
        return _own(found, name, name)
    names = ", ".join(sorted({*known, *plugins}))
    raise InputError(f"policy {name}: unknown; expected one of {names}, or FILE.py:CLASS")


def _from_file(name: str) -> type[Policy]:
    path, _, attribute = name.rpartition(":")
    if not Path(path).is_file():
        raise InputError(f"policy {name}: no file {path}")
    spec = importlib.util.spec_from_file_location(f"simsched_user_policy_{Path(path).stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look here for what annotations mean
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(f"policy {name}: {raised(error, path)}") from error
    if not hasattr(module, attribute):
        raise InputError(f"policy {name}: {path} has no {attribute}")
    return _own(getattr(module, attribute), name, attribute)


def _own(cls: type[Policy], spec: str, name: str) -> type[Policy]:
    """A class from outside, watched unless it is one of ours; `name`: in results, if it gives itself none."""
    own = watched(cls, spec)
    if cls.__module__.startswith("simsched."):
        own = cls  # one of ours by another way
    own.name = own.name or name
    return own


def _construct(cls: type[Policy], name: str, parameters: dict[str, Any]) -> Policy:
    valid = [field.name for field in fields(cls) if field.init]
    for key in parameters:
        if key not in valid:
            raise InputError(
                f"policy {name}: no parameter {key}; expected {', '.join([*valid, *_STARVATION])}"
            )
    try:
        policy = cls(**parameters)
        deepcopy(policy)  # as each run starts with one
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"policy {name}: {first['loc'][0]} is {first['input']}: {first['msg']}") from None
    except InputError:
        raise
    except Exception as error:
        file = getattr(sys.modules.get(cls.__module__), "__file__", None)
        raise InputError(f"policy {name}: {raised(error, file)}") from error
    if not isinstance(policy.preemptive, bool):
        raise InputError(f"policy {name}: preemptive is {policy.preemptive!r}; expected true or false")
    return policy
