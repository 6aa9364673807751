"""The whole chain on one machine: calibrate on one workload, predict others, compare with what happened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from simsched.cost_model.profile import Profile, load_profile
from simsched.results import Results
from simsched.sweep.execute import run_study
from simsched.sweep.plan import Plan
from validate import verdicts
from validate.comparison import compare_results
from validate.comparison_text import draw_cdfs
from validate.components import step_error
from validate.json_file import write_json
from validate.machine_speed import simulate_at_speed
from validate.predict import predict
from validate.profiles import fit_profile
from validate.replay import add_decisions
from validate.replayed import FACTS, plan_of, read_facts
from validate.session import Session


def judge(session: Session, say: Callable[[str], None] = lambda line: None) -> dict[str, Any] | None:
    """Fit a profile to a session's calibrations, simulate its finished replays, and compare.

    Needs no engine: everything is read from the session's directory, and written to it.

    Returns:
        The comparison, with `at_machine_speed` (the same for simulations at the speed that the machine had in
        each replay), `clock`, `step_error` (where host and device take turns), `host_speed` and `decisions`
        (per replay and cell), and `verdicts`; None if no replay is finished.
    """
    settings, out = session.settings, session.out
    replays = [Results.open(path) for path in session.replays]
    if not replays:
        return None
    path = out / "profile.json"
    fit_profile(session.setup, settings.device, session.calibrations, path, settings.seed, say)
    profile = load_profile(str(path))
    if profile.host is None:
        plan = plan_of(replays[0].path, cost_profile=str(path))
        simulated = run_study(plan, out / "sim", jobs=1)
        at_speed = _at_speed(plan, replays, profile, out)
        more: dict[str, Any] = {
            "step_error": {each.path.name: step_error(each, profile.cost) for each in replays}
        }
    else:
        simulated = predict(replays[0].path, str(path), out / "sim", overwrite=True).results
        at_speed, speeds = _at_host_speed(replays, path, out)
        more = {"step_error": {}, "host_speed": speeds}
    result = compare_results(replays, simulated)
    result["at_machine_speed"] = compare_results(replays, at_speed)
    result["clock"] = settings.clock
    result |= more
    result["decisions"] = {
        f"{each.path.name}/{cell}": found
        for each in replays
        for cell, found in add_decisions(each.path).items()
    }
    if profile.host is None:
        result["verdicts"] = verdicts.judge(replays, simulated, result)
    else:
        result["verdicts"] = verdicts.judge(replays, at_speed[0], result["at_machine_speed"], result)
    write_json(out / "comparison.json", result)
    _draw(replays[0], simulated, out / "cdfs.png")
    return result


def _at_speed(plan: Plan, replays: Sequence[Results], profile: Profile, out: Path) -> list[Results]:
    return [
        simulate_at_speed(plan, each, profile.cost, out / f"sim-at-speed-{turn}")
        for turn, each in enumerate(replays, 1)
    ]


def _at_host_speed(
    replays: Sequence[Results], profile: Path, out: Path
) -> tuple[list[Results], dict[str, dict[str, float]]]:
    """Each cell at the host speed that its own step log shows, which goes into its `replay.json`, too."""
    found, speeds = [], {}
    for turn, each in enumerate(replays, 1):
        folder = out / f"sim-at-speed-{turn}"
        prediction = predict(each.path, str(profile), folder, host_speed="given", overwrite=True)
        facts = read_facts(each.path)
        for cell, speed in prediction.speeds.items():
            facts["cells"][cell]["host_speed"] = speed
        write_json(each.path / FACTS, facts)
        found.append(prediction.results)
        speeds[each.path.name] = prediction.speeds
    return found, speeds


def _draw(real: Results, simulated: Results, path: Path) -> None:
    from simsched.plotting.figures import save

    save(draw_cdfs(real, simulated), path)
