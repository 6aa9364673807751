"""What the chain needs an engine for: calibrations and replays, saved one by one, resumed where it stopped.

Calibrations and replays take turns, and each turn plays all policies and loads, every other turn from last to
first: a machine that becomes slower or faster does so for all of them alike. Nothing is lost when it is cut
off: what is done has been saved, and another session goes on from there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simsched.errors import InputError
from simsched.sweep.plan import Plan, make_plan
from simsched.sweep.study import make_study
from simsched.workload.trace_io import write_trace
from validate.json_file import write_json
from validate.probe import HALVES
from validate.probe_player import Probed, probe_job, write_half
from validate.profiles import fit_profile
from validate.replay import Engines, ReplayRun
from validate.replayed import FACTS, read_facts
from validate.run_clock import ClockName
from validate.setups import Setup

SETTINGS = "session.json"
PROBE_LIMIT = 45.0
"""Seconds for a half of the probe workload."""
LEAST_CELL = 15.0
"""Seconds that must be left for a cell to be begun, until one has shown how long it takes."""


@dataclass(frozen=True)
class Settings:
    """What a session is of; another one may go on with its directory if these are the same."""

    device: str
    clock: ClockName
    seed: int
    repeats: int
    policies: tuple[str, ...]
    loads: tuple[str, ...]
    vllm_version: str
    capture_size: int | None = None

    def check(self, out: Path) -> None:
        """Note them in a new directory; in an old one they must be these.

        Raises:
            InputError: they are others.
        """
        path = out / SETTINGS
        ours = json.loads(json.dumps(vars(self)))
        if not path.is_file():
            write_json(path, ours)
            return
        theirs = json.loads(path.read_text(encoding="utf-8"))
        for name, value in ours.items():
            if theirs.get(name) != value:
                raise InputError(f"{out}: --resume: {name} was {theirs.get(name)!r}, is {value!r}")


def read_settings(out: Path) -> Settings:
    """Those of the session in this directory.

    Raises:
        InputError: damaged.
    """
    path = out / SETTINGS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        lists = {name: tuple(found[name]) for name in ("policies", "loads")}
        return Settings(**{**found, **lists})
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path}: damaged, expected the settings of a session") from None


@dataclass
class Session:
    """The measured part of a chain, in the directory `out`."""

    settings: Settings
    setup: Setup
    out: Path
    engines: Engines
    say: Callable[[str], None]
    deadline: float = float("inf")
    """On `time.monotonic`: nothing is begun that would not be done by then."""
    calibrations: list[Path] = field(default_factory=list)
    replays: list[Path] = field(default_factory=list)
    """Finished ones."""
    _longest_cell: float = LEAST_CELL

    def run(self) -> bool:
        """Measure what has not been measured yet; False: cut off by the deadline.

        Raises:
            InputError: whatever an engine raises.
        """
        setup, settings = self.setup, self.settings
        self.out.mkdir(parents=True, exist_ok=True)
        settings.check(self.out)
        traces = self._write_traces()
        engine: dict[str, Any] = {**setup.engine, "vllm_version": settings.vllm_version}
        complete = True
        common: dict[str, Any] = {}
        for turn in range(1, settings.repeats + 1):
            self.say(f"turn {turn} of {settings.repeats}")
            complete = self._calibrate(turn, engine, traces) and complete
            if not self.calibrations:
                return False
            blocks = next(iter(read_facts(self.calibrations[0])["cells"].values()))["num_gpu_blocks"]
            engine["num_gpu_blocks"] = blocks
            common = {
                **engine,
                "policy": ",".join(settings.policies),
                "trace": ",".join(str(traces[name]) for name in setup.validation),
                "duration": setup.duration,
                "seed": settings.seed,
                "log_steps": True,
            }
            plan = make_plan(make_study({**common, "request_rate": ",".join(self._rates(common))}))
            complete = self._replay(turn, plan) and complete
        if setup.calibration is None:
            complete = self._probe(HALVES - 1, engine) and complete
        return complete

    def _out_of_time(self, needed: float) -> bool:
        return time.monotonic() + needed > self.deadline

    def _probed(self, half: int) -> bool:
        folder = self.out / "calibration"
        return (folder / FACTS).is_file() and f"half-{half + 1}" in read_facts(folder)["cells"]

    def _calibrate(self, turn: int, engine: dict[str, Any], traces: dict[str, Path]) -> bool:
        """FCFS replays in every turn, or half of the probe workload before the first."""
        if self.setup.calibration is None:
            return self._probe(0, engine) if turn == 1 else True
        study = {**engine, "policy": "fcfs", "trace": str(traces["calibration"]), "log_steps": True,
                 "seed": self.settings.seed}  # fmt: skip
        study["request_rate"] = ",".join(str(rate) for rate in self.setup.calibration_rates)
        folder = self.out / f"calibration-{turn}"
        if not self._play(make_plan(make_study(study)), folder, "calibrated on ", list):
            return False
        self.calibrations.append(folder)
        return True

    def _probe(self, half: int, engine: dict[str, Any]) -> bool:
        folder = self.out / "calibration"
        if not self._probed(half):
            if self._out_of_time(PROBE_LIMIT):
                self.say("no time for the probe workload")
                return False
            served = self.engines.serve(probe_job(engine))
            assert isinstance(served, Probed)
            facts = self._facts()
            seed = self.settings.seed
            write_half(served, half, folder, facts, seed=seed, limit=PROBE_LIMIT, say=self.say)
        if folder not in self.calibrations:
            self.calibrations.append(folder)
        return True

    def _rates(self, common: dict[str, Any]) -> list[str]:
        """The loads in requests/s, by a fit to the first calibration: the same in all turns and sessions."""
        path = self.out / "rates.json"
        if not path.is_file():
            profile = self.out / "first-profile.json"
            fit_profile(self.setup, self.settings.device, self.calibrations[:1], profile, self.settings.seed)
            study = {**common, "cost_profile": str(profile), "request_rate": ",".join(self.settings.loads)}
            cells = make_plan(make_study(study)).cells.values()
            rates = dict.fromkeys(f"{cell.load.request_rate:.1f}" for cell in cells)
            write_json(path, {"loads": list(self.settings.loads), "rates": list(rates)})
        rates_found: list[str] = json.loads(path.read_text(encoding="utf-8"))["rates"]
        return rates_found

    def _replay(self, turn: int, plan: Plan) -> bool:
        folder = self.out / f"real-{turn}"
        if not self._play(plan, folder, "", lambda names: interleaved(plan, names, turn)):
            return False
        self.replays.append(folder)
        return True

    def _play(self, plan: Plan, folder: Path, verb: str, order: Callable[[Sequence[str]], list[str]]) -> bool:
        """Play the cells that are not done yet; False: there was no time for all of them."""
        if (folder / "summary.json").is_file():
            return True  # measured, maybe on another machine
        # the second half of the probe workload has its time
        kept = PROBE_LIMIT if self.setup.calibration is None and not self._probed(HALVES - 1) else 0.0
        if self._out_of_time(self._longest_cell + kept):
            self.say(f"  no time for {verb}{folder.name}")
            return False
        run = ReplayRun(plan, folder, self.engines, self._facts(), resume=folder.exists())
        for name in order(run.pending()):
            if self._out_of_time(self._longest_cell + kept):
                self.say(f"  no time for {verb}{name}")
                return False
            begin = time.monotonic()
            run.play(name)
            if self.deadline < float("inf"):
                self._longest_cell = max(self._longest_cell, time.monotonic() - begin)
            self.say(f"  {verb}{name}")
        run.finish()
        return True

    def _facts(self) -> dict[str, Any]:
        facts = {"device": self.settings.device, "model": self.setup.model, "engine": "offline"}
        return {**facts, "clock": self.settings.clock}

    def _write_traces(self) -> dict[str, Path]:
        setup, seed = self.setup, self.settings.seed
        folder = self.out / "traces"
        folder.mkdir(parents=True, exist_ok=True)
        made = {}
        if setup.calibration is not None:
            made["calibration"] = setup.calibration.trace(
                setup.calibration_requests, seed + 1000, "calibration"
            )
        for number, (name, lengths) in enumerate(setup.validation.items()):
            made[name] = lengths.trace(setup.num_requests, seed + number, name)
        paths = {name: folder / f"{name}.jsonl" for name in made}
        for name, trace in made.items():
            if not paths[name].is_file():
                write_trace(trace, paths[name])
        return paths


def interleaved(plan: Plan, names: Sequence[str], turn: int) -> list[str]:
    """Cells in the order of a turn: load by load, all policies of one; every other turn the other way."""
    place = {name: number for number, name in enumerate(plan.cells)}
    loads = list(dict.fromkeys((cell.load.trace, cell.load.request_rate) for cell in plan.cells.values()))

    def key(name: str) -> tuple[int, int]:
        load = plan.cells[name].load
        return loads.index((load.trace, load.request_rate)), place[name]

    return sorted(names, key=key, reverse=turn % 2 == 0)
