"""The claims' study: verdicts by hand, recipes that fit, and the whole of it on a small scale."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from simsched.cli import cli
from simsched.compare.statistics import Ratio
from simsched.policies.spec import policy_class
from simsched.reproduce.claims import study, survey
from simsched.reproduce.claims.claim import BOUND, VTC_BOUND, Check, Claim, Judged, Measured
from simsched.reproduce.claims.study import CLAIMS, recipe
from simsched.sweep.plan import make_plan
from simsched.sweep.study import make_study, read_study
from simsched.text.selection import parse_arm

RECIPES = Path(__file__).resolve().parents[2] / "plots" / "claims"


def ratio(value: float, by: float = 0.0) -> Ratio:
    return Ratio(value, value * (1 - by), value * (1 + by), 0.01, 5)


@pytest.mark.parametrize(
    ("claimed", "part", "measured", "found"),
    [
        (0.5, "everywhere", ratio(0.48, 0.02), "as claimed"),
        (0.5, "everywhere", ratio(0.52, 0.05), "as claimed"),  # its interval reaches 0.5
        (0.5, "everywhere", ratio(0.8, 0.05), "less"),
        (0.5, "everywhere", ratio(0.98, 0.05), "not"),  # it may be 1
        (0.5, "everywhere", ratio(1.2, 0.05), "not"),
        (1.0, "everywhere", ratio(0.9, 0.05), "as claimed"),
        (1.3, "everywhere", ratio(1.4, 0.05), "as claimed"),
        (1.3, "everywhere", ratio(1.1, 0.05), "less"),
        (1.3, "everywhere", ratio(0.9, 0.05), "not"),
        (1.1, "price", ratio(1.05, 0.02), "as claimed"),
        (1.1, "price", ratio(0.5, 0.02), "as claimed"),
        (1.1, "price", ratio(1.1, 0.02), "less"),  # can't be said
        (1.1, "price", ratio(1.3, 0.02), "not"),
        (0.5, "everywhere", Ratio(0.4, None, None, None, 1), "as claimed"),
        (0.5, "everywhere", None, "not"),
    ],
)
def test_what_a_ratio_says(claimed: float, part: str, measured: Ratio | None, found: str) -> None:
    assert Check("a", "b", "mean_e2el_ms", claimed, part).found(measured) == found  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        ({"everywhere": (0.4, 0.5)}, "holds"),
        ({"everywhere": (0.4, 0.8)}, "holds in part"),
        ({"everywhere": (1.0, 1.2)}, "does not hold here"),
        ({"somewhere": (0.4, 1.2)}, "holds"),
        ({"somewhere": (0.8, 1.2)}, "holds in part"),
        ({"everywhere": (0.4, 0.4), "beside": (2.0, 2.0)}, "holds"),
        ({"everywhere": (0.4, 0.4), "somewhere": (2.0, 2.0)}, "holds in part"),
    ],
)
def test_a_verdict(parts: dict[str, tuple[float, float]], verdict: str) -> None:
    checks = [Check("a", "b", "mean_e2el_ms", 0.5, part) for part in parts]  # type: ignore[arg-type]
    measured = [
        Measured(check, {"request_rate": load}, 1.0, 1.0, ratio(value, 0.01))
        for check, values in zip(checks, parts.values(), strict=True)
        for load, value in enumerate(values)
    ]
    assert Judged(Claim("c", (), "", "", "", "", {}, checks), measured).verdict == verdict


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_a_claim_has_a_recipe_with_its_arms_and_a_reason(claim: Claim) -> None:
    path = RECIPES / f"{claim.name}.yaml"
    assert path.read_text() == recipe(claim), "simsched reproduce claims writes the recipes anew"
    plan = make_plan(make_study(read_study(path), origin=str(path)))
    policies = {options["policy"] for options in plan.options.values()}
    arms = {arm for check in claim.checks for arm in (check.arm, check.baseline)} - {BOUND, VTC_BOUND}
    assert {parse_arm(arm, "claim")[0] for arm in arms} <= policies
    assert any(check.part != "beside" for check in claim.checks)
    assert claim.why
    for policy in claim.policies:
        assert policy_class(policy).name == policy


def test_the_page_has_every_claim_with_the_verdict_of_its_numbers() -> None:
    page = (RECIPES.parents[1] / "docs" / "claims.md").read_text()
    entries = json.loads((RECIPES / "claims.json").read_text())
    assert [entry["claim"] for entry in entries["claims"]] == [claim.name for claim in CLAIMS]
    for entry in entries["claims"]:
        assert f"[{entry['claim']}](#{entry['claim']}): {entry['says']} | **{entry['verdict']}** |" in page
        for check in entry["checks"]:
            if check["ratio"] is not None:
                assert f"| {check['ratio']:.2f} |" in page
    assert re.search(r"Written by `simsched reproduce claims` on \d+ \w+ \d{4}", page)


def test_the_command_writes_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one small claim and three policies."""
    small = Claim(
        "small", ("sjf",), "SJF is faster.", "here", "there", "here",
        {"policy": ["fcfs", "sjf"], "workload": "sharegpt", "request_rate": [40],
         "num_requests": 200, "num_runs": 4, "max_num_seqs": 16},
        (Check("sjf", "fcfs", "mean_latency_per_token_ms", 0.9),), "Short ones first.",
    )  # fmt: skip
    monkeypatch.setattr(study, "CLAIMS", (small,))
    monkeypatch.setattr(survey, "registered", lambda: ["fcfs", "sjf", "trail"])
    monkeypatch.setattr(survey, "LONG", 60)
    monkeypatch.setattr(survey, "SHORT", 20)
    monkeypatch.setattr(survey, "TRIED", (0.5, 1.5))
    out = tmp_path / "out"
    result = CliRunner().invoke(cli, ["reproduce", "claims", "-o", str(out), "--jobs", "1"])
    assert result.exit_code == 0, result.output
    assert yaml.safe_load((out / "small.yaml").read_text())["policy"] == ["fcfs", "sjf"]
    entries = json.loads((out / "claims.json").read_text())
    assert entries["claims"][0]["verdict"] == "holds"
    assert [entry["policy"] for entry in entries["survey"]["policies"]] == [
        "fcfs",
        "sjf",
        "trail",
        "trail(c=0)",
    ]
    page = (out / "claims.md").read_text()
    assert "| [small](#small): SJF is faster. | **holds** |" in page
    assert "Short ones first." in page
    assert "`trail(c=0)`" in page
    for name in ("claims.png", "survey.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert "small: holds" in (out / "report.html").read_text()


def test_claims_go_alone(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["reproduce", "claims", "table1", "-o", str(tmp_path / "out")])
    assert str(result.exception) == "reproduce claims table1: expected claims alone"
    assert not (tmp_path / "out").exists()
    assert "claims" in CliRunner().invoke(cli, ["reproduce", "--list"]).output
