"""A user's own policy, watched: what it answers is checked, and what it raises becomes one line.

Built-in policies are not watched, so that they cost nothing more.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from copy import deepcopy
from numbers import Integral, Real
from typing import Any, get_args

import numpy as np

from simsched.errors import CannotLeap, InputError
from simsched.plugins import neighbours, raised
from simsched.policies.base import ADMIT, NEVER, REJECT, Change, Hold, Policy, Reads
from simsched.policies.base import HOOKS as DECISIONS
from simsched.policies.class_checks import refuse_misspelt, refuse_undecorated
from simsched.policies.guarded import (
    GuardedEngine,
    GuardedRequest,
    guard_class,
    guarded_all,
    guarded_of,
    undeclared_by,
)
from simsched.policies.guarded import PolicyError as PolicyError

Hook = Callable[..., Any]
Check = Callable[[Any, str], Any]
"""Refuses an answer (the value, where it comes from), or gives it back in Python's own numbers."""

HOOKS = ("on_arrival", "priority", "next_change", "on_change", "on_preempt", "on_finish")
_DRIFTS = ("none", "improves", "any")
UNSEEDED = (
    "two runs of one seed differ, as it draws numbers that nothing seeds; expected a random.Random(seed) of "
    "its own, made in __post_init__"
)
"""What is wrong with a policy that differs from itself."""
TRIES = 5
"""How often one that breaks its promise is run again, to see whether it differs from itself."""
ASKED_TWICE = 500
"""So many times at first, and then once in so many, a priority is asked for twice."""


def watched(cls: type[Policy], name: str) -> type[Policy]:
    """The same class, whose hooks raise PolicyError for anything that the contract rules out.

    Raises:
        InputError: not a policy, or its class attributes are none of a policy's.
    """
    if not (isinstance(cls, type) and issubclass(cls, Policy)):
        raise InputError(f"policy {name}: expected a subclass of simsched.policies.base.Policy")
    if cls.reads not in (None, *get_args(Reads)):
        raise InputError(
            f"policy {name}: reads is {cls.reads!r}; expected {', '.join(get_args(Reads))} or None"
        )
    if not isinstance(cls.drift_per_token, float | int | None):
        raise InputError(
            f"policy {name}: drift_per_token is {cls.drift_per_token!r}; expected a number or None"
        )
    if cls.predictor not in ("oracle", "trace"):
        raise InputError(f"policy {name}: predictor is {cls.predictor!r}; expected oracle or trace")
    refuse_undecorated(cls, name)
    refuse_misspelt(cls, name)
    for flag in ("reads_cache", "reads_prompts", "reads_sessions", "shares_state"):
        if not isinstance(getattr(cls, flag), bool):
            raise InputError(f"policy {name}: {flag} is {getattr(cls, flag)!r}; expected True or False")
    shares = cls.shares_state
    checks: dict[str, Check] = {
        "priority": _PriorityCheck(),
        **{hook: _moved_check(shares) for hook in HOOKS if hook.startswith("on_")},
    }
    if not cls.next_change.__module__.startswith("simsched."):  # a built-in one may announce what is overdue
        checks["next_change"] = _check_change
    hooks = {
        hook: _watched_hook(getattr(cls, hook), hook, name, checks.get(hook))
        for hook in HOOKS
        if getattr(cls, hook) is not getattr(Policy, hook)
    }
    if cls.on_queue is not Policy.on_queue:
        hooks["on_queue"] = _watched_queue(cls.on_queue, name)
    hooks |= {
        hook: _watched_decision(getattr(cls, hook), hook, name)
        for hook in DECISIONS
        if getattr(cls, hook) is not getattr(Policy, hook)
    }
    same = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    beside = tuple(neighbours(file).values()) if (file := _file_of(cls)) else ()
    files = property(lambda self: (*cls.files.fget(self), *beside))  # type: ignore[attr-defined]
    return type(cls.__name__, (cls,), {**same, **hooks, "is_watched": True, "files": files})


def _file_of(cls: type) -> str | None:
    file: str | None = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return file


def is_own(policy: Policy) -> bool:
    """Does its class, or that of the policy it wraps, come from outside?"""
    return not type(getattr(policy, "inner", policy)).__module__.startswith("simsched.")


def asked_in_every_step(policy: Policy) -> Policy:
    """A copy that announces no changes, itself or in the policy it wraps, so its priority is always fresh.

    One that remembers changes (`on_change`) keeps its announcements: they are when it is told."""
    policy = deepcopy(policy)
    inner: Policy = getattr(policy, "inner", policy)
    cls = type(inner)
    if cls.on_change is Policy.on_change:
        inner.__class__ = type(cls.__name__, (cls,), {"next_change": Policy.next_change})
    return policy


def expected_instead(policy: Policy) -> str:
    """What to do about a priority that does not stay as `next_change` says."""
    inner: Policy = getattr(policy, "inner", policy)
    if inner.shares_state:
        return (
            "the next change, no next_change at all or, if another request has moved it, its id in what that "
            "one's on_* call returns"
        )
    cls = type(inner)
    told = any(getattr(cls, hook) is not getattr(Policy, hook) for hook in HOOKS if hook.startswith("on_"))
    return "the next change, or no next_change at all" + (
        "; if what happens to one request moves others, shares_state = True and their ids from its on_* calls"
        if told
        else ""
    )


def _watched_hook(method: Hook, hook: str, name: str, check: Check | None) -> Hook:
    file = getattr(sys.modules.get(method.__module__), "__file__", None)
    guards = _Guards(method, f"policy {name}: {hook}")
    asked = 0

    def call(self: Policy, request: Any, now: float) -> Any:
        nonlocal asked
        guard = guards.of(self)
        seen = request if guard is None else guard(request)
        try:
            answer = method(self, seen, now)
            asked += 1
            again = hook == "priority" and (asked < ASKED_TWICE or not asked % ASKED_TWICE)
            second = method(self, seen, now) if again else None
        except InputError:
            raise
        except (Exception, SystemExit) as error:
            raise PolicyError(
                f"policy {name}: {hook} of request {request.request_id} raised {raised(error, file)}"
            ) from error
        where = f"policy {name}: {hook} of request {request.request_id}"
        if check is not None:
            answer = check(answer, where)
        if again and check is not None and check(second, where) != answer:
            raise PolicyError(
                f"{where} is {_short(answer)}, and asked again {_short(second)}; expected the same at the "
                "same time: random numbers are drawn in on_arrival, from a generator with a seed"
            )
        return answer

    return call


class _Guards:
    """What keeps this method from writing to requests, and from reading what its policy has not declared."""

    def __init__(self, method: Hook, where: str) -> None:
        self._is_ours = method.__module__.startswith("simsched.")
        self._where = where
        self._last: tuple[Policy | None, type[GuardedRequest] | None] = None, None
        self._by_names: dict[frozenset[str], type[GuardedRequest]] = {}

    def of(self, policy: Policy) -> type[GuardedRequest] | None:
        """None: the method is one of ours, which a user's class inherits; those are tested, not watched."""
        known, guard = self._last
        if self._is_ours or policy is known:
            return guard
        names = undeclared_by(policy)
        if names not in self._by_names:
            self._by_names[names] = guard_class(self._where, names)
        self._last = policy, self._by_names[names]
        return self._by_names[names]


def _moved_check(shares: bool) -> Check:
    def check(answer: Any, where: str) -> Any:
        if answer is None:
            return None
        is_list = isinstance(answer, Iterable) and not isinstance(answer, str)
        named = list(answer) if is_list else []
        if not is_list or not all(isinstance(each, str) for each in named):
            raise PolicyError(f"{where} is {_short(answer)}; expected None, or a list of request ids")
        if named and not shares:
            raise PolicyError(f"{where} names other requests; expected shares_state = True in its class")
        return named

    return check


def _watched_queue(method: Hook, name: str) -> Hook:
    """`on_queue(waiting, now)`."""
    file = getattr(sys.modules.get(method.__module__), "__file__", None)
    where = f"policy {name}: on_queue"
    check, guards = _moved_check(True), _Guards(method, where)

    def call(self: Policy, waiting: Any, now: float) -> Any:
        guard = guards.of(self)
        try:
            answer = method(self, waiting if guard is None else guarded_all(waiting, guard), now)
        except InputError:
            raise
        except (Exception, SystemExit) as error:
            raise PolicyError(f"{where} raised {raised(error, file)}") from error
        return check(answer, where)

    return call


def _watched_decision(method: Hook, hook: str, name: str) -> Hook:
    """`admit(request, engine)`, `victim(candidates, engine)`, `token_budget(engine)` or `chunk(engine)`."""
    file = getattr(sys.modules.get(method.__module__), "__file__", None)
    where = f"policy {name}: {hook}"
    guards = _Guards(method, where)

    def call(self: Policy, *given: Any) -> Any:
        guard = guards.of(self)
        seen = given
        if guard is not None:
            *others, engine = given
            seen = (
                *(guarded_all(each, guard) if hook == "victim" else guard(each) for each in others),
                GuardedEngine(engine, guard),
            )
        try:
            answer = method(self, *seen)
        except (InputError, CannotLeap):
            raise
        except (Exception, SystemExit) as error:
            raise PolicyError(f"{where} raised {raised(error, file)}") from error
        if hook == "admit":
            return _check_verdict(answer, f"{where} of request {given[0].request_id}")
        if hook == "victim":
            answer = guarded_of(answer)
            if not any(answer is candidate for candidate in given[0]):
                raise PolicyError(f"{where} is {_short(answer)}; expected one of the candidates")
            return answer
        least = 1 if hook == "token_budget" else 0
        if not (isinstance(answer, Integral) and int(answer) >= least):
            raise PolicyError(f"{where} is {_short(answer)}; expected a whole number, at least {least}")
        return int(answer)

    return call


def _check_verdict(answer: Any, where: str) -> Any:
    if isinstance(answer, Hold):
        return Hold(_check_change(answer.change, where))
    if answer not in (ADMIT, REJECT):
        raise PolicyError(f"{where} is {_short(answer)}; expected ADMIT, REJECT or hold(a Change)")
    return answer


class _PriorityCheck:
    """Numbers, or tuples of numbers: always the same of the two, else they have no order."""

    def __init__(self) -> None:
        self._first: Any = None

    def __call__(self, answer: Any, where: str) -> Any:
        parts = answer if isinstance(answer, tuple) else (answer,)
        if not parts or not all(isinstance(part, Real) and part == part for part in parts):
            raise PolicyError(f"{where} is {_short(answer)}; expected a number or a tuple of numbers")
        if self._first is None:
            self._first = answer
        elif isinstance(answer, tuple) != isinstance(self._first, tuple):
            raise PolicyError(
                f"{where} is {_short(answer)}, and an earlier one was {_short(self._first)}; "
                "expected always a number, or always a tuple"
            )
        return tuple(map(_plain, parts)) if isinstance(answer, tuple) else _plain(answer)


def _check_change(answer: Any, where: str) -> Change:
    if not isinstance(answer, Change):
        raise PolicyError(f"{where} is {_short(answer)}; expected a Change, such as NEVER")
    for field in ("after_steps_run", "after_steps_idle"):
        value = getattr(answer, field)
        if value is not None and not (isinstance(value, Integral) and int(value) >= 1):
            raise PolicyError(f"{where} has {field}={_short(value)}; expected a whole number, at least 1")
    for field in ("after_service", "after_time"):
        value = getattr(answer, field)
        if value is not None and not (isinstance(value, Real) and float(value) >= 0):
            raise PolicyError(f"{where} has {field}={_short(value)}; expected seconds, at least 0")
    if answer.while_running not in _DRIFTS:
        raise PolicyError(
            f"{where} has while_running={_short(answer.while_running)}; expected {', '.join(_DRIFTS)}"
        )
    return answer if answer is NEVER else Change(*map(_plain, answer))


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's: comparing them gives what a compiled engine does not take for a bool."""
    return value.item() if isinstance(value, np.generic) else value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
