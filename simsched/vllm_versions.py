"""Which of vLLM's rules and options hold from which version: the one place where versions differ.

Everything else in the engine `vllm-v1` is the same in all supported versions; `python -m validate lockstep
--vllm-version V` compares it with that version's own scheduler, step for step.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from importlib import resources
from typing import Any, Final

from simsched.errors import InputError

Version = tuple[int, int]
"""Major and minor: no rule has changed within a minor version."""

TESTED: Final[dict[str, dict[str, Any]]] = json.loads(
    resources.files("simsched").joinpath("vllm_tested.json").read_text(encoding="utf-8")
)
"""Version -> what lock-step found on it; `python -m validate release --record` writes it."""
TRY: Final = "SIMSCHED_TRY_VLLM"
"""An environment variable: a version outside the range that is accepted, to find out what lock-step says."""


def _numbers(version: str) -> Version | None:
    found = re.match(r"(\d+)\.(\d+)(?!\d)", version)
    return (int(found[1]), int(found[2])) if found else None


_range = sorted(numbers for numbers in map(_numbers, TESTED) if numbers is not None)
OLDEST: Final[Version] = _range[0]
NEWEST: Final[Version] = _range[-1]
DEFAULT: Final = max(TESTED, key=lambda version: _numbers(version) or OLDEST)
"""The newest one that is supported."""

OPTIONS_SINCE: Final[dict[str, Version]] = {
    "max_num_queued_reqs": (0, 29),
    "max_num_queued_tokens": (0, 29),
    "max_num_active_seqs": (0, 31),
    "long_prefill_token_threshold_adaptive": (0, 31),
    "dp_sync_interval": (0, 30),
}
"""Engine options that the oldest supported version does not have."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a version does that others do not."""

    lone_prefill_is_not_cut: bool
    """`long_prefill_token_threshold` does not hold for a request that is the only one."""
    walk_survives_self_preemption: bool
    """`priority`: a running request that has preempted itself for want of KV blocks does not end the step for
    those behind it in `running`."""
    large_gpus_get_16384_tokens: bool
    """The default of `max_num_batched_tokens` on GPUs of 160 GiB and more."""
    gb10_is_a_small_gpu: bool
    """GB10 (DGX Spark) has the default batch of GPUs with less memory than it has."""
    balancer_rotates: bool
    """The data-parallel balancer begins its next scan one engine further on."""
    balancer_counts_in_flight: bool
    """It counts the requests under way and KV blocks too, and dense engines report to it."""
    cached_prompts_are_not_deferred: bool
    """`prefill_schedule_interval` does not hold back a prompt that is cached but for one token."""
    ranks_agree_in_first_step: bool
    """Ranks of a mixture-of-experts model ask each other for work every `dp_sync_interval` steps and in the
    first of a wave; before, every 32."""
    engine_has_prefill_cadence: bool
    """`prefill_schedule_interval` holds for an engine by itself, not for ranks that step together alone."""


RULES_SINCE: Final[dict[str, Version]] = {
    "lone_prefill_is_not_cut": (0, 31),
    "walk_survives_self_preemption": (0, 33),
    "large_gpus_get_16384_tokens": (0, 28),
    "gb10_is_a_small_gpu": (0, 33),
    "balancer_rotates": (0, 25),
    "balancer_counts_in_flight": (0, 27),
    "cached_prompts_are_not_deferred": (0, 25),
    "ranks_agree_in_first_step": (0, 30),
    "engine_has_prefill_cadence": (0, 33),
}


def rules_of(version: str) -> Rules:
    """The rules of a supported version, such as `0.32.0`.

    Raises:
        InputError: as `parse_version`.
    """
    parsed = parse_version(version)
    return Rules(**{rule.name: parsed >= RULES_SINCE[rule.name] for rule in fields(Rules)})


def parse_version(version: str) -> Version:
    """Major and minor of a supported version.

    Raises:
        InputError: not a version, or outside the range that is tested.
    """
    parsed = _numbers(version)
    if parsed is None or not (OLDEST <= parsed <= NEWEST or version == os.environ.get(TRY)):
        raise InputError(f"vLLM {version}: not supported; tested are {supported()}")
    return parsed


def check_options(version: str, names: Iterable[str]) -> None:
    """Has this version these engine options?

    Raises:
        InputError: it lacks one, or as `parse_version`.
    """
    parsed = parse_version(version)
    for name in names:
        since = OPTIONS_SINCE.get(name, OLDEST)
        if parsed < since:
            option = name.replace("_", "-")
            raise InputError(
                f"--{option}: vLLM {version} does not have it, {since[0]}.{since[1]} and later do"
            )


def supported() -> str:
    """The range of versions, for people."""
    return f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
