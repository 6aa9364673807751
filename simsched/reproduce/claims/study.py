"""Run the claims' studies and write what they found: recipes, numbers, figures, a page and a text."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from simsched.errors import InputError
from simsched.files import write_file
from simsched.reproduce.claims.admission import ADMISSION
from simsched.reproduce.claims.cache import CACHE
from simsched.reproduce.claims.catalogue import ORDERS
from simsched.reproduce.claims.claim import Claim, Judged, Measured, judge
from simsched.reproduce.claims.measures import MEASURES
from simsched.reproduce.claims.owners import OWNERS
from simsched.reproduce.claims.ratio_figure import draw_ratios, load_of
from simsched.reproduce.claims.survey import Survey, run_survey
from simsched.reproduce.claims.survey_figure import draw_survey
from simsched.reproduce.claims.traces import TRACES
from simsched.sweep.execute import run_study
from simsched.sweep.plan import make_plan
from simsched.sweep.study import make_study
from simsched.text.labels import metric_label
from simsched.workload.trace_io import write_trace

Told = Callable[[str], None]
CLAIMS: tuple[Claim, ...] = (*ORDERS, *CACHE, *OWNERS, *ADMISSION)
"""In the order of `docs/claims.md`."""


def run_claims(claims: Sequence[Claim], folder: Path, jobs: int | None, told: Told) -> list[Judged]:
    """Run each claim's study into a results directory of its name, and judge it.

    Raises:
        InputError: the folder can't be written.
    """
    judged = []
    for claim in claims:
        options = dict(claim.study)
        if claim.trace is not None:
            path = folder.parent / f"{claim.trace}.jsonl"
            write_trace(TRACES[claim.trace](), path)
            options["trace"] = [str(path)]
        study = make_study(options, origin=f"claim {claim.name}")
        results = run_study(make_plan(study), folder / claim.name, jobs=jobs, overwrite=True)
        judged.append(judge(claim, results))
        told(f"{claim.name}: {judged[-1].verdict}")
    return judged


def reproduce_claims(folder: Path, jobs: int | None, told: Told) -> list[Judged]:
    """All claims and the survey: writes `claims.json`, `claims.md`, `claims.png`, `survey.png`,
    `report.html`, and each study's recipe and results.

    Raises:
        InputError: the folder can't be written.
    """
    from simsched.plotting.figures import save
    from simsched.report import Figure, Section, Table, write_report

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"-o {folder}: cannot make the folder: {error.strerror}") from None
    for claim in CLAIMS:
        write_file(folder / f"{claim.name}.yaml", recipe(claim).encode())
    judged = run_claims(CLAIMS, folder / "results", jobs, told)
    survey = run_survey(folder / "results", jobs, told)
    entries = {"claims": [each.to_json() for each in judged], "survey": survey.to_json()}
    write_file(folder / "claims.json", (json.dumps(entries, indent=1) + "\n").encode())
    write_file(folder / "claims.md", as_text(judged, survey).encode())
    figures = {"claims": draw_ratios(judged), "survey": draw_survey(survey)}
    for name, figure in figures.items():
        save(figure, folder / f"{name}.png")
    sections = [
        Section(
            f"{each.claim.name}: {each.verdict}",
            [each.claim.says, f"There: {each.claim.theirs}. Here: {each.claim.ours}.", each.claim.why],
            [Table(HEADERS, [_row(one) for one in each.measured])],
        )
        for each in judged
    ]
    first = Section(
        "All claims, and the survey of policies",
        [],
        [Table(("claim", "verdict"), [(each.claim.says, each.verdict) for each in judged])],
        figures=[Figure.from_matplotlib(figure, name) for name, figure in figures.items()],
    )
    summary = [f"{each.claim.name}: {each.verdict}" for each in judged]
    write_report(folder / "report.html", "Claims of scheduling papers, checked", [first, *sections],
                 summary=summary, configuration={"claims": [each.claim.name for each in judged]})  # fmt: skip
    return judged


def recipe(claim: Claim) -> str:
    """The claim's study as a file for `simsched run`; its own trace, if it has one, is taken from where the
    project keeps it."""
    import yaml

    entries: dict[str, Any] = {"title": claim.says, **claim.study}
    if claim.trace is not None:
        entries["trace"] = [f"plots/claims/{claim.trace}.jsonl"]
    return yaml.safe_dump(entries, sort_keys=False, width=110, allow_unicode=True)


_CLAIMED = {
    "everywhere": "{:.2f}",
    "somewhere": "{:.2f} somewhere",
    "price": "at most {:.2f}",
    "beside": "beside it",
}
HEADERS = ("arm", "against", "load", "metric", "claimed", "found", "95 % interval", "so")


def _row(one: Measured) -> tuple[str, ...]:
    check, ratio = one.check, one.ratio
    interval = "-" if ratio is None or ratio.low is None else f"{ratio.low:.2f} to {ratio.high:.2f}"
    claimed = _CLAIMED[check.part].format(check.claimed)
    found = "-" if ratio is None else f"{ratio.ratio:.2f}"
    metric = MEASURES.get(check.metric) or metric_label(check.metric, unit=False)
    return check.arm, check.baseline, load_of(one) or "one", metric, claimed, found, interval, one.found


INTRODUCTION = (
    "The headline claims of scheduling papers and proposals, each in the setting that comes closest to its "
    "own. A ratio is of the arm to what it stands against, paired over runs of the same requests, with its "
    "95 % interval. A claim holds if all that it says comes out as large as it says (the interval reaches "
    "it), holds in part if some of it does or goes that way, and does not hold here if none of it goes that "
    "way. Lines marked *beside it* are no part of the claim. The engine is vLLM V1 on the A100-80GB profile "
    "of Llama-3-8B; rates are shares of FCFS's estimated capacity in the recipes. `simsched run NAME.yaml` "
    "repeats one; all of it takes about a quarter of an hour on one core."
)


def as_text(judged: Sequence[Judged], survey: Survey) -> str:
    """The results as Markdown."""
    lines = [
        "# Claims",
        "",
        INTRODUCTION,
        "",
        f"Written by `simsched reproduce claims` on {date.today():%-d %B %Y}.",
        "",
        "![Each ratio with its interval and what was claimed](claims.png)",
        "",
        "| claim | verdict |",
        "|---|---|",
        *(
            f"| [{each.claim.name}](#{each.claim.name}): {each.claim.says} | **{each.verdict}** |"
            for each in judged
        ),
        "",
    ]
    for each in judged:
        claim = each.claim
        lines += [
            f"## {claim.name}",
            "",
            f"{claim.says} ({claim.source})",
            "",
            f"There: {claim.theirs}. Here: {claim.ours} (`{claim.name}.yaml`).",
            "",
            f"**{each.verdict.capitalize()}.** {claim.why}".rstrip(),
            "",
            "| " + " | ".join(HEADERS) + " |",
            "|---" * len(HEADERS) + "|",
            *("| " + " | ".join(_row(one)) + " |" for one in each.measured),
            "",
        ]
    figure = "![All policies: latency per token against P99 time to first token](survey.png)"
    return "\n".join([*lines, "## survey", "", figure, "", *survey.as_text(), ""])
