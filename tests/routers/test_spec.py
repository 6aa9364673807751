"""Routers by name, with parameters, from a user's file; and what is refused."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

import simsched.routers  # noqa: F401 - they register
from simsched.cli import main
from simsched.errors import InputError
from simsched.routers.base import Replicas
from simsched.routers.guarded import SeenRequest
from simsched.routers.spec import make_router
from simsched.routers.vllm_dp import VllmDp
from simsched.sweep.plan import make_plan
from simsched.sweep.study import make_study
from simsched.workload.content import Stretch
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
        ("vllm-dp(version=0.32)", "router vllm-dp: version is 0.32: expected three numbers, such as 0."),
        ("vllm-dp(version=9.9.9)", "router vllm-dp: version is 9.9.9: "),
        ("vllm-dp(api_servers=0)", "router vllm-dp: api_servers is 0: Input should be greater"),
        ("vllm-dp(version=0.40.0)", "router vllm-dp: version is 0.40.0: "),
        ("nowhere.py:X", "router nowhere.py:X: no file nowhere.py"),
    ],
)
def test_what_is_refused(spec: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        make_router(spec)
    assert str(refused.value).startswith(message)


def test_the_neighbours_of_a_routers_file_are_in_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "offsets.py").write_text("from more_offsets import BACK\n")
    (tmp_path / "more_offsets.py").write_text("BACK = 1\n")
    (tmp_path / "mine.py").write_text("import offsets\n" + MINE)
    mine = f"{tmp_path}/mine.py:Last(back=1)"
    study = make_study({"num_replicas": 2, "router": mine, "request_rate": 9, "num_requests": 20})
    hashed = make_plan(study).manifest()["sha256"]
    files = {Path(file).name: sha for file, sha in hashed.items() if file.endswith(".py")}
    assert sorted(files) == ["mine.py", "more_offsets.py", "offsets.py"]
    assert files["more_offsets.py"] == sha256(b"BACK = 1\n").hexdigest()


def test_a_class_that_is_no_router(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class X: pass\n")
    with pytest.raises(InputError, match=r"expected a subclass of simsched\.routers\.base\.Router"):
        make_router(f"{tmp_path}/mine.py:X")


BROKEN = """
from pydantic.dataclasses import dataclass
from simsched.routers.base import Router

@dataclass(eq=False)
class Raises(Router):
    def choose(self, request, replicas, now):
        return 1 // 0

@dataclass(eq=False)
class Nowhere(Router):
    def choose(self, request, replicas, now):
        return len(replicas)

@dataclass(eq=False)
class Nothing(Router):
    def choose(self, request, replicas, now):
        pass

@dataclass(eq=False)
class Future(Router):
    def choose(self, request, replicas, now):
        return request.num_output_tokens % 2

@dataclass(eq=False)
class Writes(Router):
    def choose(self, request, replicas, now):
        request.num_prompt_tokens = 1

@dataclass(eq=False)
class Queues(Router):
    def choose(self, request, replicas, now):
        return replicas.waiting.index(0)

@dataclass(eq=False)
class Work(Router):
    def choose(self, request, replicas, now):
        return replicas.remaining_work.index(0)

@dataclass(eq=False)
class Counts(Router):
    def choose(self, request, replicas, now):
        replicas.in_flight[0] += 1
        return 0

@dataclass(eq=False)
class Sizes(Router):
    def choose(self, request, replicas, now):
        return replicas.sizes[0]
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Raises", r"choose raised ZeroDivisionError: .*\(broken.py:8\)"),
        ("Nowhere", "chose 3 for request 0; expected a whole number from 0 to 2"),
        ("Nothing", "chose None for request 0; expected a whole number from 0 to 2"),
        (
            "Future",
            r"a router does not see num_output_tokens of a request; expected one of request_id, .*py:23",
        ),
        ("Writes", "a router sets num_prompt_tokens of a request; expected it to be read alone"),
        ("Queues", r"a router is told waiting if its reporting\(\) says how old reports are"),
        ("Work", "only a router with reads_future = True is told remaining_work"),
        ("Counts", "'tuple' object does not support item assignment"),
        ("Sizes", "nothing is known of the replicas' sizes; expected one of in_flight, waiting, "),
    ],
)
def test_what_a_users_own_router_does_wrong_is_one_line(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    router = make_router(f"{tmp_path}/broken.py:{name}")
    router.start(3, 0)
    with pytest.raises(InputError, match=message):
        router.choose(Request(), Replicas.idle(3), 0.0)


def test_a_default_is_for_routers_that_have_it_and_specs_that_do_not_say() -> None:
    assert make_router("random", version="0.26.0").name == "random"
    router, own = (
        make_router("vllm-dp", version="0.26.0"),
        make_router("vllm-dp(version=0.31.0)", version="0.26.0"),
    )
    assert isinstance(router, VllmDp)
    assert isinstance(own, VllmDp)
    assert (router.version, own.version) == ("0.26.0", "0.31.0")


def test_a_prefix_is_shown_up_to_the_end_of_the_prompt() -> None:
    """What others share of the answer says how long it is; once the answer is there, it is known."""
    request = Request(num_prompt_tokens=100, prefix=[Stretch(1, 64), Stretch(2, 130), Stretch(3, 190)])
    assert list(SeenRequest(request, False).prefix) == [(1, 64), (2, 100)]
    assert list(SeenRequest(request, True).prefix) == [(1, 64), (2, 130), (3, 190)]


def test_a_router_is_tried_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    out = tmp_path / "out"
    for router, message in [
        (f"{tmp_path}/broken.py:Nowhere", "chose 2 for request 0; expected a whole number from 0 to 1"),
        ("session(workers=[a])", "router session: "),
    ]:
        arguments = ["--num-replicas", "2", "--router", router, "--request-rate", "9", "--num-requests", "30"]
        with pytest.raises(SystemExit) as ended:
            main(["run", *arguments, "-o", str(out)])
        assert ended.value.code == 2
        assert message in capsys.readouterr().err
        assert not out.exists()
