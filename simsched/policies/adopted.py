"""Policies from Python: a class or an object, under a spec that `make_policy` understands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, Field, fields
from typing import Any

from simsched.errors import InputError
from simsched.policies.base import Policy, register, registered
from simsched.text.specs import parse_spec

Adopted = type[Policy] | Policy
_objects: dict[str, Policy] = {}


def adopt(policy: Adopted) -> str:
    """Register a class or an object, and return its spec.

    An object whose parameters can be written as text is its class with those parameters, such as
    `Mine(cap=512)`; any other is copied for each run under a name of its own, such as `Mine-1`.

    Raises:
        InputError: not a policy, or another module has a policy of this name.
    """
    cls = policy if isinstance(policy, type) else type(policy)
    if not issubclass(cls, Policy):
        raise InputError(f"policy {cls.__name__}: expected a name, a subclass of Policy or an object")
    if not cls.__module__.startswith("simsched."):
        cls.name = vars(cls).get("name") or cls.__name__  # an inherited name is another policy's
        _register(cls)
    known = registered().get(cls.name) is cls
    if isinstance(policy, type):
        if not known:
            raise InputError(f"policy {cls.__name__}: can't be made by its name; expected an object")
        return cls.name
    parameters = _as_text(policy) if known else None
    return _hold(policy) if parameters is None else cls.name + parameters


def adopted_object(name: str) -> Policy | None:
    """The object that was adopted under this name; None if there is none."""
    return _objects.get(name)


def adopted_by(specs: Iterable[str]) -> dict[str, Adopted]:
    """What these specs need that another process can't find by itself: name -> class or object."""
    found: dict[str, Adopted] = {}
    for spec in specs:
        name = spec if ".py:" in spec else parse_spec(spec, "policy")[0]
        cls = registered().get(name)
        if name in _objects:
            found[name] = _objects[name]
        elif cls is not None and not cls.__module__.startswith("simsched."):
            found[name] = cls
    return found


def adopt_all(adopted: dict[str, Adopted]) -> None:
    """Register what another process has adopted."""
    for name, policy in adopted.items():
        if isinstance(policy, type):
            policy.name = name  # a class that was imported anew has none yet
            _register(policy)
        else:
            _objects[name] = policy


def _register(cls: type[Policy]) -> None:
    try:
        register(cls.name)(cls)
    except ValueError as error:
        raise InputError(f"policy {cls.name}: {error}; give yours another `name`") from None


def _hold(policy: Policy) -> str:
    for name, known in _objects.items():
        if known is policy:
            return name
    name = f"{type(policy).name}-{len(_objects) + 1}"
    _objects[name] = policy
    return name


def _as_text(policy: Policy) -> str | None:
    """`(cap=512)`: the parameters that are not the default; None if they don't make this object again."""
    cls: Any = type(policy)
    texts, given = [], {}
    for field in fields(policy):
        value = getattr(policy, field.name, None)
        if not field.init or value == _default(field):
            continue
        text = str(value).lower() if value is None or isinstance(value, bool) else str(value)
        if not text or set(text) & set("(),='\"") or parse_spec(f"x(y={text})", "policy")[1]["y"] != value:
            return None
        texts.append(f"{field.name}={text}")
        given[field.name] = value
    try:
        same = vars(cls(**given)) == vars(policy)
    except Exception:  # of a constructor of its own, or of values that don't compare
        return None
    if not same:
        return None
    return f"({','.join(texts)})" if texts else ""


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return getattr(field.default, "default", field.default)  # pydantic's Field(...) holds it
