"""Engine options under vLLM's names, and the presets that give their defaults."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simsched.engine.vllm_versions import DEFAULT, parse_version
from simsched.errors import InputError

Preset = Literal["vllm-v1", "vllm-0.4.1-ltr"]


class EngineConfig(BaseModel):
    """Options of a simulated engine. None means: derived from the cost profile (see `resolve`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Preset = "vllm-v1"
    vllm_version: str = DEFAULT
    """Whose rules (`vllm_versions.py`)."""
    max_num_seqs: int = Field(256, ge=1)
    """Sequences in a batch."""
    max_num_batched_tokens: int = Field(2048, ge=1)
    """Tokens in a step."""
    block_size: int = Field(16, ge=1, le=65_536)
    """Tokens in a KV block."""
    num_gpu_blocks: int | None = Field(None, ge=2, le=10_000_000)
    """KV blocks, the null block of vLLM V1 included."""
    max_model_len: int | None = Field(None, ge=2)
    """Prompt plus output, in tokens."""
    enable_prefix_caching: bool = True
    long_prefill_token_threshold: int = Field(0, ge=0)
    """Longest chunk of one request in a step; 0 = off."""
    scheduler_reserve_full_isl: bool = True
    """Admit only what fits as a whole (engine-spec rule 12)."""
    watermark: float = Field(0.0, ge=0, lt=1)
    """Share of the blocks kept free at admission."""
    async_scheduling: bool = False
    """Schedule step k+1 before step k's tokens are known."""
    decodes_first: bool = False
    """Running decodes come before running prefills, whatever their priority (not under vLLM's own orders)."""
    random_ties: bool = False
    """vllm-0.4.1-ltr: break the classifier's ties by random ids, as over HTTP; else by arrival."""
    num_swap_blocks: int | None = Field(None, ge=0)
    """vllm-0.4.1-ltr: CPU blocks for swapping; None = never full."""


PRESETS: dict[str, dict[str, Any]] = {
    # vLLM's API-server defaults on an A100: 256 sequences, 2,048 tokens.
    "vllm-v1": {},
    # The paper's launch script: hao-ai-lab/vllm-ltr @ 13bbf6f.
    "vllm-0.4.1-ltr": {
        "vllm_version": "0.4.1",
        "max_num_seqs": 256,
        "max_num_batched_tokens": 768,
        "enable_prefix_caching": False,
        "watermark": 0.01,
    },
}

# Options that a preset's engine does not have.
FOREIGN: dict[str, tuple[str, ...]] = {
    "vllm-v1": ("random_ties", "num_swap_blocks"),
    "vllm-0.4.1-ltr": (
        "vllm_version",
        "enable_prefix_caching",
        "long_prefill_token_threshold",
        "scheduler_reserve_full_isl",
        "async_scheduling",
        "decodes_first",
    ),
}


def engine_config(preset: str = "vllm-v1", **options: Any) -> EngineConfig:
    """The preset's configuration with these options set (None = not set).

    Raises:
        InputError: unknown preset, an option its engine does not have, a version of vLLM that is not
            supported, or a value out of bounds.
    """
    if preset not in PRESETS:
        raise InputError(f"--preset {preset}: unknown; expected one of {', '.join(PRESETS)}")
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        off = given[name] == 0 and name != "scheduler_reserve_full_isl"
        if name in FOREIGN[preset] and not off:
            raise InputError(f"--{name.replace('_', '-')}: preset {preset} has no such option")
    if "vllm_version" in given:
        parse_version(given["vllm_version"])
    try:
        return EngineConfig(**{"preset": preset, **PRESETS[preset], **given})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "engine"
        raise InputError(f"--{name.replace('_', '-')} {first['input']}: {first['msg']}") from None
