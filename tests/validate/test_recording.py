"""What a replay records, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simsched.engine.config import EngineConfig, engine_config
from simsched.errors import InputError
from simsched.metrics import summarize
from simsched.sweep.cell import Arm
from simsched.sweep.plan import make_plan
from simsched.sweep.study import make_study
from simsched.vllm.step_log import log_path
from simsched.workload.trace import Trace
from validate.engine_options import engine_arguments, engine_failure
from validate.job import check_data_parallel, job_of
from validate.prompts import TokenIds
from validate.recording import RealRecorder, read_steps
from validate.server import command_line

TRACE = Trace(
    arrival_time=np.array([0.0, 1.0]),
    num_prompt_tokens=np.array([4, 4]),
    num_output_tokens=np.array([3, 1]),
)
STEPS = [
    {"time": 0.5, "scheduled": {"0": 4}, "preempted": []},
    {"time": 1.5, "scheduled": {"0": 1, "1": 4}, "preempted": ["0"]},
]


def test_token_times_become_the_simulators_record() -> None:
    recorder = RealRecorder(TRACE)
    recorder.tokens(0, 1, 2.0)
    recorder.tokens(1, 1, 2.5)
    recorder.tokens(0, 2, 5.0)
    record = recorder.record(STEPS, 5.0)
    assert record.first_scheduled_time.tolist() == [0.5, 1.5]
    assert record.first_token_time.tolist() == [2.0, 2.5]
    assert record.finish_time.tolist() == [5.0, 2.5]
    assert record.num_preemptions.tolist() == [1, 0]
    assert record.max_itl[0] == 3.0
    assert np.isnan(record.max_itl[1])
    assert record.itl.count == 2
    assert record.itl.total == 3.0
    assert summarize(record)["mean_ttft_ms"] == pytest.approx((2.0 + 1.5) / 2 * 1e3)


def test_lost_requests_are_counted_and_refused() -> None:
    recorder = RealRecorder(TRACE)
    recorder.tokens(0, 2, 1.0)
    with pytest.raises(InputError, match="2 of 2 requests were lost or cut; the first is 0: 2 of 3 tokens"):
        recorder.record(STEPS, 1.0)


def test_an_engine_without_our_scheduler_leaves_no_log(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="wrote no step log"):
        read_steps(tmp_path / "steps.jsonl", 0.0)


def test_shared_chunks_are_shared_tokens() -> None:
    trace = TRACE.with_columns(
        num_prompt_tokens=np.array([10, 7]), hash_ids=[(1, 2, 3), (1, 5)], hash_block_size=4
    )
    first, second = (TokenIds(trace, 1000).prompt(index) for index in (0, 1))
    assert (len(first), len(second)) == (10, 7)
    assert first[:4] == second[:4]
    assert first[4:7] != second[4:7]
    assert TokenIds(TRACE, 1000).prompt(0) != TokenIds(TRACE, 1000).prompt(1)


def test_a_turn_begins_with_the_prompt_and_answer_before_it() -> None:
    trace = TRACE.with_columns(
        num_prompt_tokens=np.array([10, 40]), num_output_tokens=np.array([6, 3]), session_id=["a", "a"]
    )
    first, second = (TokenIds(trace, 1000).all(index) for index in (0, 1))
    assert (len(first), len(second)) == (16, 43)
    assert second[:16] == first


def test_what_a_cpu_engine_does_not_have_is_refused(tmp_path: Path) -> None:
    kind = {"device": "cpu", "folder": tmp_path, "enforce_eager": False, "settings": {}}
    with pytest.raises(InputError, match="--block-size 16: vLLM's CPU engine needs a multiple of 32"):
        engine_arguments(engine_config(num_gpu_blocks=4000, max_model_len=8192), {}, "tiny-llama", **kind)
    with pytest.raises(InputError, match="--async-scheduling"):
        engine_arguments(
            engine_config(async_scheduling=True, block_size=32, num_gpu_blocks=4000, max_model_len=8192),
            {},
            "tiny-llama",
            **kind,
        )


def test_arguments_of_a_cuda_engine(tmp_path: Path) -> None:
    config = engine_config(async_scheduling=True, num_gpu_blocks=4000, max_model_len=8192)
    kind = {"device": "cuda", "folder": tmp_path, "enforce_eager": False, "settings": {"policy": "srtf"}}
    arguments = engine_arguments(config, {}, "llama-3-8b", **kind)
    assert arguments["scheduler_cls"] == "simsched.vllm.AsyncPolicyScheduler"
    assert arguments["load_format"] == "dummy"
    assert "num_gpu_blocks_override" not in arguments  # vLLM's own choice
    words = command_line(arguments)
    assert words[0].endswith("llama-3-8b")
    assert {"--async-scheduling", "--no-enforce-eager"} <= set(words)
    assert '{"simsched": {"decodes_first": false, "policy": "srtf"}}' in words


def test_engine_failures_are_one_line() -> None:
    error = RuntimeError("Engine core died\nCUDA out of memory. Tried to allocate 2 GiB")
    assert str(engine_failure(error)).startswith("vLLM is out of memory: RuntimeError: CUDA out of memory")
    assert "\n" not in str(engine_failure(ValueError("a\nb")))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preset": "vllm-0.4.1-ltr"}, "--preset vllm-0.4.1-ltr"),
        ({"replicas": "1*a100-80gb/llama-3-8b+1*a100-40gb/llama-3-8b"}, "servers of a replay are alike"),
        ({"max_num_queued_reqs": "4"}, "--max-num-queued-reqs: a replay wants every answer"),
        ({"num_replicas": "2", "moe_data_parallel": "true"}, "the models of a replay are dense"),
    ],
)
def test_what_cannot_be_replayed_is_refused(given: dict[str, str], message: str) -> None:
    study = make_study({"workload": "sharegpt", "policy": "fcfs", "num_requests": 5, **given})
    cell = next(iter(make_plan(study).cells.values()))
    with pytest.raises(InputError, match=message):
        job_of(cell)


@pytest.mark.parametrize(
    ("engine", "options", "message"),
    [
        ("offline", {"num_replicas": 2, "router": "vllm-dp"}, "--engine offline has no balancer"),
        ("http", {"router": "vllm-dp"}, "expected --num-replicas of 2 or more"),
        ("http", {"num_replicas": 2}, "--router None: vLLM's own balancer chooses"),
        ("http", {"num_replicas": 2, "router": "random"}, "--router random: vLLM's own balancer chooses"),
    ],
)
def test_vllms_own_balancer_is_that_of_one_server(engine: str, options: dict[str, Any], message: str) -> None:
    arm = Arm("fcfs", EngineConfig(), "a100-80gb/llama-3-8b", **options)
    with pytest.raises(InputError, match=message):
        check_data_parallel(engine, [arm])


def test_vllms_own_balancer_over_several_engines() -> None:
    for router in ("vllm-dp", "vllm-dp(api_servers=1)"):
        arm = Arm("fcfs", EngineConfig(), "a100-80gb/llama-3-8b", num_replicas=2, router=router)
        check_data_parallel("http", [arm])


@pytest.mark.parametrize(
    ("path", "engine", "expected"),
    [("a/steps.jsonl", 0, "a/steps.jsonl"), ("a/steps.jsonl", 2, "a/steps-2.jsonl"), ("log", 1, "log-1")],
)
def test_each_engine_of_a_server_has_a_log_of_its_own(path: str, engine: int, expected: str) -> None:
    assert log_path(path, engine) == expected
