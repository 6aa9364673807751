"""What is wrong with the class of a user's own policy, apart from what its methods answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches

from simsched.errors import InputError
from simsched.policies.base import Policy
from simsched.policies.guarded import PolicyError


def refuse_undecorated(cls: type[Policy], name: str) -> None:
    """A field set on a class that is no dataclass is ignored by the constructor that it inherits.

    Raises:
        InputError: there is one.
    """
    for base in cls.__mro__:
        if "__dataclass_fields__" in vars(base) or "__init__" in vars(base):
            return
        for field in fields(cls):
            if field.name in vars(base):
                raise InputError(
                    f"policy {name}: {field.name} has no effect on a class that is no dataclass; "
                    f"expected @dataclass above class {base.__name__}"
                )


_METHODS = [name for name in dir(Policy) if name[0] != "_" and callable(getattr(Policy, name))]
_ATTRIBUTES = [name for name in dir(Policy) if name[0] != "_" and name not in (*_METHODS, "name", "files")]


def refuse_misspelt(cls: type[Policy], name: str) -> None:
    """A method or an attribute that no engine would ever ask for, and is spelt nearly as one.

    A helper may have such a name beside the method that it resembles: `chunks` beside `chunk`.

    Raises:
        InputError: there is one.
    """
    bases = [base for base in cls.__mro__ if not base.__module__.startswith(("simsched.", "builtins"))]
    own = {key: value for base in bases for key, value in vars(base).items() if key[0] != "_"}
    parameters = {field.name for field in fields(cls)}
    for key, value in own.items():
        if key in parameters or hasattr(Policy, key):
            continue
        if callable(value):
            kind, names, spelt = "method", _METHODS, key.lower()
        else:
            kind, names, spelt = "attribute", _ATTRIBUTES, key
        is_hook = kind == "method" and key.startswith("on_")
        meant = get_close_matches(spelt, names, 1, 0.6 if is_hook else 0.85)
        if is_hook or (meant and meant[0] not in own):
            hooks = [each for each in _METHODS if each.startswith("on_")]
            raise InputError(
                f"policy {name}: {key} is no {kind} of a policy's; expected {', '.join(meant or hooks)} "
                "(or, for one of your own, a name that begins with _)"
            )


def class_attributes(policy: Policy) -> dict[str, str]:
    """What the classes of a user's policy hold besides methods, written out: all of its kind share that."""
    cls = type(getattr(policy, "inner", policy))
    return {
        name: repr(value)
        for base in reversed(cls.__mro__)
        if not base.__module__.startswith(("simsched.", "builtins"))
        for name, value in vars(base).items()
        if not (name.startswith("__") or callable(value))
    }


def check_class_attributes(policy: Policy, before: Mapping[str, str], name: str) -> None:
    """Refuse what has changed in a class as its policies ran.

    Raises:
        PolicyError: something has.
    """
    for attribute, value in class_attributes(policy).items():
        if before.get(attribute) != value:
            raise PolicyError(
                f"policy {name}: all of its kind share {attribute}, which changes as one runs; expected one "
                "each (field(default_factory=...), or set on self)"
            )
