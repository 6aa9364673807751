"""Run studies and write their page and cells."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from simsched.cost_model.profile import load_profile
from simsched.errors import InputError
from simsched.report import Figure, write_report
from simsched.reproduce import online, questions, tables
from simsched.reproduce.outcome import Outcome, PublishedCell, Sources, Study, over_all, verdict
from simsched.reproduce.settings import PROFILES, Metrics, Setting, execute_all, joint_sample

STUDIES: dict[str, tuple[str, Study]] = {
    "table1": ("Table 1: burst of 2,000, five policies, 8B and 70B", tables.table1),
    "table2": ("Table 2: synthetic data generation, both limits", tables.table2),
    "table3": ("Table 3: tau, bucket widths and latency, 70B", tables.table3),
    "figure3": ("Figure 3: mean latency per token against rate, 8B", online.figure3),
    "rep-sharegpt": ("The independent reproduction's per-rate rows", online.rep),
    "starvation": ("Starvation control: max_waiting_time against latency", online.starvation),
    "overhead": ("The predictor's share of the latency", tables.overhead),
    "tau": ("Tau against latency; shuffling the shortest or longest 70 %", questions.tau),
    "ties": ("Why classification loses: buckets or random ties", questions.ties),
    "loads": ("Size of the burst, limit of the batch", questions.loads),
    "conclusions": ("What ranking gains, and on which metric it loses", questions.conclusions),
}


class _Unknown(dict[str, float]):
    """Stands in for metrics while a study is only asked for its settings."""

    def __missing__(self, key: str) -> float:
        return 1.0


def settings_of(study: Study, sources: Sources) -> list[Setting]:
    """The settings that a study looks up."""
    asked: list[Setting] = []

    def look(setting: Setting) -> Metrics:
        asked.append(setting)
        return _Unknown()

    study(sources, look)
    return asked


def choose(names: Sequence[str]) -> list[str]:
    """The studies of these names; all of them if none is named.

    Raises:
        InputError: an unknown name.
    """
    for name in names:
        if name not in STUDIES:
            raise InputError(f"reproduce {name}: unknown; expected {', '.join(STUDIES)}")
    return list(dict.fromkeys(names)) or list(STUDIES)


def run_studies(
    names: Sequence[str],
    *,
    data: Path | None,
    jobs: int,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Outcome]:
    """Run these studies; settings that they share are simulated once."""
    sources = Sources(joint_sample(data))
    settings = [each for name in names for each in settings_of(STUDIES[name][1], sources)]
    results = execute_all(settings, jobs, told)
    return {name: STUDIES[name][1](sources, results.__getitem__) for name in names}


def draw(outcome: Outcome) -> Any | None:
    """The study's figure (matplotlib), or None."""
    if outcome.draw is None:
        return None
    from matplotlib.figure import Figure as Drawn

    from simsched.plotting.style import styled

    with styled():
        figure = Drawn(figsize=(10, 4.2), layout="constrained")
        outcome.draw(figure)
    return figure


def write(
    outcomes: dict[str, Outcome], folder: Path, *, data: Path | None, title: str
) -> list[PublishedCell]:
    """Write `report.html`, `cells.json` and a PNG a study; returns all cells.

    Raises:
        InputError: the folder cannot be written.
    """
    from simsched.files import atomic_file
    from simsched.plotting.figures import save

    cells = [cell for outcome in outcomes.values() for cell in outcome.cells]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"-o {folder}: cannot make the folder: {error.strerror}") from None
    sections = []
    for name, outcome in outcomes.items():
        section = outcome.section()
        figure = draw(outcome)
        if figure is not None:
            save(figure, folder / f"{name}.png")
            section = replace(section, figures=[Figure.from_matplotlib(figure, outcome.alt)])
        sections.append(section)
    with atomic_file(folder / "cells.json") as stream:
        stream.write((json.dumps([cell.to_json() for cell in cells], indent=1) + "\n").encode())
    write_report(
        folder / "report.html",
        title,
        sections,
        summary=summary(outcomes),
        configuration={
            "studies": list(outcomes),
            "preset": "vllm-0.4.1-ltr",
            "cost_profiles": {system: [name, load_profile(name).hash] for system, name in PROFILES.items()},
            "joint_sample": "rep26/sharegpt_r16.csv" if joint_sample(data) else "none: emulated predictors",
        },
    )
    return cells


def summary(outcomes: dict[str, Outcome]) -> list[str]:
    """A line a study: how close it is; and one on all of them."""
    lines = []
    for name, outcome in outcomes.items():
        said = [line for line in verdict(outcome.cells) if not line.startswith("Reversed")]
        lines.append(f"{name}: {' '.join(said) or 'nothing published to set beside it'}")
    if len(outcomes) > 1 and (whole := over_all(outcomes.values())):
        lines.append(whole)
    return lines
