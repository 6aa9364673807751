"""Options that several commands share, under vLLM's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from simsched.engine.config import EngineConfig, find_preset
from simsched.text.options import option_flag, value_type

Command = TypeVar("Command", bound=Callable[..., Any])
_OF_RANKS = ("moe_data_parallel", "dp_sync_interval")
_NOT_OURS = ("preset", "gpu_memory_utilization", *_OF_RANKS, *find_preset("vllm-v1").unsupported)
ENGINE_OPTIONS = [name for name in EngineConfig.model_fields if name not in _NOT_OURS]


def engine_options(command: Command) -> Command:
    """The engine options of `simsched run`; each is None where it is not given."""
    for name in reversed(ENGINE_OPTIONS):
        flag = option_flag(name)
        field = EngineConfig.model_fields[name]
        kind = value_type(field.annotation)
        if kind is bool:
            option = click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=field.description)
        else:
            option = click.option(flag, name, type=kind, default=None, help=field.description)
        command = option(command)
    return command


def given_engine_options(values: dict[str, Any]) -> dict[str, Any]:
    """Those of the engine options that were given."""
    return {name: values[name] for name in ENGINE_OPTIONS if values[name] is not None}
