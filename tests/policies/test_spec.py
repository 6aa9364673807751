"""Policies as text."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from simsched import plugins
from simsched.errors import InputError
from simsched.policies.fcfs import Fcfs
from simsched.policies.mlfq import Mlfq
from simsched.policies.spec import GROUP, make_policy, split_specs
from simsched.policies.starvation import StarvationControl
from simsched.text.specs import parse_spec


def test_commas_inside_parentheses_do_not_split() -> None:
    assert split_specs("fcfs, mlfq(a=1,b=2),srtf") == ["fcfs", "mlfq(a=1,b=2)", "srtf"]
    assert parse_spec("mlfq(base_quantum=0.03,threshold=2)", "policy") == (
        "mlfq",
        {"base_quantum": 0.03, "threshold": 2},
    )
    assert parse_spec("x(a=true,b=none,c=word)", "policy") == ("x", {"a": True, "b": None, "c": "word"})


def test_parameters_are_typed_fields() -> None:
    policy = make_policy("mlfq(base_quantum=0.5,starvation_seconds=3)")
    assert isinstance(policy, Mlfq)
    assert (policy.base_quantum, policy.starvation_seconds, policy.threshold) == (0.5, 3.0, 2.0)


def test_starvation_control_wraps_any_policy() -> None:
    policy = make_policy("ranking(starvation_threshold=50,starvation_period=7)")
    assert isinstance(policy, StarvationControl)
    assert (policy.threshold, policy.period, policy.reads, policy.name) == (50, 7, "score", "ranking")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "unknown; expected one of a-min"),
        ("mlfq(base=1)", "no parameter base; expected preemptive, base_quantum"),
        ("mlfq(base_quantum=-1)", "base_quantum is -1"),
        ("mlfq(base_quantum=fast)", "base_quantum is fast"),
        ("mlfq(base_quantum=nan)", "base_quantum"),
        ("trail(every=true)", "every is true: expected a number"),
        ("mlfq(base_quantum)", "as key=value"),
        ("mlfq(base_quantum=1,base_quantum=2)", "each parameter once"),
        ("mlfq(base_quantum=1", "expected NAME"),
        ("", "expected NAME"),
        ("ranking(starvation_period=3)", "needs starvation_threshold"),
        ("ranking(starvation_threshold=0)", "at least 1"),
        ("ranking(starvation_threshold=1.5)", "expected an integer"),
        ("./nowhere.py:Mine", "no file"),
        ("classification(buckets=odd)", "buckets is odd"),
    ],
)
def test_mistakes_are_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make_policy(text)
    assert "\n" not in str(caught.value)


def test_parentheses_must_match() -> None:
    for text in ("mlfq(a=1", "a),b"):
        with pytest.raises(InputError, match="parentheses"):
            split_specs(text)


MINE = """
from dataclasses import dataclass
from simsched.policies.base import NEVER, Policy

@dataclass(eq=False)
class Mine(Policy):
    weight: float = 1.0

    def priority(self, request, now):
        return self.weight * request.num_prompt_tokens

    def next_change(self, request, now):
        return NEVER

class Other:
    pass
"""


def test_a_users_own_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    policy = make_policy(f"{file}:Mine(weight=2)")
    assert (policy.name, policy.weight) == ("Mine", 2)  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="has no Absent"):
        make_policy(f"{file}:Absent")
    with pytest.raises(InputError, match="subclass"):
        make_policy(f"{file}:Other")
    file.write_text("1 / 0")
    with pytest.raises(InputError, match="ZeroDivisionError"):
        make_policy(f"{file}:Mine")


def test_another_packages_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("theirs", "simsched.policies.fcfs:Fcfs", GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [entry])
    assert isinstance(make_policy("theirs"), Fcfs)
