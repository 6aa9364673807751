"""`simsched list`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from simsched.tables import show_table

Rows = tuple[Sequence[str], Sequence[Sequence[str]]]
KINDS = ("policies", "workloads", "profiles", "presets", "predictors")


@click.command("list")
@click.argument("kind", type=click.Choice(KINDS))
def list_command(kind: str) -> None:
    """List what can be given to `simsched run`, with its parameters.

    \b
    simsched list policies
    simsched list profiles
    """
    headers, rows = {
        "policies": _policies,
        "workloads": _workloads,
        "profiles": _profiles,
        "presets": _presets,
        "predictors": _predictors,
    }[kind]()
    show_table(headers, rows)


def _policies() -> Rows:
    import dataclasses
    import inspect

    from simsched.policies.spec import available_policies

    rows = []
    for name, policy in sorted(available_policies().items()):
        fields = dataclasses.fields(policy) if dataclasses.is_dataclass(policy) else ()
        parameters = ",".join(f"{field.name}={field.default}" for field in fields if field.init)
        doc = (inspect.getdoc(policy) or "").partition("\n")[0]
        rows.append((name, parameters or "-", policy.reads or "-", doc))
    return ("policy", "parameters", "reads", ""), rows


def _workloads() -> Rows:
    from simsched.workload.named import WORKLOADS, named_workload

    rows = []
    for name, (_, parameters) in WORKLOADS.items():
        workload = named_workload(name)
        means = f"{workload.prompt.mean:,.0f} / {workload.output.mean:,.0f}"
        rows.append((name, ",".join(parameters) or "-", means, workload.source))
    return ("workload", "parameters", "mean tokens in / out", "source"), rows


def _profiles() -> Rows:
    from simsched.cost_model.profile import load_profile, profile_names

    return ("profile", ""), [
        (name, load_profile(name).describe().removeprefix(f"{name}: ")) for name in profile_names()
    ]


def _presets() -> Rows:
    from simsched.engine.config import FOREIGN, PRESETS, engine_config

    rows = []
    for name in PRESETS:
        options = engine_config(name).model_dump(exclude={"preset"}, exclude_none=True)
        own = (f"{key}={value}" for key, value in options.items() if key not in FOREIGN[name])
        rows.append((name, ", ".join(own)))
    return ("preset", "defaults"), rows


def _predictors() -> Rows:
    from simsched.predictors.spec import PREDICTORS

    return ("predictor", ""), [
        *PREDICTORS.items(),
        ("MODEL", "path of a model from `simsched train`"),
    ]
