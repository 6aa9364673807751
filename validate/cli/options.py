"""Options that several commands share, under vLLM's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from simsched.engine.config import FOREIGN, EngineConfig

Command = TypeVar("Command", bound=Callable[..., Any])
ENGINE_OPTIONS = [name for name in EngineConfig.model_fields if name not in ("preset", *FOREIGN["vllm-v1"])]


def engine_options(command: Command) -> Command:
    """The engine options of `simsched run`; each is None where it is not given."""
    for name in reversed(ENGINE_OPTIONS):
        flag = "--" + name.replace("_", "-")
        annotation = EngineConfig.model_fields[name].annotation
        if annotation is bool:
            option = click.option(f"{flag}/--no-{flag[2:]}", name, default=None)
        else:
            option = click.option(flag, name, type=float if annotation is float else int, default=None)
        command = option(command)
    return command


def given_engine_options(values: dict[str, Any]) -> dict[str, Any]:
    """Those of the engine options that were given."""
    return {name: values[name] for name in ENGINE_OPTIONS if values[name] is not None}
