"""A lock-step case of the caller's: a trace, a policy and engine options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from simsched.cost_model.profile import load_profile
from simsched.engine.admissible import check_admissible
from simsched.engine.config import EngineConfig
from simsched.engine.simulator import simulate
from simsched.errors import InputError
from simsched.policies.spec import make_policy
from simsched.predictors.spec import apply_predictor
from simsched.workload.formats import load_trace
from simsched.workload.sessions import as_arrived
from validate.cases import BUILTIN, Case


def own_case(
    engine: dict[str, Any],
    *,
    trace: Path,
    policy: str,
    scheduler: str | None,
    predictor: str | None,
    num_requests: int | None,
    cost_profile: str,
    seed: int,
) -> Case:
    """The case; blocks and context length come from the profile where they are not given.

    Raises:
        InputError: a file, policy or option that cannot be used, or a policy that vLLM does not have.
    """
    if scheduler == "builtin" and policy not in BUILTIN:
        raise InputError(f"--scheduler builtin: vLLM has no policy {policy}, only {' and '.join(BUILTIN)}")
    requests, _ = load_trace(trace)
    if num_requests is not None:
        requests = requests.take(np.arange(min(num_requests, len(requests))))
    profile = load_profile(cost_profile)
    config = EngineConfig(**engine).resolve(profile)
    requests, _ = check_admissible(requests, config, skip_invalid=False, truncate=False)
    filled, _ = apply_predictor(predictor, make_policy(policy), requests, seed=seed)
    if filled.think_times is not None:
        # vLLM gets turns when the simulated answers have come; with all steps the same, its own come then
        record = simulate(filled, make_policy(policy), profile.cost, config)
        filled = as_arrived(filled, record.arrival_time)
    chosen = scheduler or ("builtin" if policy in BUILTIN else "policy")
    return Case(trace.name, policy, chosen, filled, config, profile.cost)
