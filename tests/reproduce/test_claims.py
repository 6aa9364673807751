"""The claims' study: verdicts by hand, recipes that fit, and the whole of it on a small scale."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from click.testing import CliRunner

from simsched.cli import cli
from simsched.compare.statistics import Ratio
from simsched.policies.base import registered
from simsched.policies.spec import policy_class
from simsched.reproduce.claims import study, survey
from simsched.reproduce.claims.claim import BOUND, VTC_BOUND, Check, Claim, Judged, Measured
from simsched.reproduce.claims.study import CLAIMS, recipe
from simsched.reproduce.claims.survey import Place, Survey
from simsched.reproduce.claims.survey_figure import FAMILIES, draw_survey
from simsched.reproduce.claims.survey_trace import BLOCK, DOCUMENT, SYSTEM, TENANTS, survey_trace
from simsched.request_table import TRACE_COLUMNS
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
    monkeypatch.setattr(survey, "RATES", (2.0, 40.0))
    monkeypatch.setattr(survey, "SHARES", (0.5, 1.5))
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
    assert entries["survey"]["request_rate"] == pytest.approx(2.2)
    page = (out / "claims.md").read_text()
    assert "| [small](#small): SJF is faster. | **holds** |" in page
    assert "Short ones first." in page
    assert "`trail(c=0)`" in page
    for name in ("claims.png", "survey.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert "small: holds" in (out / "report.html").read_text()


def test_a_capacity_is_the_last_rate_at_which_no_backlog_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By bisection, as by trying every rate; each policy by itself."""
    rates = [round(0.1 * step, 1) for step in range(1, 24)]
    limits = {"fcfs": 1.15, "sjf": 0.4, "srtf": 0.05, "ljf": 9.0}
    asked: list[float] = []

    class Said(SimpleNamespace):
        def mean(self, load: int, arm: str, metric: str) -> float:
            assert (load, metric) == (0, "growth")
            return 0.5 if self.rate > limits[arm] else 0.0

    def run(_: object, names: object, rate: float, seconds: float, num_runs: int) -> float:
        asked.append(rate)
        return rate

    monkeypatch.setattr(survey._Runs, "_run", run)
    monkeypatch.setattr(survey, "samples_of", lambda rate: Said(rate=rate))
    found = survey._Runs(tmp_path, 1).capacities(list(limits), rates)
    assert found == {"fcfs": 1.1, "sjf": 0.4, "srtf": 0.1, "ljf": 2.3}
    assert len(asked) <= len(limits) * 5


def test_the_survey_has_every_policy_and_its_requests_all_that_policies_read() -> None:
    shown = {each.partition("(")[0] for each in survey.surveyed()}
    assert shown == set(registered())
    families = [policy for _, _, members in FAMILIES.values() for policy in members]
    assert sorted(families) == sorted(registered())
    trace = survey_trace(3000)
    assert len(trace) == 3000
    assert set(TRACE_COLUMNS.values()) - {"score"} <= set(trace.columns())  # scores are emulated
    assert {"slo_ttft", "slo_tpot", "deadline", "hash_ids"} <= set(trace.columns())
    assert trace.tenant is not None
    assert trace.hash_ids is not None
    assert trace.session_id is not None
    for tenant, share in TENANTS.items():
        assert trace.tenant.count(tenant) / 3000 == pytest.approx(share, abs=0.05)
    blocks = (SYSTEM + DOCUMENT) // BLOCK
    begin: dict[str, set[tuple[int, ...]]] = {}
    for session, ids in zip(trace.session_id, trace.hash_ids, strict=True):
        assert session is not None
        begin.setdefault(session, set()).add(ids[:blocks])
    assert all(len(each) == 1 for each in begin.values())  # a session asks about one document
    assert len(set.union(*begin.values())) > 200
    own = [each for ids in trace.hash_ids for each in ids[blocks:]]
    assert len(own) == len(set(own))


def test_names_in_the_figure_do_not_overlap() -> None:
    """All policies at one point, and each at a point of its own: labels one beneath the other."""
    names = survey.surveyed()
    alone = [Place(name, (10.0 + 9 * k, 50.0 * 1.2**k), 1.0, (20.0, 300.0)) for k, name in enumerate(names)]
    figure = draw_survey(Survey(5.0, alone))
    figure.draw_without_rendering()
    apart, together = figure.axes
    for ax, number in ((apart, len(names)), (together, 1)):
        boxes = [each.offsetbox.get_window_extent() for each in ax.artists]
        assert len(boxes) == number
        boxes.sort(key=lambda box: -box.y0)
        assert all(high.y0 >= low.y1 for high, low in pairwise(boxes))
        assert max(box.x1 for box in boxes) <= figure.bbox.x1
        assert min(box.y0 for box in boxes) >= 0


def test_claims_go_alone(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["reproduce", "claims", "table1", "-o", str(tmp_path / "out")])
    assert str(result.exception) == "reproduce claims table1: expected claims alone"
    assert not (tmp_path / "out").exists()
    assert "claims" in CliRunner().invoke(cli, ["reproduce", "--list"]).output
