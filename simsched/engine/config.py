"""Engine options under vLLM's names, each declared once: its bounds, its default and what it means.

The command line, study files and `simulate(...)` derive their options from here; a field's docstring is its
help. Options have the defaults of a preset (`Preset`), which names an engine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simsched.engine.gpu_defaults import resolve_batch
from simsched.errors import InputError
from simsched.text.options import is_no_number, option_flag
from simsched.vllm_versions import DEFAULT, rules_of, supported

if TYPE_CHECKING:
    from simsched.cost_model.profile import Profile
    from simsched.engine.base import Scheduler
    from simsched.engine.recorder import Recorder
    from simsched.policies.base import Policy

DEFAULT_PRESET = "vllm-v1"


class EngineConfig(BaseModel):
    """What is chosen of an engine; what is not given has the preset's default (None: the cost profile's).

    Raises:
        InputError: unknown preset or option, an option that its engine does not have, a value out of bounds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    preset: str = DEFAULT_PRESET
    """Engine and defaults (simsched list presets)."""
    vllm_version: str = Field(
        DEFAULT, description=f"vllm-v1: the version whose rules hold, {supported()}.  [default: {DEFAULT}]"
    )
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    """Share of GPU memory, where KV blocks are derived (vLLM's own default is 0.92)."""
    max_num_seqs: int | None = Field(None, ge=1)
    """Sequences in a batch.  [default: the preset's, or as vLLM chooses for the profile's GPU]"""
    max_num_active_seqs: int | None = Field(None, ge=1)
    """Running requests beyond which none is admitted.  [default: max_num_seqs]"""
    max_num_batched_tokens: int | None = Field(None, ge=1)
    """Tokens in a step.  [default: the preset's, or as vLLM chooses for the profile's GPU]"""
    max_num_scheduled_tokens: int | None = Field(None, ge=1)
    """Tokens that the scheduler gives out in a step.  [default: max_num_batched_tokens]"""
    enable_chunked_prefill: bool = True
    """Admit a prompt with the part that a step has tokens for; else only as a whole."""
    block_size: int = Field(16, ge=1, le=65_536)
    """Tokens in a KV block."""
    num_gpu_blocks: int | None = Field(None, ge=2, le=10_000_000)
    """KV blocks, the null block of vLLM V1 included.  [default: from the profile]"""
    max_model_len: int | None = Field(None, ge=2)
    """Prompt plus output, in tokens.  [default: from the profile]"""
    enable_prefix_caching: bool = True
    """Reuse the KV blocks of equal prefixes."""
    long_prefill_token_threshold: int = Field(0, ge=0)
    """Longest chunk of a prompt in a step; 0 = off."""
    long_prefill_token_threshold_adaptive: bool = False
    """Let that chunk be max_num_batched_tokens / (running and waiting requests) where this is more."""
    max_num_queued_reqs: int | None = Field(None, ge=0)
    """Waiting and running requests beyond which the server refuses others.  [default: no limit]"""
    max_num_queued_tokens: int | None = Field(None, ge=0)
    """Prompt tokens, of requests without a first token, beyond which it does.  [default: no limit]"""
    scheduler_reserve_full_isl: bool = True
    """Admit only what fits as a whole."""
    watermark: float = Field(0.0, ge=0, lt=1)
    """Share of the KV blocks kept free at admission."""
    async_scheduling: bool | None = None
    """Schedule a step before the last one's tokens are known.  [default: where the profile has host times]"""
    prefill_schedule_interval: int = Field(1, ge=1)
    """Compute prompts in every N-th step only (before vLLM 0.33: with --moe-data-parallel)."""
    moe_data_parallel: bool = False
    """Replicas are ranks of a mixture-of-experts model: they step together, idle ones on dummy batches."""
    dp_sync_interval: int | None = Field(None, ge=1)
    """With --moe-data-parallel: steps between two looks for work on any rank.  [default: 16; to 0.29: 32]"""
    decodes_first: bool = False
    """Keep partial prefills behind the decodes of the running list (not under vLLM's own orders)."""
    random_ties: bool = False
    """vllm-0.4.1-ltr: break the classifier's ties at random, as over HTTP; else by arrival."""
    num_swap_blocks: int | None = Field(None, ge=0)
    """vllm-0.4.1-ltr: CPU blocks for swapping.  [default: never full]"""

    def __init__(self, **options: Any) -> None:
        given = {name: value for name, value in options.items() if value is not None}
        preset = find_preset(given.get("preset", DEFAULT_PRESET))
        for name, value in given.items():
            if name in preset.unsupported and value != preset.unsupported[name]:
                raise InputError(f"{option_flag(name)}: preset {preset.name} has no such option")
            field = EngineConfig.model_fields.get(name)
            if field is not None and is_no_number(value, field.annotation):
                raise InputError(f"{option_flag(name)} {value}: expected a number")
        try:
            super().__init__(**{**preset.unsupported, **preset.defaults, **given})
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else "engine"
            raise InputError(f"{option_flag(name)} {first['input']}: {first['msg']}") from None
        preset.check_config(self)

    def resolve(self, profile: Profile | None = None) -> ResolvedConfig:
        """The engine with its batch, KV blocks and context length, from the profile where they are not given.

        Raises:
            InputError: the profile does not say either, its model's context is shorter, or limits contradict
                each other.
        """
        derived: dict[str, int | None] = {
            "num_gpu_blocks": self.num_gpu_blocks,
            "max_model_len": self.max_model_len,
        }
        if profile is not None:
            if self.num_gpu_blocks is None:
                derived["num_gpu_blocks"] = profile.num_gpu_blocks(
                    self.block_size, self.gpu_memory_utilization
                )
            longest = profile.max_model_len
            if self.max_model_len is None:
                derived["max_model_len"] = longest
            elif longest is not None and self.max_model_len > longest:
                raise InputError(
                    f"--max-model-len {self.max_model_len}: the model of {profile.name} has {longest}"
                )
        for name, value in derived.items():
            if value is None:
                said = f"{profile.origin} does not say; give it" if profile else "expected a number"
                raise InputError(f"{option_flag(name)}: {said}")
        resolved = {**dict(self), **derived}
        if self.async_scheduling is None:
            # as vLLM does on a GPU, where what that hides is known
            resolved["async_scheduling"] = profile is not None and profile.host is not None
        gpu, memory_bytes = (None, None) if profile is None else profile.gpu
        batch = resolve_batch(resolved, gpu, memory_bytes)
        config = ResolvedConfig.model_construct(**{**resolved, **batch})
        config.check_limits()
        return config


class ResolvedConfig(EngineConfig):
    """An engine as it runs: nothing is left to derive."""

    max_num_seqs: int
    max_num_batched_tokens: int
    num_gpu_blocks: int
    max_model_len: int
    async_scheduling: bool

    @property
    def max_running(self) -> int:
        """Requests that may run at once."""
        return self.max_num_active_seqs or self.max_num_seqs

    @property
    def token_budget(self) -> int:
        """Tokens that a step gives out (none is for drafts)."""
        return self.max_num_scheduled_tokens or self.max_num_batched_tokens

    @property
    def lone_chunk(self) -> int:
        """The most tokens of its prompt that a request alone gets in a step."""
        threshold = self.long_prefill_token_threshold
        if threshold and not rules_of(self.vllm_version).lone_prefill_is_not_cut:
            return min(threshold, self.token_budget)
        return self.token_budget

    def check_limits(self) -> None:
        """Refuse limits that contradict each other.

        Raises:
            InputError: which two.
        """
        if self.max_running > self.max_num_seqs:
            raise InputError(
                f"--max-num-active-seqs {self.max_num_active_seqs}: expected at most --max-num-seqs "
                f"{self.max_num_seqs}"
            )
        if self.token_budget > self.max_num_batched_tokens:
            raise InputError(
                f"--max-num-scheduled-tokens {self.max_num_scheduled_tokens}: expected at most "
                f"--max-num-batched-tokens {self.max_num_batched_tokens}"
            )
        if not self.enable_chunked_prefill and self.max_num_batched_tokens < self.max_model_len:
            raise InputError(
                f"--no-enable-chunked-prefill: --max-num-batched-tokens {self.max_num_batched_tokens}: the "
                f"longest prompts would never be admitted; expected at least --max-model-len "
                f"{self.max_model_len}"
            )


def engine_config(preset: str = DEFAULT_PRESET, **options: Any) -> ResolvedConfig:
    """The preset's engine with these options, KV blocks and context length among them.

    Raises:
        InputError: as `EngineConfig` and `EngineConfig.resolve` do.
    """
    return EngineConfig(preset=preset, **options).resolve()


class Preset(ABC):
    """An engine that can be simulated, under the name that `--preset` gives it."""

    name: ClassVar[str]
    about: ClassVar[str]
    """A line for `simsched list presets`."""
    cost_profile: ClassVar[str]
    """Where none is given."""
    defaults: ClassVar[Mapping[str, Any]] = {}
    """Options whose defaults differ from those of `EngineConfig`."""
    unsupported: ClassVar[Mapping[str, Any]] = {}
    """Options that this engine does not have, with the value that says so."""
    null_blocks: ClassVar[int] = 0
    """KV blocks that never hold anything."""
    keeps_token_budget: ClassVar[bool] = True
    """Does no step compute more than `max_num_batched_tokens`?"""

    @abstractmethod
    def make_scheduler(
        self,
        policy: Policy,
        config: ResolvedConfig,
        recorder: Recorder,
        *,
        leap: bool,
        padded: bool,
        shares_prefixes: bool,
    ) -> Scheduler:
        """The engine's scheduler under this policy.

        Args:
            policy: the order in which they are served.
            config: of this preset.
            recorder: is told what happens to each request.
            leap: may it collapse steps in which nothing changes?
            padded: does the cost model ask how much the sampler pads (`StepFeatures.padding`)?
            shares_prefixes: may prompts of different requests begin alike?
        """

    def check_config(self, config: EngineConfig) -> None:
        """Refuse options that exclude each other, or values that this engine does not have.

        Raises:
            InputError: which, and what would do.
        """

    def check_policy(self, policy: Policy) -> None:
        """Refuse a policy that this engine can't run.

        Raises:
            InputError: which, and what would do.
        """

    def usable_blocks(self, config: ResolvedConfig) -> int:
        """KV blocks that one request may hold at most."""
        return config.num_gpu_blocks - self.null_blocks


_presets: dict[str, Preset] = {}


def register_preset(preset: Preset) -> None:
    """Make an engine available as `--preset NAME`.

    Raises:
        ValueError: another engine has this name.
    """
    if preset.name in _presets and type(_presets[preset.name]) is not type(preset):
        raise ValueError(f"there is a preset {preset.name} already")
    _presets[preset.name] = preset


def presets() -> dict[str, Preset]:
    """The registered presets by name."""
    return dict(_presets)


def find_preset(name: str) -> Preset:
    """The preset of this name.

    Raises:
        InputError: there is none.
    """
    if name not in _presets:
        raise InputError(f"--preset {name}: unknown; expected one of {', '.join(_presets)}")
    return _presets[name]
