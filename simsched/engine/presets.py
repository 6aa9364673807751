"""The engines that come with simsched; importing the package `simsched.engine` registers them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from simsched.engine.config import EngineConfig, Preset, ResolvedConfig, register_preset
from simsched.errors import InputError
from simsched.vllm_versions import OPTIONS_SINCE, check_options, rules_of

if TYPE_CHECKING:
    from simsched.engine.base import Scheduler
    from simsched.engine.recorder import Recorder
    from simsched.policies.base import Policy


class VllmV1Preset(Preset):
    """vLLM V1, with its API server's defaults."""

    name = "vllm-v1"
    about = "vLLM V1"
    cost_profile = "a100-80gb/llama-3-8b"
    unsupported: ClassVar[Mapping[str, Any]] = {"random_ties": False, "num_swap_blocks": 0}
    null_blocks = 1

    def check_config(self, config: EngineConfig) -> None:
        # an option that is on; one that is off every version has, in a way
        values = {name: getattr(config, name) for name in OPTIONS_SINCE}
        on = (name for name, value in values.items() if value is not None and value is not False)
        check_options(config.vllm_version, on)
        if config.moe_data_parallel:
            return
        if config.dp_sync_interval is not None:
            raise InputError(
                f"--dp-sync-interval {config.dp_sync_interval}: only ranks of a mixture-of-experts model ask "
                "each other for work; expected --moe-data-parallel"
            )
        interval, version = config.prefill_schedule_interval, config.vllm_version
        if interval > 1 and not rules_of(version).engine_has_prefill_cadence:
            raise InputError(
                f"--prefill-schedule-interval {interval}: vLLM {version} has it for the ranks of a "
                "mixture-of-experts model alone; expected --moe-data-parallel, or --vllm-version 0.33.0"
            )

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
        # the leaping engines know no decodes while prompts wait
        leap = leap and config.prefill_schedule_interval == 1
        if config.async_scheduling:
            if leap and not config.decodes_first and shares_prefixes and config.enable_prefix_caching:
                from simsched.engine.vllm_v1.leaping_async_shared import AsyncSharedVllmV1Leap

                return AsyncSharedVllmV1Leap(policy, config, recorder)
            if leap and not config.decodes_first:
                from simsched.engine.vllm_v1.leaping_async import AsyncVllmV1Leap

                return AsyncVllmV1Leap(policy, config, recorder)
            from simsched.engine.vllm_v1.stepping_async import AsyncVllmV1

            return AsyncVllmV1(policy, config, recorder)
        if not leap or config.decodes_first:
            from simsched.engine.vllm_v1.stepping import VllmV1

            return VllmV1(policy, config, recorder)
        if shares_prefixes and config.enable_prefix_caching:
            from simsched.engine.vllm_v1.leaping_shared import SharedVllmV1Leap

            return SharedVllmV1Leap(policy, config, recorder)
        from simsched.engine.vllm_v1.leaping import VllmV1Leap

        return VllmV1Leap(policy, config, recorder)


class VllmLtrPreset(Preset):
    """The paper's fork of vLLM 0.4.1, with its launch script's options (hao-ai-lab/vllm-ltr @ 13bbf6f)."""

    name = "vllm-0.4.1-ltr"
    about = "the paper's fork of vLLM 0.4.1"
    cost_profile = "a100-40gb/llama-3-8b/vllm-0.4.1-ltr"  # the paper's machine, the fork's own overhead
    defaults: ClassVar[Mapping[str, Any]] = {
        "max_num_seqs": 256,
        "max_num_batched_tokens": 768,
        "watermark": 0.01,
    }
    unsupported: ClassVar[Mapping[str, Any]] = {
        "vllm_version": "0.4.1",
        "max_num_active_seqs": None,
        "max_num_scheduled_tokens": None,
        "enable_chunked_prefill": True,
        "enable_prefix_caching": False,
        "long_prefill_token_threshold": 0,
        "long_prefill_token_threshold_adaptive": False,
        "max_num_queued_reqs": None,
        "max_num_queued_tokens": None,
        "scheduler_reserve_full_isl": True,
        "async_scheduling": False,
        "prefill_schedule_interval": 1,
        "moe_data_parallel": False,
        "dp_sync_interval": None,
        "decodes_first": False,
    }
    keeps_token_budget = False  # what is outstanding of a swapped request runs in one step

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
        from simsched.engine.vllm_ltr import make_fork

        self.check_policy(policy)
        return make_fork(policy, config, recorder, leap=leap, padded=padded)

    def check_policy(self, policy: Policy) -> None:
        """Refuse decisions beyond order, and promotions under the fork's MLFQ: its queues know of none."""
        from simsched.policies.base import HOOKS, hooks_of

        for hook in HOOKS:
            if hook in hooks_of(policy):
                raise InputError(
                    f"policy {policy.name}: {hook} has no effect on preset {self.name}, whose scheduler "
                    "asks for an order alone; expected preset vllm-v1"
                )
        from simsched.policies.mlfq import Mlfq
        from simsched.policies.starvation import StarvationControl

        inner = policy.inner if isinstance(policy, StarvationControl) else policy
        if not isinstance(inner, Mlfq) or inner.builtin != "mlfq":
            return
        if inner is not policy:
            option = "starvation_threshold"
        elif inner.starvation_seconds is not None:
            option = "starvation_seconds"
        else:
            return
        raise InputError(
            f"policy mlfq: {option} has no effect on the queues of preset {self.name}; "
            "expected mlfq without it, or preset vllm-v1"
        )

    def usable_blocks(self, config: ResolvedConfig) -> int:
        # the watermark stays free, and a block for whoever runs on
        return config.num_gpu_blocks - 1 - int(config.watermark * config.num_gpu_blocks)


register_preset(VllmV1Preset())
register_preset(VllmLtrPreset())
