"""Results in which an arm, or all of them, finished no request."""

from __future__ import annotations

from pathlib import Path

import pytest

from simsched.cli import main

REFUSING = '''
from pydantic.dataclasses import dataclass
from simsched.policies.base import ADMIT, NEVER, REJECT, Policy

@dataclass
class UpTo(Policy):
    """Refuses prompts of more tokens."""

    most: int = 0
    preemptive: bool = False

    def priority(self, request, now):
        return 0

    def next_change(self, request, now):
        return NEVER

    def admit(self, request, engine):
        return ADMIT if request.num_prompt_tokens <= self.most else REJECT
'''


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("policies", "said"),
    [
        ("./up.py:UpTo", "./up.py:UpTo refused 20 requests; its numbers leave them out"),
        ("fcfs,./up.py:UpTo", "./up.py:UpTo refused 20 requests; its numbers leave them out"),
        ("fcfs,./up.py:UpTo(most=200)", "./up.py:UpTo(most=200) refused "),
    ],
)
def test_they_are_compared_reported_and_drawn(
    policies: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("up.py").write_text(REFUSING)
    load = ["--request-rate", "4", "--num-requests", "20", "--no-plot"]
    assert call("run", "--policy", policies, *load, "-o", "out") == 0
    assert said in capsys.readouterr().out
    assert call("compare", "out") == 0
    assert said in capsys.readouterr().out
    assert call("report", "out") == 0
    assert call("plot", "out", "--kind", "decile") == (0 if "fcfs" in policies else 2)
    assert "Traceback" not in capsys.readouterr().err
