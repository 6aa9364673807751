"""Replicas that differ: `4*a100-80gb/llama-3-8b+2*h100-80gb/llama-3-8b(max_num_seqs=512)`."""

from __future__ import annotations

from simsched.engine.config import EngineConfig
from simsched.errors import InputError
from simsched.text.specs import parse_spec, split_specs

SHARED = (
    *("preset", "vllm_version", "max_num_queued_reqs", "max_num_queued_tokens"),
    *("moe_data_parallel", "dp_sync_interval", "prefill_schedule_interval"),
)
"""Options that all replicas have in common."""
MOST = 4096
_EXPECTED = "expected COUNT*PROFILE(option=value,...), with + between groups"


def fleet_of(text: str, config: EngineConfig) -> list[tuple[str, EngineConfig]]:
    """The cost profile and engine of each replica, by its number.

    Args:
        text: groups of equal replicas: how many (1 if not said), their profile, and engine options of their
            own.
        config: the options of all, where a group says nothing else.

    Raises:
        InputError: not of that form, an unknown option or a value out of bounds, too many replicas.
    """
    replicas: list[tuple[str, EngineConfig]] = []
    for group in split_specs(text, at="+"):
        count, star, spec = group.partition("*")
        number = count.strip() if star else "1"
        if not number.isdigit() or int(number) < 1 or not (spec if star else group).strip():
            raise InputError(f"--replicas {text}: {group!r}: {_EXPECTED}")
        profile, own = parse_spec(spec if star else group, "--replicas")
        known = [name for name in EngineConfig.model_fields if name not in SHARED]
        for name in own:
            if name not in known:
                raise InputError(
                    f"--replicas {text}: no option {name} of one replica; expected {', '.join(known)}"
                )
        try:
            mine = EngineConfig(**{**config.model_dump(exclude_unset=True), **own})
        except InputError as error:
            raise InputError(f"--replicas {text}: {group.strip()}: {error}") from None
        replicas += [(profile, mine)] * int(number)
        if len(replicas) > MOST:
            raise InputError(f"--replicas {text}: {len(replicas):,} replicas; expected at most {MOST:,}")
    return replicas


def profiles_of(text: str) -> list[str]:
    """The cost profiles of a fleet that `fleet_of` accepts, in its order."""
    specs = [group.partition("*")[2] or group for group in split_specs(text, at="+")]
    return list(dict.fromkeys(parse_spec(spec, "--replicas")[0] for spec in specs))
