"""Views that show what the contract names, and nothing else, and can't be changed."""

from __future__ import annotations

from typing import Any, Never

from simsched.errors import InputError
from simsched.policies.engine_view import EngineView
from simsched.request import RequestView


class PolicyError(InputError):
    """A user's own policy broke the contract, or raised."""


OF_REQUEST = frozenset(name for name in dir(RequestView) if not name.startswith("_"))
OF_ENGINE = frozenset(name for name in dir(EngineView) if not name.startswith("_"))
"""What a policy may look at."""
_LISTS = ("running", "let_in", "waiting")


class GuardedRequest:
    """Passes on what `RequestView` names."""

    __slots__ = ("__view", "__where")

    def __init__(self, view: RequestView, where: str) -> None:
        object.__setattr__(self, "_GuardedRequest__view", view)
        object.__setattr__(self, "_GuardedRequest__where", where)

    def __getattr__(self, name: str) -> Any:
        if name not in OF_REQUEST:
            raise PolicyError(f"{self.__where} looks at {name}; expected what RequestView names")
        return getattr(self.__view, name)

    def __setattr__(self, name: str, value: Any) -> Never:
        raise PolicyError(f"{self.__where} sets {name} of a request; expected it to be read alone")


class GuardedEngine:
    """Passes on what `EngineView` names, its lists as tuples.

    Args:
        engine: the view.
        where: whose hook looks at it, for messages.
        requests: guard the requests in its lists, too, at a price.
    """

    __slots__ = ("__engine", "__requests", "__where")

    def __init__(self, engine: EngineView, where: str, *, requests: bool = False) -> None:
        object.__setattr__(self, "_GuardedEngine__engine", engine)
        object.__setattr__(self, "_GuardedEngine__requests", requests)
        object.__setattr__(self, "_GuardedEngine__where", where)

    def __getattr__(self, name: str) -> Any:
        if name not in OF_ENGINE:
            raise PolicyError(f"{self.__where} looks at {name} of the engine; expected what EngineView names")
        found = getattr(self.__engine, name)
        if name not in _LISTS:
            return found
        return guarded_all(found, self.__where) if self.__requests else tuple(found)

    def guards(self, engine: EngineView) -> bool:
        """Is it this one that stands behind it?"""
        return self.__engine is engine

    def __setattr__(self, name: str, value: Any) -> Never:
        raise PolicyError(f"{self.__where} sets {name} of the engine; expected it to be read alone")


def guarded_all(views: Any, where: str) -> tuple[GuardedRequest, ...]:
    """Each of these requests."""
    return tuple(GuardedRequest(view, where) for view in views)


def guarded_of(view: Any) -> Any:
    """What is behind a guard, if there is one."""
    return view._GuardedRequest__view if isinstance(view, GuardedRequest) else view
