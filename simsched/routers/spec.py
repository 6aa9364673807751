"""Routers as text: `vllm-dp(api_servers=4)`, parsed and never evaluated."""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import Any

from simsched.errors import InputError
from simsched.plugins import construct, find_class, neighbours, raised
from simsched.routers.base import Replicas, RoutedRequest, Router, registered
from simsched.routers.guarded import SeenReplicas, SeenRequest
from simsched.text.specs import parse_spec

GROUP = "simsched.routers"
"""Entry points of this group in other packages are routers, by name."""

HOOKS = ("start", "choose", "on_first_token", "on_finish")


def make_router(spec: str, **defaults: Any) -> Router:
    """A fresh router: a registered name, an entry point of another package, or `./file.py:Class`.

    Args:
        defaults: values of parameters where the router has them and the spec does not say.

    Raises:
        InputError: an unknown name or parameter, a value out of bounds, or a class that is no router.
    """
    name, given = parse_spec(spec, "router")
    found = find_class("router", name, registered(), GROUP)
    cls = found.cls
    if not (isinstance(cls, type) and issubclass(cls, Router)):
        raise InputError(f"router {name}: expected a subclass of simsched.routers.base.Router")
    if not cls.__module__.startswith("simsched."):
        cls = _watched(cls, name)
        cls.name = cls.name or found.short_name
    known = {field.name for field in fields(cls) if field.init}
    parameters = {**{key: value for key, value in defaults.items() if key in known}, **given}
    router: Router = construct("router", cls, name, parameters)
    return router


def files_beside(spec: str) -> tuple[str, ...]:
    """Paths of the modules that a router's own file imports from beside it: its results depend on them."""
    name, _ = parse_spec(spec, "router")
    path, found, _ = name.rpartition(".py:")
    return tuple(neighbours(f"{path}.py").values()) if found else ()


def _watched(cls: type[Router], name: str) -> type[Router]:
    """A user's own router: it sees what the contract names, what it raises becomes one line, and what it
    chooses must be a replica."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)

    def watched(hook: str) -> Any:
        method = getattr(cls, hook)
        answered = hook == "on_finish"

        def call(self: Router, *arguments: Any) -> Any:
            if hook != "start":
                arguments = SeenRequest(arguments[0], answered), *arguments[1:]
            try:
                return method(self, *arguments)
            except InputError:
                raise
            except (Exception, SystemExit) as error:
                raise InputError(f"router {name}: {hook} raised {raised(error, file)}") from error

        return call

    def choose(self: Router, request: RoutedRequest, replicas: Replicas, now: float) -> int:
        chosen = called(self, request, SeenReplicas(replicas, self.reporting(), self.reads_future), now)
        if not isinstance(chosen, int) or not 0 <= chosen < len(replicas):
            raise InputError(
                f"router {name}: chose {chosen!r} for request {request.request_id}; "
                f"expected a whole number from 0 to {len(replicas) - 1}"
            )
        return chosen

    called = watched("choose")
    hooks = {hook: watched(hook) for hook in HOOKS if getattr(cls, hook) is not getattr(Router, hook)}
    same = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (cls,), {**same, **hooks, "choose": choose, "is_own": True})
