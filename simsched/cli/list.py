"""`simsched list`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from simsched.cli._say import say
from simsched.cli._table import show_entries

Rows = tuple[Sequence[str], Sequence[Sequence[str | None]]]


def _policies() -> Rows:
    import dataclasses
    import sys
    from importlib.metadata import entry_points

    from simsched.policies.base import registered
    from simsched.policies.spec import GROUP, make_policy

    rows: list[list[str | None]] = []
    for name in sorted({*registered(), *(entry.name for entry in entry_points(group=GROUP))}):
        policy = make_policy(name)
        fields = dataclasses.fields(policy) if dataclasses.is_dataclass(policy) else ()
        parameters = ",".join(f"{f.name}={getattr(policy, f.name)}" for f in fields if f.init)
        about = sys.modules[type(policy).__module__].__doc__ or ""
        rows.append([name, parameters or None, policy.reads, about.partition("\n")[0]])
    return ("policy", "parameters", "reads", ""), rows


def _routers() -> Rows:
    import dataclasses
    import sys
    from importlib.metadata import entry_points

    import simsched.routers  # noqa: F401 - they register
    from simsched.routers.base import registered
    from simsched.routers.spec import GROUP, make_router

    rows: list[list[str | None]] = []
    known = registered()
    for name in sorted({*known, *(entry.name for entry in entry_points(group=GROUP))}):
        router = make_router(name)
        fields = dataclasses.fields(router) if dataclasses.is_dataclass(router) else ()
        parameters = ",".join(f"{f.name}={getattr(router, f.name)}" for f in fields if f.init)
        # a module of one router says what it does; of several each says it itself
        alone = sum(each.__module__ == type(router).__module__ for each in known.values()) < 2
        about = (sys.modules[type(router).__module__].__doc__ if alone else type(router).__doc__) or ""
        reads = "true lengths" if router.reads_future else router.reads
        sentence = " ".join(about.split("\n\n")[0].split()).partition(". ")[0].rstrip(".")
        rows.append([name, parameters or None, reads, sentence])
    return ("router", "parameters", "reads", ""), rows


def _workloads() -> Rows:
    from simsched.workload.named import WORKLOADS, named_workload

    rows = []
    for name, (_, parameters) in WORKLOADS.items():
        workload = named_workload(name)
        prompt, output = workload.mean_tokens
        means = f"{prompt:,.0f} / {output:,.0f}"
        rows.append((name, ",".join(parameters) or "-", means, workload.source))
    return ("workload", "parameters", "mean tokens in / out", "source"), rows


def _profiles() -> Rows:
    from simsched.cost_model.profile import VALIDATED, load_profile, profile_names
    from simsched.engine.config import DEFAULT_PRESET, EngineConfig, presets

    rows: list[tuple[str, str, str, str]] = []
    for name in profile_names():
        profile = load_profile(name)
        # a profile of another engine than the default one is named after it
        preset = next((each for each in presets() if name.endswith(f"/{each}")), DEFAULT_PRESET)
        config = EngineConfig(preset=preset).resolve(profile)
        batch = f"{config.max_num_batched_tokens:,} / {config.max_num_seqs:,}"
        against = VALIDATED.get(name)
        status = f"validated: {against}" if against else "unvalidated"
        rows.append((name, batch, status, profile.describe().removeprefix(f"{name}: ")))
    return ("profile", "tokens / seqs", "", ""), rows


def _presets() -> Rows:
    """A line for each preset, and one beneath for each of its options."""
    from simsched.engine.config import EngineConfig, presets

    rows: list[tuple[str, str]] = []
    for name, preset in presets().items():
        foreign = {"preset", *preset.unsupported}
        options = EngineConfig(preset=name).model_dump(exclude=foreign, exclude_none=True)
        rows += [(name, preset.about), *(("", f"{key}={value}") for key, value in options.items())]
    return ("preset", "defaults"), rows


def _predictors() -> Rows:
    from simsched.predictors.base import registered
    from simsched.predictors.trained import Trained

    rows = [(name, predictor.about) for name, predictor in registered().items()]
    return ("predictor", ""), [*rows, ("MODEL", Trained.about)]


KINDS: dict[str, Callable[[], Rows]] = {
    "policies": _policies,
    "routers": _routers,
    "workloads": _workloads,
    "profiles": _profiles,
    "presets": _presets,
    "predictors": _predictors,
}


@click.command("list")
@click.argument("kind", type=click.Choice(list(KINDS)))
def list_command(kind: str) -> None:
    """List what can be given to `simsched run`, with its parameters.

    \b
    simsched list policies
    simsched list profiles
    """
    headers, rows = KINDS[kind]()
    show_entries(headers, rows)
    if kind == "policies":
        say("each also takes starvation_threshold and starvation_period; your own: ./FILE.py:CLASS", err=True)
