"""The whole chain on one machine: calibrate on one trace, predict others, compare with what happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simsched.cost_model.calibrate import Target, from_steps, known_model
from simsched.cost_model.facts import Gpu
from simsched.cost_model.profile import load_profile
from simsched.engine.vllm_versions import DEFAULT
from simsched.files import atomic_file
from simsched.results import Results
from simsched.sweep.execute import run_study
from simsched.sweep.plan import make_plan
from simsched.sweep.study import make_study
from simsched.workload.trace import Trace
from simsched.workload.trace_io import write_trace
from validate.comparison import compare_results
from validate.comparison_text import draw_cdfs
from validate.components import step_error
from validate.json_file import write_json
from validate.machine_speed import simulate_at_speed
from validate.replay import Engines, replay
from validate.replayed import read_facts
from validate.run_clock import CLOCKS, ClockName


@dataclass(frozen=True)
class Lengths:
    """Lognormal prompt and output lengths: medians and largest values, in tokens."""

    prompt: float
    longest_prompt: int
    output: float
    longest_output: int
    sigma: float = 0.8

    def trace(self, num_requests: int, seed: int, name: str) -> Trace:
        """Poisson arrivals at one request a second; replays rescale them."""
        stream = np.random.default_rng(seed)
        prompts = stream.lognormal(np.log(self.prompt), self.sigma, num_requests)
        outputs = stream.lognormal(np.log(self.output), self.sigma, num_requests)
        return Trace(
            arrival_time=np.cumsum(stream.exponential(1.0, num_requests)),
            num_prompt_tokens=np.clip(prompts, 4, self.longest_prompt).astype(int),
            num_output_tokens=np.clip(outputs, 2, self.longest_output).astype(int),
            name=name,
        )


@dataclass(frozen=True)
class Setup:
    """What the chain runs on one kind of device."""

    model: str
    engine: dict[str, int | bool]
    calibration: Lengths
    validation: dict[str, Lengths]
    calibration_rates: tuple[float, ...]
    """Requests/s from idle to full batches, so that every term of the cost shows."""
    loads: tuple[str, ...]
    """Of the capacity by the first calibration: below, at and above saturation."""
    num_requests: int
    """Of each replay, at most."""
    duration: float
    """Seconds of arrivals, at most: a slower machine serves fewer requests."""
    calibration_requests: int
    """Of each calibration rate."""
    longest_output: int
    """Of the validation workloads. The published classes are 820 tokens wide, a tenth of the longest context,
    and would put all of these requests in one: here too there are ten, up to the longest output."""

    @property
    def policies(self) -> tuple[str, ...]:
        """FCFS is what speed-ups are over."""
        return ("fcfs", "mlfq", f"classification(max_length={self.longest_output})", "ranking", "srtf")


SETUPS = {
    "cpu": Setup(
        model="tiny-llama",
        engine={
            "max_num_seqs": 16,
            "max_num_batched_tokens": 256,
            "block_size": 32,
            "num_gpu_blocks": 140,
            "max_model_len": 1024,
        },
        calibration=Lengths(40, 300, 60, 250),
        validation={"chat": Lengths(80, 400, 50, 300)},
        calibration_rates=(8.0, 25.0, 80.0),
        calibration_requests=50,
        # far enough above saturation that the backlog is not the small difference of two large numbers
        loads=("0.6x", "0.9x", "1.5x"),
        num_requests=600,
        duration=7.0,
        longest_output=300,
    ),
    "cuda": Setup(
        model="llama-3-8b",
        engine={"max_num_seqs": 256, "max_num_batched_tokens": 2048, "max_model_len": 8192,
                "async_scheduling": True},
        calibration=Lengths(400, 4000, 200, 1000, 1.0),
        validation={"chat": Lengths(250, 3000, 250, 1500, 1.0)},
        calibration_rates=(1.0, 6.0, 40.0),
        calibration_requests=250,
        loads=("0.6x", "0.9x", "1.2x"),
        num_requests=2000,
        duration=60.0,
        longest_output=1500,
    ),
}  # fmt: skip


def run_chain(
    device: str,
    out: Path,
    engines: Engines,
    *,
    clock: ClockName,
    seed: int = 0,
    repeats: int = 3,
    vllm_version: str = DEFAULT,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Calibrate, replay, simulate and compare; everything is kept in `out`.

    Calibration and replays take turns, so that a machine that becomes slower or faster does so for both; the
    profile is fitted to all calibrations together.

    Args:
        device: a key of `SETUPS`.
        out: a new directory.
        engines: serve all of it.
        clock: theirs.
        seed: of all workloads.
        repeats: times that everything is replayed, which shows the machine's own spread.
        vllm_version: of the engines, whose rules the simulator follows.
        say: is told what is done.

    Returns:
        The comparison, with `at_machine_speed` (the same for simulations at the speed that the machine had in
        each replay), `clock`, `step_error` and `decisions` (per replay and cell).

    Raises:
        InputError: whatever a replay raises.
    """
    setup = SETUPS[device]
    facts = {"device": device, "model": setup.model, "engine": "offline", "clock": clock}
    say(f"all times are on the clock {CLOCKS[clock]}")
    traces = _write_traces(setup, out, seed)
    engine: dict[str, Any] = {**setup.engine, "vllm_version": vllm_version}
    calibrations: list[Path] = []
    replays: list[Results] = []
    rates: list[str] = []
    for turn in range(1, repeats + 1):
        say(f"replay {turn} of {repeats}")
        folder = out / f"calibration-{turn}"
        study = {
            **engine,
            "policy": "fcfs",
            "trace": str(traces["calibration"]),
            "log_steps": True,
            "seed": seed,
        }
        study["request_rate"] = ",".join(str(rate) for rate in setup.calibration_rates)
        replay(
            make_plan(make_study(study)),
            folder,
            engines,
            facts,
            on_cell=lambda cell: say(f"  calibrated on {cell}"),
        )
        calibrations.append(folder)
        common = {
            **engine, "policy": ",".join(setup.policies), "log_steps": True, "duration": setup.duration,
            "trace": ",".join(str(traces[name]) for name in setup.validation), "seed": seed,
        }  # fmt: skip
        if not rates:
            engine["num_gpu_blocks"] = common["num_gpu_blocks"] = _resolved_blocks(folder)
            first = _fit(setup, device, calibrations, out / "first-profile.json", seed, lambda line: None)
            rates = _rates({**common, "cost_profile": str(first), "request_rate": ",".join(setup.loads)})
        plan = make_plan(make_study({**common, "request_rate": ",".join(rates)}))
        replays.append(
            replay(plan, out / f"real-{turn}", engines, facts, on_cell=lambda cell: say(f"  {cell}"))
        )
    profile = _fit(setup, device, calibrations, out / "profile.json", seed, say)
    study = {**common, "request_rate": ",".join(rates), "cost_profile": str(profile)}
    plan = make_plan(make_study(study))
    simulated = run_study(plan, out / "sim", jobs=1)
    cost = load_profile(str(profile)).cost
    at_speed = [
        simulate_at_speed(plan, each, cost, out / f"sim-at-speed-{turn}")
        for turn, each in enumerate(replays, 1)
    ]
    result = compare_results(replays, simulated)
    result["at_machine_speed"] = compare_results(replays, at_speed)
    result["clock"] = clock
    result["step_error"] = {each.path.name: step_error(each, cost) for each in replays}
    result["decisions"] = {
        f"{each.path.name}/{cell}": found["decisions"]
        for each in replays
        for cell, found in read_facts(each.path)["cells"].items()
    }
    write_json(out / "comparison.json", result)
    _draw(replays[0], simulated, out / "cdfs.png")
    return result


def _rates(study: dict[str, Any]) -> list[str]:
    """The loads in requests/s."""
    cells = make_plan(make_study(study)).cells.values()
    return list(dict.fromkeys(f"{cell.load.request_rate:.1f}" for cell in cells))


def _write_traces(setup: Setup, out: Path, seed: int) -> dict[str, Path]:
    folder = out / "traces"
    folder.mkdir(parents=True, exist_ok=True)
    made = {"calibration": setup.calibration.trace(setup.calibration_requests, seed + 1000, "calibration")}
    for number, (name, lengths) in enumerate(setup.validation.items()):
        made[name] = lengths.trace(setup.num_requests, seed + number, name)
    paths = {name: folder / f"{name}.jsonl" for name in made}
    for name, trace in made.items():
        write_trace(trace, paths[name])
    return paths


def _fit(
    setup: Setup, device: str, logs: list[Path], path: Path, seed: int, say: Callable[[str], None]
) -> Path:
    """A profile from the calibrations' step logs: the form that predicts held-out steps better."""
    card = _card() if device == "cuda" else None
    model = known_model(setup.model) if device == "cuda" else None
    target = Target(f"{card.name if card else device}/{setup.model}", card, model)
    command = f"python -m validate all --device {device} --seed {seed}"
    fits = [from_steps(logs, target, form, seed, command) for form in ("linear", "table")]
    best = min(fits, key=lambda each: each.file.fit.mean if each.file.fit else float("inf"))
    for each in fits:
        error = each.file.fit
        if error is not None:
            say(f"{each.cost.form}: held-out error mean {error.mean:.1%}, P95 {error.p95:.1%}")
    for warning in best.file.warnings:
        say(f"warning: {warning}")
    with atomic_file(path) as stream:
        stream.write(best.file.to_text().encode())
    return path


def _card() -> Gpu:
    import torch

    return Gpu(torch.cuda.get_device_name(), int(torch.cuda.get_device_properties(0).total_memory))


def _resolved_blocks(results: Path) -> int:
    cells = read_facts(results)["cells"].values()
    return int(next(iter(cells))["num_gpu_blocks"])


def _draw(real: Results, simulated: Results, path: Path) -> None:
    from simsched.plotting.figures import save

    save(draw_cdfs(real, simulated), path)
