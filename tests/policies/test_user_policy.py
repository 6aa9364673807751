"""A user's own policy that breaks the contract: one line that says where, and what was expected."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from simsched.cost_model.models import LinearCost
from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.engine.step_clock import StepClock
from simsched.errors import InputError
from simsched.policies.base import Policy
from simsched.policies.spec import make_policy
from simsched.policies.user_policy import PolicyError, is_own
from simsched.vllm.priority_tracker import PriorityTracker
from simsched.vllm.view import VllmView
from simsched.workload.trace import Trace

HEAD = """
from __future__ import annotations
import math, threading
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from simsched.policies.base import NEVER, Change, Policy, register
from simsched.policies.fcfs import Fcfs
from simsched.request import RequestView

class Good(Policy):
    def priority(self, request, now):
        return (np.int64(request.num_prompt_tokens), 1.5)

    def next_change(self, request, now):
        return NEVER

class Mine(Good):
"""
PRIORITY = "    def priority(self, request, now): return "
CHANGE = "    def next_change(self, request, now): return "

WRONG: dict[str, tuple[str, str]] = {
    "None": (PRIORITY + "None", "priority of request 0 is None; expected a number or a tuple of numbers"),
    "NaN": (PRIORITY + "math.nan", "priority of request 0 is nan; expected a number"),
    "NaN inside": (PRIORITY + "(1, math.nan)", r"is \(1, nan\); expected a number"),
    "text": (PRIORITY + "'a'", "is 'a'; expected a number"),
    "array": (PRIORITY + "np.ones(2)", "expected a number"),
    "later": (
        PRIORITY + "None if request.num_output_tokens else 0\n" + CHANGE + "Change(after_steps_run=1)",
        "priority of request . is None",
    ),
    "mixed": (
        PRIORITY + "1 if request.request_id == '0' else (1, 2)",
        r"request 1 is \(1, 2\), and an earlier one was 1; expected always a number, or always a tuple",
    ),
    "no change": (CHANGE + "None", "next_change of request 0 is None; expected a Change, such as NEVER"),
    "a number": (CHANGE + "5", "next_change of request 0 is 5; expected a Change"),
    "steps": (CHANGE + "Change(after_steps_run=-1)", "after_steps_run=-1; expected a whole number"),
    "half a step": (CHANGE + "Change(after_steps_idle=1.5)", "after_steps_idle=1.5; expected a whole number"),
    "seconds": (CHANGE + "Change(after_service=-1)", "after_service=-1; expected seconds, at least 0"),
    "NaN seconds": (CHANGE + "Change(after_time=math.nan)", "after_time=nan; expected seconds"),
    "drift": (CHANGE + "Change(while_running='up')", "while_running='up'; expected none, improves, any"),
    "raises": (PRIORITY + "1 / 0", r"priority of request 0 raised ZeroDivisionError.*mine.py:19\)"),
    "the future": (PRIORITY + "request.output_length", "looks at output_length; expected what RequestView"),
    "misspelt": (PRIORITY + "request.num_promt_tokens", "looks at num_promt_tokens; expected num_prompt_tok"),
    "undeclared prediction": (
        PRIORITY + "request.predicted_length",
        'priority reads predicted_length of a request; expected reads = "predicted_length" in its class',
    ),
    "undeclared cache": (PRIORITY + "request.num_cached_tokens", "expected reads_cache = True in its class"),
    "undeclared prompt": (PRIORITY + "len(request.prompt_blocks)", "expected reads_prompts = True"),
    "undeclared session": (PRIORITY + "request.session_wait", "expected reads_sessions = True"),
    "exits": (PRIORITY + "exit()", "priority of request 0 raised SystemExit"),
    "signature": ("    def priority(self, request): return 1", "priority of request 0 raised TypeError"),
    **{
        f"writes in {hook}": (
            f"    def {hook}(self, {seen}):\n        {what}.num_prompt_tokens = 1\n        return {answer}",
            f"{hook} sets num_prompt_tokens of a request; expected it to be read alone",
        )
        for hook, seen, what, answer in [
            ("on_arrival", "request, now", "request", "None"),
            ("priority", "request, now", "request", "0"),
            ("next_change", "request, now", "request", "NEVER"),
            ("on_queue", "waiting, now", "waiting[0]", "None"),
            ("on_finish", "request, now", "request", "None"),
            ("on_preempt", "request, now", "request", "None"),
            ("admit", "request, engine", "request", "'admit'"),
            ("victim", "candidates, engine", "candidates[0]", "candidates[0]"),
            ("token_budget", "engine", "[*engine.running, *engine.waiting][0]", "100"),
            ("chunk", "engine", "[*engine.waiting, *engine.let_in][0]", "0"),
        ]
    },
    "writes once it has run": (
        PRIORITY + "0\n    def on_change(self, request, now): request.score = 1\n"
        + CHANGE + "Change(after_steps_run=3)",
        "on_change sets score of a request",
    ),
    "writes without next_change": (
        "    next_change = Policy.next_change\n    def on_arrival(self, request, now): request.score = 0",
        "on_arrival sets score of a request",
    ),
    "deletes": ("    def on_finish(self, request, now): del request.score", "deletes score of a request"),
    "returns True": (
        "    def on_finish(self, request, now): return True",
        r"on_finish of request \d+ is True; expected None, or a list of request ids",
    ),
    "a hook": ("    def on_finish(self, request, now): {}[0]", r"on_finish of request \d+ raised KeyError"),
}  # fmt: skip


def make(folder: Path, body: str, name: str = "Mine") -> Policy:
    file = folder / "mine.py"
    file.write_text(HEAD + body + "\n")
    return make_policy(f"{file}:{name}")


def run(policy: Policy, *, leap: bool) -> list[float]:
    n = 12
    trace = Trace(
        arrival_time=np.zeros(n),
        num_prompt_tokens=np.arange(n, dtype=np.int64) * 5 + 10,
        num_output_tokens=np.full(n, 8, dtype=np.int64),
        score=np.arange(n, dtype=float),
    )
    config = engine_config(max_num_seqs=3, num_gpu_blocks=10, max_num_batched_tokens=80, max_model_len=150)
    return simulate(
        trace, policy, LinearCost(t0=0.01, a=0, b=0, c=0, d=0), config, leap=leap
    ).finish_time.tolist()


@pytest.mark.parametrize("leap", [True, False])
@pytest.mark.parametrize("kind", WRONG)
def test_a_broken_contract(tmp_path: Path, kind: str, leap: bool) -> None:
    body, message = WRONG[kind]
    policy = make(tmp_path, body)
    with pytest.raises(PolicyError, match=message) as caught:
        run(policy, leap=leap)
    assert str(caught.value).startswith(f"policy {tmp_path}/mine.py:Mine: ")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "    reads = 'length'",
            "reads is 'length'; expected score, predicted_class, predicted_length, length_quantiles or None",
        ),
        ("    predictor = 'me'", "predictor is 'me'; expected oracle or trace"),
        ("    drift_per_token = 'x'", "drift_per_token is 'x'"),
        (
            "    preemptive = False",
            "preemptive has no effect on a class that is no dataclass.*@dataclass above class Mine",
        ),
        ("    def __init__(self): self.preemptive = 'no'", "preemptive is 'no'; expected true or false"),
        ("    def __init__(self): 1 / 0", r"ZeroDivisionError: division by zero \(mine.py:19\)"),
        ("    def on_arrivals(self, request, now): pass", "on_arrivals is no method.*; expected on_arrival "),
        ("    def admits(self, request, engine): pass", "admits is no method.*; expected admit "),
        ("    def token_budgets(self, engine): pass", "expected token_budget "),
        (
            "    def on_token(self, request, now): pass",
            "on_token is no method.*; expected on_arrival, on_change",
        ),
        ("    share_state = True", "share_state is no attribute.*; expected shares_state "),
        (
            "    pass\n@dataclass\nclass Sized(Good):\n    size: int",
            r"non-default argument 'size'.*; expected a default for each field \(mine.py:2\d\)",
        ),
        ("    def __init__(self): super().__init__(); self.lock = threading.Lock()", "cannot pickle"),
        ("    pass\n@register('fcfs')\nclass Other(Good): pass", "there is a policy fcfs already"),
    ],
)
def test_a_class_that_is_no_policy(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make(tmp_path, body)
    assert "mine.py:Mine: " in str(caught.value)


def test_what_keeps_the_contract_is_left_alone(tmp_path: Path) -> None:
    good = make(tmp_path, "    pass", "Good")
    assert is_own(good)
    assert run(good, leap=True) == run(make(tmp_path, "    pass", "Good"), leap=False)
    assert is_own(make_policy(f"{tmp_path}/mine.py:Good(starvation_threshold=5)"))
    ours = make(tmp_path, "    pass", "Fcfs")
    assert not is_own(ours)
    assert type(ours) is type(make_policy("fcfs"))


def test_a_helper_may_be_named_as_the_method_that_it_helps(tmp_path: Path) -> None:
    chunk = "    def chunk(self, engine): return self.chunks[-1]\n    chunks = (8, 16)"
    helper = "\n    def victims(self): pass\n    def victim(self, candidates, engine): return candidates[-1]"
    run(make(tmp_path, chunk + helper), leap=True)


def test_a_file_named_without_its_folder_has_lines_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("x = 1\n1 / 0\n")
    with pytest.raises(InputError, match=r"division by zero \(mine.py:2\)"):
        make_policy("mine.py:Mine")


FORGETS = """
    def __init__(self): super().__init__(); self.done = 0
    def on_finish(self, request, now): self.done += 1
    def priority(self, request, now): return (-1) ** self.done * request.num_prompt_tokens
"""


@pytest.mark.parametrize(
    ("shares", "expected"), [(True, "its id in what that one's on_"), (False, "others, shares_state = True")]
)
def test_who_forgets_to_say_who_has_moved_is_told_so(tmp_path: Path, shares: bool, expected: str) -> None:
    policy = make(tmp_path, FORGETS + f"    shares_state = {shares}")
    with pytest.raises(PolicyError, match=f"had promised to stay; expected .*{expected}"):
        run(policy, leap=True)


HOLDS = """
    shares_state = True
    def __init__(self):
        super().__init__()
        self.here = {}
    def on_arrival(self, request, now): self.here[request] = request.request_id
    def on_finish(self, request, now): del self.here[request]
    def priority(self, request, now): return (request.num_prompt_tokens, 0)
    def victim(self, candidates, engine):
        assert set(engine.running) <= set(self.here)
        return max(candidates, key=lambda each: (each in self.here, each.num_prompt_tokens))
"""


@pytest.mark.parametrize("leap", [True, False])
def test_a_request_is_the_same_in_every_hook(tmp_path: Path, leap: bool) -> None:
    """Each hook sees it through a guard of its own; as a key they are one."""
    plain = "    def priority(self, request, now): return (request.num_prompt_tokens, 0)"
    assert run(make(tmp_path, HOLDS), leap=leap) == run(make(tmp_path, plain), leap=leap)


def test_a_prediction_beside_the_declared_one_may_be_looked_at(tmp_path: Path) -> None:
    body = "    reads = 'score'\n" + PRIORITY + "(request.score or 0, request.predicted_length or 0)"
    run(make(tmp_path, body), leap=True)


@pytest.mark.parametrize(("hook", "begin"), [("on_arrival", "add"), ("on_finish", "finished")])
def test_in_vllm_too(tmp_path: Path, hook: str, begin: str) -> None:
    """Our scheduler there asks policies through this tracker."""
    policy = make(tmp_path, f"    def {hook}(self, request, now): request.num_prompt_tokens = 1")
    tracker = PriorityTracker(policy, clock := StepClock())
    request: Any = SimpleNamespace(request_id="a", num_prompt_tokens=9, priority=0, sampling_params=None)
    view = VllmView(request, 0.0, 0, clock)
    with pytest.raises(PolicyError, match=f"{hook} sets num_prompt_tokens of a request"):
        getattr(tracker, begin)(view, 0.0)
    assert view.num_prompt_tokens == 9


ROTATING = """
    def priority(self, request, now): return {real}(-(request.steps_run // 5))
    def next_change(self, request, now):
        return Change(after_steps_run={whole}(5 - request.steps_run % 5), after_time={real}(60))
"""


@pytest.mark.parametrize("leap", [True, False])
def test_numbers_of_numpy_are_as_good_as_pythons(tmp_path: Path, leap: bool) -> None:
    plain = make(tmp_path, ROTATING.format(real="float", whole="int"))
    numpy = make(tmp_path, ROTATING.format(real="np.float64", whole="np.int64"))
    request: Any = SimpleNamespace(request_id="a", steps_run=7)
    assert type(numpy.priority(request, 0.0)) is float
    assert {type(value) for value in numpy.next_change(request, 0.0)} == {int, float, str, type(None)}
    assert run(plain, leap=leap) == run(numpy, leap=leap)


@pytest.mark.parametrize("leap", [True, False])
def test_a_subclass_of_a_built_in_policy_runs_as_that_does(tmp_path: Path, leap: bool) -> None:
    """MLFQ announces what is overdue with a negative time, which only a method of a user's own may not."""
    body = "    pass\nfrom simsched.policies.mlfq import Mlfq\nclass Levels(Mlfq): pass"
    quantum = "(base_quantum=0.005)"  # half a step
    mine = make(tmp_path, body, f"Levels{quantum}")
    assert is_own(mine)
    assert run(mine, leap=leap) == run(make_policy(f"mlfq{quantum}"), leap=leap)


def test_annotations_may_be_text(tmp_path: Path) -> None:
    """With `from __future__ import annotations`, a dataclass looks up what they mean in its module."""
    policy = make(
        tmp_path,
        "    pass\n@dataclass\nclass Typed(Good):\n    cap: int = 5\n    reads: ClassVar[str] = 'score'",
        "Typed(cap=7)",
    )
    assert [field.name for field in dataclasses.fields(policy)] == ["preemptive", "cap"]
    assert (policy.cap, policy.reads) == (7, "score")  # type: ignore[attr-defined]
