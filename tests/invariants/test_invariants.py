"""Every invariant, for every policy and preset, on random workloads."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from simsched.engine.config import presets
from tests.engine.scenarios import same
from tests.invariants.cases import COST, cases, policies
from tests.invariants.checks import check

EVERY = [(preset, name) for preset in presets() for name in policies(preset)]


@pytest.mark.parametrize(("preset", "name"), EVERY, ids=[f"{preset} {name}" for preset, name in EVERY])
# a smaller seed makes no simpler case, so there is nothing to shrink
@settings(
    max_examples=50,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.filter_too_much],
)
@given(data=st.data())
def test_invariants(preset: str, name: str, data: st.DataObject) -> None:
    case = data.draw(cases(preset, name))
    steps, record = case.run()
    check(steps, record, case.config, COST, case.hooks)
    if case.hooks:  # what orders do alone, leaping and again, has tests of its own
        for leap in (False, True, True):
            same(record, case.record(leap=leap))
