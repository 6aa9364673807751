"""vLLM's real scheduler and KV-cache manager, with no model behind them, on a virtual clock."""

from __future__ import annotations

import os
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from simsched.cost_model.base import CostModel, StepFeatures
from simsched.engine.config import ResolvedConfig
from simsched.engine.step_cost import step_cost
from simsched.errors import InputError
from simsched.vllm.step_log import features
from simsched.vllm.version import check_version, installed_version
from simsched.workload.trace import Trace
from validate.api_server import ApiServer
from validate.engine_options import given_since
from validate.hints import Hints
from validate.models import write_model
from validate.prompts import TokenIds

VOCABULARY = 1 << 30
"""No model reads these tokens; in so large a space two prompts are alike only on purpose."""


class VirtualClock:
    """The clock of `PolicyScheduler` in lock-step: arrivals and steps are on it already."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def from_wall(self, wall_time: float) -> float:
        return wall_time


def prepare_vllm() -> str:
    """Quiet, offline, and on the CPU platform even where a CUDA wheel finds no GPU; returns the version.

    Raises:
        InputError: vLLM is missing, not of the supported range, or wants requirements that are not there.
    """
    for name, value in {
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
    }.items():
        os.environ.setdefault(name, value)
    version = installed_version()
    check_version(version)
    import vllm.platforms as platforms

    if not platforms.current_platform.device_type:
        from vllm.platforms.cpu import CpuPlatform

        platforms._current_platform = platforms.current_platform = CpuPlatform()
        for name, module in list(sys.modules.items()):
            if name.startswith("vllm") and "current_platform" in vars(module):
                module.current_platform = platforms.current_platform  # type: ignore[attr-defined]
    try:
        import_module("vllm.v1.core.sched.async_scheduler")
    except ImportError as error:
        raise InputError(
            f"vLLM {version}: {error}; expected the requirements of validate/cpu-requirements.txt, which a "
            "version outside the range may not share"
        ) from None
    return version


def make_scheduler(config: ResolvedConfig, policy: str, scheduler: str, clock: VirtualClock) -> Any:
    """vLLM's scheduler with these options: `builtin` (fcfs or priority), or `policy` (ours, any policy)."""
    import torch
    from vllm.config import CacheConfig, DeviceConfig, ModelConfig, SchedulerConfig, VllmConfig
    from vllm.v1.core.sched.async_scheduler import AsyncScheduler
    from vllm.v1.core.sched.scheduler import Scheduler
    from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
    from vllm.v1.structured_output import StructuredOutputManager

    options = SchedulerConfig(
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=config.max_num_batched_tokens,
        max_model_len=config.max_model_len,
        is_encoder_decoder=False,
        enable_chunked_prefill=config.enable_chunked_prefill,
        async_scheduling=config.async_scheduling,
        long_prefill_token_threshold=config.long_prefill_token_threshold,
        scheduler_reserve_full_isl=config.scheduler_reserve_full_isl,
        watermark=config.watermark,
        policy=policy if scheduler == "builtin" else "fcfs",
        **given_since(config),
    )
    cache = CacheConfig(
        block_size=config.block_size,
        gpu_memory_utilization=0.9,
        enable_prefix_caching=config.enable_prefix_caching,
    )
    settings = {"policy": policy, "decodes_first": config.decodes_first}
    with tempfile.TemporaryDirectory() as folder:
        model = ModelConfig(
            model=str(write_model("tiny-llama", Path(folder))),
            dtype="bfloat16",
            seed=0,
            skip_tokenizer_init=True,
            max_model_len=config.max_model_len,
        )
        whole = VllmConfig(
            model_config=model,
            scheduler_config=options,
            cache_config=cache,
            device_config=DeviceConfig("cpu"),
            additional_config={"simsched": settings},
        )
    # the CPU platform overrides these two; the scheduler itself knows no platform
    options.async_scheduling = config.async_scheduling
    cache.block_size = config.block_size
    cache.num_gpu_blocks = config.num_gpu_blocks
    spec = FullAttentionSpec(block_size=config.block_size, num_kv_heads=1, head_size=1, dtype=torch.float32)
    made = {
        "vllm_config": whole,
        "kv_cache_config": KVCacheConfig(
            num_blocks=config.num_gpu_blocks,
            kv_cache_tensors=[],
            kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)],
        ),
        "structured_output_manager": StructuredOutputManager(whole),
        "block_size": config.block_size,
        "log_stats": False,
    }
    if scheduler == "builtin":
        return (AsyncScheduler if config.async_scheduling else Scheduler)(**made)
    from simsched.vllm.scheduler import AsyncPolicyScheduler, PolicyScheduler

    ours = (AsyncPolicyScheduler if config.async_scheduling else PolicyScheduler)(**made)
    ours.clock = clock
    return ours


class VirtualEngine:
    """Runs a trace through a real scheduler; `steps()` gives one record per step, as a step log has it."""

    def __init__(
        self, trace: Trace, policy: str, cost: CostModel, config: ResolvedConfig, scheduler: str
    ) -> None:
        self.trace = trace
        self.cost = cost
        self.config = config
        self.clock = VirtualClock()
        self.scheduler = make_scheduler(config, policy, scheduler, self.clock)
        decisions = getattr(self.scheduler, "decisions", None)
        if decisions is not None:
            decisions.view.take_cost(step_cost(cost, config))
        self._index = {name: index for index, name in enumerate(trace.request_ids())}
        self._hasher = self._block_hasher()
        self._tokens = TokenIds(trace, VOCABULARY)
        self._hints = Hints(trace)
        self._known: dict[int, list[int]] = {}  # prompt and answer of those under way
        limits = (config.max_num_queued_reqs, config.max_num_queued_tokens)
        refuses = any(limit is not None for limit in limits)
        self._server = ApiServer(self.scheduler.scheduler_config) if refuses else None
        self.preempted: set[str] = set()  # since the last step in which something ran
        self.features = StepFeatures()
        """Of the step that was formed last."""

    def steps(self) -> Iterator[dict[str, Any]]:
        """`time, step_time, scheduled, preempted, num_running, num_waiting, kv_blocks_used` of each step."""
        scheduler, clock = self.scheduler, self.clock
        names = self.trace.request_ids()
        arrivals = self.trace.arrival_time.tolist()
        arrived = 0
        admitted: list[Any] = []

        def take_in(until: float, *, at_the_end: bool) -> None:
            """Let the server decide on the requests that arrive before `until`, or then."""
            nonlocal arrived
            while arrived < len(names) and (
                arrivals[arrived] < until or (at_the_end and arrivals[arrived] == until)
            ):
                request = self.request(arrived, names[arrived])
                if self._server is None or self._server.admits(request):
                    admitted.append(request)
                arrived += 1

        depth = 2 if self.config.async_scheduling else 1
        in_flight: deque[tuple[Any, Any, float]] = deque()
        number = 0
        free_at = 0.0
        while arrived < len(names) or admitted or scheduler.has_unfinished_requests() or in_flight:
            take_in(clock.time, at_the_end=True)
            for request in admitted:
                scheduler.add_request(request)
            admitted.clear()
            if not scheduler.has_unfinished_requests() and not in_flight:
                if arrived == len(names):
                    break
                clock.time = arrivals[arrived]
                continue
            if scheduler.has_unfinished_requests():
                output = scheduler.schedule()
                self.preempted.update(output.preempted_req_ids or ())
                if output.num_scheduled_tokens:
                    record, step_time = self.record(output)
                    number += 1
                    start = max(clock.time, free_at)
                    free_at = start + step_time
                    yield {"step": number, "time": start, "step_time": step_time, **record}
                    in_flight.append((output, self.model_output(output), free_at))
                    if len(in_flight) < depth:
                        continue
                elif output.preempted_req_ids and not in_flight:
                    continue  # it only made room; the engine schedules again at once
                elif not in_flight and not scheduler.has_unfinished_requests():
                    continue  # it only turned away
                elif not in_flight:
                    if arrived == len(names):
                        raise RuntimeError("vLLM's scheduler is stuck: nothing can run")
                    clock.time = arrivals[arrived]
                    continue
            output, tokens, end = in_flight.popleft()
            take_in(end, at_the_end=False)  # the server does not know yet what this step brings
            clock.time = end
            came = scheduler.update_from_output(output, tokens)
            if self._server is not None:
                self._server.process(came)

    def _block_hasher(self) -> Any:
        if not self.config.enable_prefix_caching:
            return None
        from vllm.utils.hashing import sha256
        from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash

        init_none_hash(sha256)
        return get_request_block_hasher(self.config.block_size, sha256)

    def request(self, index: int, name: str) -> Any:
        """A row of the trace, as vLLM gets it."""
        from vllm import SamplingParams
        from vllm.v1.request import Request

        trace = self.trace
        sampling = SamplingParams(
            max_tokens=int(trace.num_output_tokens[index]),
            ignore_eos=True,
            detokenize=False,
            extra_args=dict(self._hints.of(index)),
        )
        return Request(
            request_id=name,
            prompt_token_ids=self._token_ids(index)[: int(trace.num_prompt_tokens[index])],
            sampling_params=sampling,
            pooling_params=None,
            arrival_time=float(trace.arrival_time[index]),
            priority=0 if trace.priority is None else int(trace.priority[index]),
            block_hasher=self._hasher,
        )

    def _token_ids(self, index: int) -> list[int]:
        """Prompt and answer: the model that is not there says what later prompts take it to have said."""
        if index not in self._known:
            self._known[index] = self._tokens.all(index)
        return self._known[index]

    def _sampled(self, name: str) -> list[int]:
        """The token that this step gives a request: the one after those that it computes."""
        request = self.scheduler.requests[name]
        if request.is_prefill_chunk:
            return []
        tokens = self._token_ids(self._index[name])
        at = request.num_computed_tokens
        return [tokens[at]] if at < len(tokens) else [VOCABULARY]  # cut off by --max-model-len

    def record(self, output: Any) -> tuple[dict[str, Any], float]:
        """What a step that has just been formed says in a step log, and the seconds that it takes."""
        from simsched.vllm.scheduler import chunks_of

        requests = self.scheduler.requests
        chunks = chunks_of(requests, output.num_scheduled_tokens, self.config.async_scheduling)
        batch = features(chunks)
        waiting = len(self.scheduler.waiting)
        unserved = len(requests) - len(chunks)
        P, N, S, K = (int(batch[symbol]) for symbol in "PNSK")
        self.features = StepFeatures(P, N, S, K, batch["Q"], num_waiting=unserved)
        step_time = self.cost.step_time(self.features)
        pool = self.scheduler.kv_cache_manager.block_pool
        record = {
            "scheduled": dict(output.num_scheduled_tokens),
            "preempted": sorted(self.preempted),
            "num_running": len(self.scheduler.running),
            "num_waiting": waiting,
            "kv_blocks_used": pool.num_gpu_blocks - 1 - pool.get_num_free_blocks(),
        }
        self.preempted.clear()
        return record, step_time

    def model_output(self, output: Any) -> Any:
        """One token for each request that this step brings level with its known tokens."""
        from vllm.v1.outputs import ModelRunnerOutput

        names = list(output.num_scheduled_tokens)
        return ModelRunnerOutput(
            req_ids=names,
            req_id_to_index={name: row for row, name in enumerate(names)},
            sampled_token_ids=[self._sampled(name) for name in names],
            logprobs=None,
            prompt_logprobs_dict={},
            pooler_output=[],
        )
