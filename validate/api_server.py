"""The part of vLLM's API server that refuses requests: its own admission check and output processor."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class ApiServer:
    """Counts the answers under way as vLLM's server does; no tokenizer, no HTTP."""

    def __init__(self, scheduler_config: Any) -> None:
        from vllm.v1.engine.async_llm import AsyncLLM
        from vllm.v1.engine.output_processor import OutputProcessor

        self._outputs = OutputProcessor(tokenizer=None, log_stats=False)
        # what `check_admission` asks of the server
        self._server = SimpleNamespace(
            scheduler_config=scheduler_config,
            admission_stats=None,
            get_num_unfinished_requests=self._outputs.get_num_unfinished_requests,
            get_num_queued_tokens=self._outputs.get_num_queued_tokens,
            _record_admission_rejection=lambda reason: None,
            output_processor=self._outputs,
            logger_manager=None,
        )
        self._check = AsyncLLM.check_admission

    def admits(self, request: Any) -> bool:
        """Does this request (of the engine) get in?"""
        from vllm.v1.engine import EngineCoreRequest

        try:
            self._check(self._server, 1, request.request_id)
        except Exception as refused:
            if type(refused).__name__ not in ("QueueOverflowError", "MaxQueuedTokensError"):
                raise
            return False
        made = EngineCoreRequest(
            request_id=request.request_id,
            external_req_id=request.request_id,
            prompt_token_ids=list(request.prompt_token_ids),
            mm_features=None,
            sampling_params=request.sampling_params,
            pooling_params=None,
            arrival_time=request.arrival_time,
            lora_request=None,
            cache_salt=None,
            data_parallel_rank=None,
        )
        self._outputs.add_request(made, None)
        return True

    def process(self, outputs: Any) -> None:
        """Tokens have come: what the scheduler returned for a step."""
        for of_client in outputs.values():
            self._outputs.process_outputs(of_client.outputs)
