"""Engine-wide settings: `additional_config={"simsched": {"policy": "srtf", "step_log": "steps.jsonl"}}`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from simsched.errors import InputError


class Settings(BaseModel):
    """What the policy scheduler is told at start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str = "fcfs"
    """A policy as on the command line: `mlfq(base_quantum=0.03)`, `./my_policy.py:MyPolicy`."""
    step_log: str | None = None
    """File for one JSON line per step; appended to."""
    cost_profile: str | None = None
    """For policies that ask what a batch costs (`EngineView.batch_time`): a profile's name or file."""
    decodes_first: bool = False
    """Running decodes before running prefills, whatever their priority: a partial prefill of high priority
    then can't take the budget of decodes, and is the first to be preempted for memory."""


def read_settings(given: Any) -> Settings:
    """What stands under the key `simsched` of vLLM's `additional_config`; defaults for the rest.

    Raises:
        InputError: an unknown key or a value of the wrong type.
    """
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "simsched"
        valid = ", ".join(Settings.model_fields)
        raise InputError(
            f"additional_config['simsched'], {key} = {first['input']!r}: {first['msg']}; valid keys: {valid}"
        ) from None


def refuse_unsupported(vllm_config: Any, asynchronous: bool) -> None:
    """Accept an engine on which our schedule is known to be vLLM's.

    Raises:
        InputError: the class doesn't fit the engine's loop, or a feature that has not been tested is on.
    """
    if vllm_config.scheduler_config.async_scheduling and not asynchronous:
        raise InputError(
            "PolicyScheduler is for synchronous scheduling: use simsched.vllm.AsyncPolicyScheduler, "
            "or --no-async-scheduling"
        )
    if asynchronous and not vllm_config.scheduler_config.async_scheduling:
        raise InputError(
            "AsyncPolicyScheduler needs asynchronous scheduling, which is off here: "
            "use simsched.vllm.PolicyScheduler"
        )
    untested = {
        "a KV connector": vllm_config.kv_transfer_config is not None,
        "speculative decoding": vllm_config.speculative_config is not None,
        "pipeline parallelism": vllm_config.parallel_config.pipeline_parallel_size > 1,
        "an encoder-decoder model": vllm_config.model_config.is_encoder_decoder,
    }
    for feature, on in untested.items():
        if on:
            raise InputError(f"the policy scheduler does not support {feature}")
