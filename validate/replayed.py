"""What a replay's directory says of the study that was replayed: enough to simulate or check it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from simsched.errors import InputError
from simsched.results import Results
from simsched.results.layout import Options, read_manifest
from simsched.sweep.plan import Plan, make_plan
from simsched.sweep.study import make_study

FACTS = "replay.json"
"""In the results directory: engine, machine, and what is known of each cell."""


def read_facts(replay: Path) -> dict[str, Any]:
    """The content of its `replay.json`.

    Raises:
        InputError: missing or damaged.
    """
    path = replay / FACTS
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"{path}: missing or damaged; expected the directory of a replay") from None
    if not isinstance(facts, dict) or not isinstance(facts.get("cells"), dict):
        raise InputError(f"{path}: damaged, expected an object with cells")
    return facts


def open_replay(path: Path) -> Results:
    """The results of a replay or simulation, of which only manifest and requests must be there: replays of
    older versions lack metrics, and some have been cut to what matters.

    Raises:
        InputError: not a results directory, or no requests.
    """
    manifest = read_manifest(path)
    if manifest is None:
        raise InputError(f"{path}: not a simsched results directory (no manifest.json)")
    if not (path / "requests.parquet").is_file():
        raise InputError(f"{path}: no requests.parquet; expected a finished replay or simulation")
    return _Replayed(path, manifest)


@dataclass(frozen=True)
class _Replayed(Results):
    """Results whose summary may be missing."""

    @cached_property
    def _summary(self) -> dict[str, Any]:
        if (self.path / "summary.json").is_file():
            return dict(super()._summary)
        return {"cells": [], "over_runs": [], "beyond_fit": {}, "failed": {}}


def plan_of(replay: Path, traces: Sequence[Path] = (), **options: Any) -> Plan:
    """The plan of a replay, from its manifest.

    Args:
        replay: the replay's directory.
        traces: where its traces lie now, if neither there nor beside the directory; known by their content.
        options: of the study, changed (a cost profile, say).

    Raises:
        InputError: no manifest, or a trace that is missing or another one.
    """
    manifest = read_manifest(replay)
    if manifest is None:
        raise InputError(f"{replay}: not a replay's directory (no manifest.json)")
    study = {name: value for name, value in manifest["study"].items() if value not in (None, [], ())}
    study.setdefault("vllm_version", read_facts(replay)["vllm_version"])
    hashes: dict[str, str] = manifest.get("sha256", {})
    places = [*traces, *_beside(replay, study.get("trace", ()))]
    known = {_sha256(path): str(path) for path in reversed(places)}
    for path in traces:
        if _sha256(path) not in hashes.values():
            raise InputError(f"--trace {path}: not a trace that {replay} has replayed")
    called: dict[Any, str] = {}
    if "trace" in study:
        before = study["trace"]
        study["trace"] = [known.get(hashes.get(trace, ""), trace) for trace in before]
        for old, new in zip(before, study["trace"], strict=True):  # a moved trace may have another name
            called |= {new: old, Path(new).name.split(".")[0]: Path(old).name.split(".")[0]}
    own: dict[str, Options] = manifest["cells"]
    # a directory may have been cut down to some cells; and a share of the capacity is the rate that it was
    for name, swept in (("policy", "policy"), ("request_rate", "request_rate")):
        values = list(dict.fromkeys(str(cell[swept]) for cell in own.values() if cell[swept] is not None))
        if values:
            study[name] = values
    plan = make_plan(make_study({**study, **options}))
    changed = {name for name in plan.options[next(iter(plan.options))] if name in options}
    for made in plan.options.values():
        made["workload"] = called.get(made["workload"], made["workload"])
    same = {name: _same_cell(name, cell, plan, changed) for name, cell in own.items()}
    plan.cells = {name: plan.cells[each] for name, each in same.items()}
    plan.num_requests = {name: plan.num_requests[each] for name, each in same.items()}
    plan.capacity = {name: plan.capacity[each] for name, each in same.items() if each in plan.capacity}
    plan.options = {name: plan.options[each] for name, each in same.items()}
    return plan


def _same_cell(name: str, own: Options, plan: Plan, changed: set[str]) -> str:
    """The cell of a plan that a replay's directory has under this name: the one with its options."""
    same = [
        each
        for each, made in plan.options.items()
        if all(made[key] == own[key] for key in made.keys() & own.keys() - changed)
    ]
    if len(same) != 1:
        raise InputError(f"cell {name}: its manifest does not say which cell of the study it is")
    return same[0]


def _beside(replay: Path, traces: Sequence[str]) -> list[Path]:
    """Where a trace may lie: as the manifest says, or moved with the replay."""
    names = [Path(trace).name for trace in traces]
    folders = [replay.parent / "traces", replay.parent, replay]
    found = [Path(trace) for trace in traces] + [folder / name for folder in folders for name in names]
    return [path for path in found if path.is_file()]


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"--trace {path}: cannot read it: {error.strerror}") from None
