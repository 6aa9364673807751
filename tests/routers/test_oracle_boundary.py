"""No router sees the future: ours choose alike when they are shown only what the contract names."""

from __future__ import annotations

import pytest

import simsched.routers  # noqa: F401 - they register
from simsched.engine.arrival import arrivals_of
from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.policies.fcfs import Fcfs
from simsched.routers import spec as specs
from simsched.routers.base import Router, registered
from simsched.routers.spec import make_router
from simsched.workload.trace import Trace
from tests.engine.scenarios import Linear, shared_prefixes, trace

ROUTERS = [
    *sorted(registered()),
    *("llm-d(kv_events=true)", "dynamo(kv_events=true)", "vllm-dp(version=0.26.0,api_servers=2)"),
]


def chats() -> Trace:
    """Turns that go on from each other's answers, so that what is shared reaches into answers."""
    requests = trace(80, 30.0, 3, longest=300).with_columns(session_id=[f"s{i % 13}" for i in range(80)])
    assert any(each.prefix and each.prefix[-1].end > each.num_prompt_tokens for each in arrivals_of(requests))
    return requests


def documents() -> Trace:
    return shared_prefixes(trace(80, 30.0, 4), 2)


@pytest.mark.parametrize("requests", [chats(), documents()], ids=["chats", "documents"])
@pytest.mark.parametrize("name", ROUTERS)
def test_it_chooses_alike_behind_the_guard_of_users_own(name: str, requests: Trace) -> None:
    requests = requests.with_columns(predicted_length=requests.num_output_tokens.astype(float))
    config = engine_config(max_num_seqs=8, num_gpu_blocks=300, max_model_len=1500)

    def chosen(router: Router) -> list[int]:
        record = simulate(requests, Fcfs(), Linear(), config, num_replicas=4, router=router)
        assert record.replica is not None
        return record.replica.tolist()

    guarded = make_router(name)
    guarded.__class__ = specs._watched(type(guarded), name)
    plain = chosen(make_router(name))
    assert len(set(plain)) > 1
    assert plain == chosen(guarded)
