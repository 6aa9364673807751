"""Routers by name, with parameters, from a user's file; and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import simsched.routers  # noqa: F401 - they register
from simsched.errors import InputError
from simsched.routers.base import Replicas
from simsched.routers.spec import make_router
from simsched.routers.vllm_dp import VllmDp
from tests.routers.requests import Request

MINE = """
from pydantic.dataclasses import dataclass
from simsched.routers.base import Router

@dataclass(eq=False)
class Last(Router):
    back: int = 1

    def choose(self, request, replicas, now):
        return len(replicas) - self.back
"""


def test_a_router_by_name_with_parameters() -> None:
    router = make_router("vllm-dp(version=0.26.0, api_servers=2)")
    assert isinstance(router, VllmDp)
    assert (router.name, router.version, router.api_servers) == ("vllm-dp", "0.26.0", 2)


def test_a_users_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    router = make_router(f"{tmp_path}/mine.py:Last(back=2)")
    assert router.name == "Last"
    router.start(4, 0)
    assert router.choose(Request(), Replicas.idle(4), 0.0) == 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fastest", "router fastest: unknown; expected one of cache-aware, "),
        ("session(nodes=3)", "router session: no parameter nodes; expected virtual_nodes"),
        ("random(p=1)", "router random: no parameter p; expected none"),
        ("vllm-dp(api_servers=0)", "router vllm-dp: api_servers is 0: Input should be greater"),
        ("vllm-dp(version=0.40.0)", "router vllm-dp: version is 0.40.0: "),
        ("nowhere.py:X", "router nowhere.py:X: no file nowhere.py"),
    ],
)
def test_what_is_refused(spec: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        make_router(spec)
    assert str(refused.value).startswith(message)


def test_a_class_that_is_no_router(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class X: pass\n")
    with pytest.raises(InputError, match=r"expected a subclass of simsched\.routers\.base\.Router"):
        make_router(f"{tmp_path}/mine.py:X")
