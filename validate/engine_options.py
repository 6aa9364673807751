"""vLLM's engine arguments for a replay, and its start with errors in one line."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from simsched.engine.config import ResolvedConfig
from simsched.errors import InputError
from simsched.vllm_versions import OPTIONS_SINCE
from validate.models import MODELS, write_model
from validate.run_clock import ClockName

CPU_BLOCK = 32
"""vLLM's CPU attention takes blocks of a multiple of so many tokens."""


def model_path(model: str, folder: Path) -> tuple[str, bool]:
    """What vLLM loads, and whether with dummy weights: a configuration of ours, else a name or path."""
    if model in MODELS:
        return str(write_model(model, folder)), True
    return model, False


def engine_arguments(
    config: ResolvedConfig,
    given: dict[str, Any],
    model: str,
    *,
    device: str,
    folder: Path,
    enforce_eager: bool,
    settings: dict[str, Any],
    timed: bool = True,
    capture_size: int | None = None,
) -> dict[str, Any]:
    """Keyword arguments of vLLM's `EngineArgs`.

    Args:
        config: the engine of the cell.
        given: the engine options that the user gave; KV blocks are vLLM's own choice where they are not.
        model: a name of `MODELS` (dummy weights), or whatever vLLM loads.
        device: `cpu` or `cuda`.
        folder: where a model configuration may be written.
        enforce_eager: no CUDA graphs.
        settings: of the policy scheduler.
        timed: launch through our executor, which stamps.
        capture_size: tokens of the largest CUDA graph; None: vLLM's choice.

    Raises:
        InputError: options that this device does not have.
    """
    if device == "cpu":
        if config.async_scheduling:
            raise InputError("--async-scheduling: vLLM's CPU engine schedules synchronously only")
        if config.block_size % CPU_BLOCK:
            raise InputError(
                f"--block-size {config.block_size}: vLLM's CPU engine needs a multiple of {CPU_BLOCK}"
            )
    path, dummy = model_path(model, folder)
    kind = "AsyncPolicyScheduler" if config.async_scheduling else "PolicyScheduler"
    arguments: dict[str, Any] = {
        "model": path,
        "dtype": "bfloat16",
        "seed": 0,
        "enforce_eager": enforce_eager or device == "cpu",
        "block_size": config.block_size,
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.max_num_seqs,
        "max_num_batched_tokens": config.max_num_batched_tokens,
        "long_prefill_token_threshold": config.long_prefill_token_threshold,
        "scheduler_reserve_full_isl": config.scheduler_reserve_full_isl,
        "watermark": config.watermark,
        "enable_prefix_caching": config.enable_prefix_caching,
        "async_scheduling": config.async_scheduling,
        "enable_chunked_prefill": config.enable_chunked_prefill,
        **given_since(config),
        "scheduler_cls": f"simsched.vllm.{kind}",
        "additional_config": {"simsched": {"decodes_first": config.decodes_first, **settings}},
    }
    if capture_size is not None:
        arguments["max_cudagraph_capture_size"] = capture_size
    if timed:
        arguments["distributed_executor_backend"] = "simsched.vllm.TimedExecutor"
    if "num_gpu_blocks" in given:
        arguments["num_gpu_blocks_override"] = given["num_gpu_blocks"]
    if dummy:
        arguments["load_format"] = "dummy"
    return arguments


def given_since(config: ResolvedConfig) -> dict[str, Any]:
    """The options that are off by default and that not every version has, where they are on."""
    names = ("max_num_scheduled_tokens", "prefill_schedule_interval", *OPTIONS_SINCE)
    values = {name: getattr(config, name) for name in names if name != "dp_sync_interval"}  # of many engines
    return {name: value for name, value in values.items() if value is not None and value is not False}


def environment(device: str, clock: ClockName = "wall") -> dict[str, str]:
    """Environment variables of an engine on this device; cores for the CPU as the user has set them.

    On the processor's clock the engine computes in one thread, on whichever core is free.
    """
    variables = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    if device == "cpu":
        variables["VLLM_CPU_KVCACHE_SPACE"] = "1"  # GiB
    elif find_spec("flashinfer") is None:  # vLLM's default sampler on a GPU is one of its
        variables["VLLM_USE_FLASHINFER_SAMPLER"] = "0"
    if device == "cpu" and clock == "cpu":
        variables |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
    elif device == "cpu":
        cores = os.environ.get("VLLM_CPU_OMP_THREADS_BIND", f"0-{(os.cpu_count() or 1) - 1}")
        variables["VLLM_CPU_OMP_THREADS_BIND"] = cores
    return variables


def engine_failure(error: BaseException) -> InputError:
    """One line for an engine that does not start or dies."""
    last = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "")
    text = f"{type(error).__name__}: {last}"
    low = str(error).lower()
    if "out of memory" in low or "no available memory" in low or isinstance(error, MemoryError):
        return InputError(f"vLLM is out of memory: {text[:300]}")
    return InputError(f"vLLM's engine failed: {text[:300]}")
