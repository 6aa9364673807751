"""Routers as text: `vllm-dp(api_servers=4)`, parsed and never evaluated."""

from __future__ import annotations

from simsched.errors import InputError
from simsched.plugins import construct, find_class
from simsched.routers.base import Router, registered
from simsched.text.specs import parse_spec

GROUP = "simsched.routers"
"""Entry points of this group in other packages are routers, by name."""


def make_router(spec: str) -> Router:
    """A fresh router: a registered name, an entry point of another package, or `./file.py:Class`.

    Raises:
        InputError: an unknown name or parameter, a value out of bounds, or a class that is no router.
    """
    name, parameters = parse_spec(spec, "router")
    found = find_class("router", name, registered(), GROUP)
    cls = found.cls
    if not (isinstance(cls, type) and issubclass(cls, Router)):
        raise InputError(f"router {name}: expected a subclass of simsched.routers.base.Router")
    cls.name = cls.name or found.short_name
    router: Router = construct("router", cls, name, parameters)
    return router
