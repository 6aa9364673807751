"""Parameters that are lists and mappings, a policy's neighbours and files, and promises that it breaks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.errors import InputError
from simsched.policies.spec import make_policy
from simsched.sweep.execute import run_study
from simsched.sweep.plan import make_plan
from simsched.sweep.study import make_study, read_study
from simsched.text.specs import parse_spec, spec_text, split_specs
from tests.engine.scenarios import Linear, trace

CONFIG = engine_config(max_num_seqs=4, num_gpu_blocks=5000, max_model_len=1500)

BY_CLASS = """
from dataclasses import field
from pydantic.dataclasses import dataclass
from simsched.policies.base import NEVER, Policy
import ages

@dataclass
class ByClass(Policy):
    deadlines: dict[str, float] = field(default_factory=dict)
    levels: list[int] = field(default_factory=list)
    table: str = ""

    @property
    def files(self):
        return (self.table,) if self.table else ()

    def priority(self, request, now):
        return request.arrival_time + self.deadlines.get(request.request_class, ages.DEFAULT)

    def next_change(self, request, now):
        return NEVER
"""


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("a(x=[1, 2.5, b])", "a", {"x": [1, 2.5, "b"]}),
        ("a(x=[],y={})", "a", {"x": [], "y": {}}),
        ("edf(deadlines={chat: 5, batch: 60})", "edf", {"deadlines": {"chat": 5, "batch": 60}}),
        ("a(x={k: [1, {m: true}]},y=none)", "a", {"x": {"k": [1, {"m": True}]}, "y": None}),
        ("a(x={'a b': 1})", "a", {"x": {"a b": 1}}),
    ],
)
def test_lists_and_mappings(text: str, name: str, values: object) -> None:
    assert parse_spec(text, "policy") == (name, values)
    assert isinstance(values, dict)
    assert parse_spec(spec_text(name, values), "policy") == (name, values)


@pytest.mark.parametrize(
    "text", ["a(x=[1)", "a(x=1])", "a(x={b: 1, b: 2})", "a(x={b})", "a(x={: 1})", "a(x=(1]"]
)
def test_bad_brackets_are_one_line(text: str) -> None:
    with pytest.raises(InputError, match=r"expected|don.t match"):
        parse_spec(text, "policy")


def test_commas_inside_brackets_do_not_split() -> None:
    assert split_specs("fcfs,edf(d={a: 1, b: 2}),x([1,2])") == ["fcfs", "edf(d={a: 1, b: 2})", "x([1,2])"]


def test_a_study_file_may_write_them_as_mappings(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        "policy:\n- fcfs\n- mlfq:\n    base_quantum: 0.5\n    threshold: 3\n- sjf:\nrequest_rate: 4\n"
    )
    study = make_study(read_study(file), str(file))
    assert study.policy == ("fcfs", "mlfq(base_quantum=0.5,threshold=3)", "sjf")


def write(folder: Path, default: float = 9.0) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ages.py").write_text(f"DEFAULT = {default}\n")
    (folder / "by_class.py").write_text(BY_CLASS)
    return str(folder / "by_class.py")


def test_a_policy_with_a_mapping_a_neighbour_and_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "one")
    table = tmp_path / "table.csv"
    table.write_text("1,2\n")
    spec = f"{path}:ByClass(deadlines={{chat: 5, batch: 60}},levels=[1,2],table={table})"
    policy = make_policy(spec)
    assert vars(policy)["deadlines"] == {"chat": 5.0, "batch": 60.0}
    assert vars(policy)["levels"] == [1, 2]
    study = make_study({"policy": [spec], "request_rate": ["4"], "num_requests": 20})
    run_study(make_plan(study), tmp_path / "out", jobs=1)
    hashes = json.loads((tmp_path / "out" / "manifest.json").read_text())["sha256"]
    assert {Path(file).name for file in hashes} >= {"by_class.py", "ages.py", "table.csv"}


def test_two_folders_may_have_neighbours_of_one_name(tmp_path: Path) -> None:
    requests = trace(20, 0.0, 1).with_columns(request_class=["x"] * 20)
    first, second = write(tmp_path / "one", 1.0), write(tmp_path / "two", 2.0)
    for path, default in ((first, 1.0), (second, 2.0), (first, 1.0)):
        policy = make_policy(f"{path}:ByClass(preemptive=false)")
        simulate(requests, policy, Linear(), CONFIG)
        import ages  # type: ignore[import-not-found]

        assert default == ages.DEFAULT


@pytest.mark.parametrize(("value", "message"), [("[1, x]", "levels"), ("5", "levels"), ("{a: 1}", "levels")])
def test_a_list_of_the_wrong_kind_is_one_line(tmp_path: Path, value: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_policy(f"{write(tmp_path)}:ByClass(levels={value})")


LATE = '''
from pydantic.dataclasses import dataclass
from simsched.policies.base import NEVER, Policy
import random

@dataclass
class Late(Policy):
    """Keeps its promise for an hour."""
    preemptive: bool = {preemptive}

    def priority(self, request, now):
        return request.num_prompt_tokens - (1000 * request.steps_idle if now > 3600 else 0)

    def next_change(self, request, now):
        return NEVER

@dataclass
class Dice(Policy):
    def priority(self, request, now):
        return random.random()

@dataclass
class Names(Policy):
    def priority(self, request, now):
        return 0.0

    def on_arrival(self, request, now):
        return ["other"]
'''


@pytest.mark.parametrize("preemptive", [False, True])
def test_a_promise_is_caught_whenever_it_is_broken(tmp_path: Path, preemptive: bool) -> None:
    file = tmp_path / "late.py"
    file.write_text(LATE.format(preemptive=preemptive))
    policy = make_policy(f"{file}:Late")
    early = trace(60, 20.0, 3)
    assert simulate(early, policy, Linear(), CONFIG).finished.all()
    late = early.with_columns(arrival_time=early.arrival_time + 3600.0)
    with pytest.raises(InputError, match="which next_change had promised to stay"):
        simulate(late, make_policy(f"{file}:Late"), Linear(), CONFIG)


def test_random_numbers_in_a_priority_are_caught(tmp_path: Path) -> None:
    file = tmp_path / "dice.py"
    file.write_text(LATE.format(preemptive=True))
    with pytest.raises(InputError, match="random numbers are drawn in on_arrival"):
        simulate(trace(60, 20.0, 3), make_policy(f"{file}:Dice"), Linear(), CONFIG)
    with pytest.raises(InputError, match="expected shares_state = True"):
        simulate(trace(60, 20.0, 3), make_policy(f"{file}:Names"), Linear(), CONFIG)
    assert np.isfinite(simulate(trace(5, 1.0, 3), make_policy("fcfs"), Linear(), CONFIG).end_time)
