"""The router `vllm-dp` against vLLM's own client-side balancer, choice by choice."""

from __future__ import annotations

from collections import Counter
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from simsched.routers.base import Replicas
from simsched.routers.vllm_dp import VllmDp
from tests.routers.requests import Request

pytestmark = pytest.mark.vllm


def clients_of(num_engines: int, count: int) -> list[Any]:
    """The state of vLLM's API servers, without their sockets."""
    return [
        SimpleNamespace(
            reqs_in_flight={},
            core_engines=[number.to_bytes(2, "little") for number in range(num_engines)],
            engine_inflight=Counter(),
            client_count=count,
            eng_start_index=num_engines * index // count,
            lb_engines=[[0, 0, 0.0] for _ in range(num_engines)],
        )
        for index in range(count)
    ]


@pytest.mark.parametrize("num_engines", [2, 3, 8])
@pytest.mark.parametrize("api_servers", [1, 2, 4])
def test_every_choice_is_vllms(vllm_version: str, num_engines: int, api_servers: int) -> None:
    from vllm.v1.engine.core_client import DPLBAsyncMPClient

    choose: Any = DPLBAsyncMPClient.get_core_engine_for_request
    random = Random(num_engines * 10 + api_servers)
    clients = clients_of(num_engines, api_servers)
    router, replicas = (
        VllmDp(version=vllm_version.split("+")[0], api_servers=api_servers),
        Replicas.idle(num_engines),
    )
    router.start(num_engines, 0)
    in_flight: list[tuple[Request, Any, int]] = []
    for number in range(1500):
        if random.random() < 0.1:  # a message of the coordinator
            counts = [(random.randrange(5), random.randrange(9), random.random()) for _ in range(num_engines)]
            for client in clients:
                client.lb_engines = [list(engine) for engine in counts]
            for engine, (waiting, running, usage) in enumerate(counts):
                replicas.waiting[engine], replicas.running[engine] = waiting, running
                replicas.kv_usage[engine] = usage
            replicas.num_reports += 1
        if in_flight and random.random() < 0.6:  # an answer is complete
            request, client, engine = in_flight.pop(random.randrange(len(in_flight)))
            client.engine_inflight[client.reqs_in_flight.pop(request.request_id)] -= 1
            router.on_finish(request, engine, 0.0)
        client = clients[number % api_servers]
        request = Request(request_id=str(number))
        asked = SimpleNamespace(request_id=str(number), data_parallel_rank=None, pooling_params=None)
        expected = client.core_engines.index(choose(client, asked))
        chosen = router.choose(request, replicas, 0.0)
        assert chosen == expected, number
        in_flight.append((request, client, chosen))
