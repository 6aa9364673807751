"""Router classes from Python, under a name that `make_router` understands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from simsched.errors import InputError
from simsched.routers.base import Router, register, registered
from simsched.text.specs import parse_spec


def adopt_router(router: Any) -> str:
    """Register a class, and return its name.

    Raises:
        InputError: not a router class, or another module has a router of this name.
    """
    if not (isinstance(router, type) and issubclass(router, Router)):
        shown = router.__name__ if isinstance(router, type) else f"a {type(router).__name__}"
        raise InputError(f'router {shown}: expected a name, such as "vllm-dp(api_servers=2)", or a class')
    if not router.__module__.startswith("simsched."):
        router.name = vars(router).get("name") or router.__name__  # an inherited name is another router's
        _register(router)
    if registered().get(router.name) is not router:
        raise InputError(f"router {router.__name__}: expected one that has a name")
    return router.name


def routers_adopted_by(specs: Iterable[str | None]) -> dict[str, type[Router]]:
    """What these specs need that another process can't find by itself: name -> class."""
    names = {parse_spec(spec, "router")[0] for spec in specs if spec and ".py:" not in spec}
    known = registered()
    return {
        name: known[name]
        for name in names & known.keys()
        if not known[name].__module__.startswith("simsched.")
    }


def adopt_routers(adopted: dict[str, type[Router]]) -> None:
    """Register what another process has adopted."""
    for name, router in adopted.items():
        router.name = name  # a class that was imported anew has none yet
        _register(router)


def _register(router: type[Router]) -> None:
    try:
        register(router.name)(router)
    except ValueError as error:
        raise InputError(f"router {router.name}: {error}; give yours another `name`") from None
