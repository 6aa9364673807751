"""Views that show what the contract names, and nothing else, and can't be changed."""

from __future__ import annotations

from difflib import get_close_matches
from operator import attrgetter
from typing import Any, Never, get_args

from simsched.errors import InputError
from simsched.policies.base import Policy, Reads
from simsched.policies.engine_view import EngineView
from simsched.request import RequestView


class PolicyError(InputError):
    """A user's own policy broke the contract, or raised."""


OF_REQUEST = frozenset(name for name in dir(RequestView) if not name.startswith("_"))
OF_ENGINE = frozenset(name for name in dir(EngineView) if not name.startswith("_"))
"""What a policy may look at."""
_LISTS = ("running", "let_in", "waiting")
_SAID_BY = {
    "num_cached_tokens": "reads_cache",
    "prompt_blocks": "reads_prompts",
    **dict.fromkeys(("session_service", "session_wait", "critical_path_service"), "reads_sessions"),
}
"""What a policy may look at if this class attribute of its is True."""


class GuardedRequest:
    """Passes on what `RequestView` names. Equal to the view behind it, and has its hash.

    `guard_class` makes the classes that are used: each refuses in the name of one hook.
    """

    __slots__ = ("__view",)
    _where = ""
    """Whose hook looks at it, for messages."""
    _undeclared: frozenset[str] = frozenset()
    """Names that this policy has not said that it reads."""

    def __init__(self, view: RequestView) -> None:
        _set_view(self, view)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # Python asks for what a class may have, such as __deepcopy__
        if name in self._undeclared:
            said = f"{_SAID_BY[name]} = True" if name in _SAID_BY else f'reads = "{name}"'
            raise PolicyError(f"{self._where} reads {name} of a request; expected {said} in its class")
        meant = get_close_matches(name, OF_REQUEST, 1, 0.8)
        expected = meant[0] if meant else "what RequestView names"
        raise PolicyError(f"{self._where} looks at {name}; expected {expected}")

    def __setattr__(self, name: str, value: Any) -> Never:
        raise PolicyError(f"{self._where} sets {name} of a request; expected it to be read alone")

    def __delattr__(self, name: str) -> Never:
        raise PolicyError(f"{self._where} deletes {name} of a request; expected it to be read alone")

    def __eq__(self, other: object) -> bool:
        return guarded_of(self) is guarded_of(other)

    def __hash__(self) -> int:
        return hash(self.__view)


_set_view: Any = vars(GuardedRequest)["_GuardedRequest__view"].__set__
"""Past `__setattr__`."""


def guard_class(where: str, undeclared: frozenset[str] = frozenset()) -> type[GuardedRequest]:
    """A guard that speaks for `where`, and shows nothing of what is `undeclared`."""
    shown = {name: property(attrgetter(f"_GuardedRequest__view.{name}")) for name in OF_REQUEST - undeclared}
    body = {"__slots__": (), "_where": where, "_undeclared": undeclared, **shown}
    return type("GuardedRequest", (GuardedRequest,), body)


def undeclared_by(policy: Policy) -> frozenset[str]:
    """What a request shows to those alone who say that they read it, where this policy does not.

    One that reads a prediction may look at the others: a trace can have several."""
    refused = {name for name, flag in _SAID_BY.items() if not getattr(policy, flag)}
    return frozenset(refused if policy.reads is not None else refused.union(get_args(Reads)))


class GuardedEngine:
    """Passes on what `EngineView` names, its lists as tuples of guarded requests.

    Args:
        engine: the view.
        guard: of its requests; it says whose hook looks at the engine.
    """

    __slots__ = ("__engine", "__guard")

    def __init__(self, engine: EngineView, guard: type[GuardedRequest]) -> None:
        object.__setattr__(self, "_GuardedEngine__engine", engine)
        object.__setattr__(self, "_GuardedEngine__guard", guard)

    def __getattr__(self, name: str) -> Any:
        if name not in OF_ENGINE:
            if name.startswith("__"):
                raise AttributeError(name)
            where = self.__guard._where
            raise PolicyError(f"{where} looks at {name} of the engine; expected what EngineView names")
        found = getattr(self.__engine, name)
        return guarded_all(found, self.__guard) if name in _LISTS else found

    def __setattr__(self, name: str, value: Any) -> Never:
        where = self.__guard._where
        raise PolicyError(f"{where} sets {name} of the engine; expected it to be read alone")


def guarded_all(views: Any, guard: type[GuardedRequest]) -> tuple[GuardedRequest, ...]:
    """Each of these requests."""
    return tuple(map(guard, views))


def guarded_of(view: Any) -> Any:
    """What is behind a guard, if there is one, or behind several."""
    while isinstance(view, GuardedRequest):
        view = view._GuardedRequest__view
    return view
