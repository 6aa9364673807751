"""When a router sees what engines report: tables of changes and of what is known at which time."""

from __future__ import annotations

import pytest

from simsched.routers.base import Replicas, Reporting
from simsched.routers.reports import Counts, RankReports, Reports

# Changes (time in ms, replica, waiting), and vLLM 0.32.0's real coordinator for dense engines: it published
# at 351, 451, 692 and 5,692 ms (5 s after the last).
CHANGES = [(351, 0, 1), (371, 1, 2), (392, 0, 3), (692, 1, 4)]
ON_CHANGE = [
    (350, 0, [0, 0]),
    (351, 1, [1, 0]),
    (450, 1, [1, 0]),
    (451, 2, [3, 2]),
    (691, 2, [3, 2]),
    (692, 3, [3, 4]),
    (5691, 3, [3, 4]),
    (5692, 4, [3, 4]),
]


@pytest.mark.parametrize("at_once", [False, True])
def test_the_coordinator_publishes_changes_at_most_every_interval(at_once: bool) -> None:
    replicas = Replicas.idle(2)
    reports = Reports(Reporting("on-change", 0.1), replicas)
    changes = list(CHANGES)
    for now, messages, waiting in ON_CHANGE[-1:] if at_once else ON_CHANGE:
        while changes and changes[0][0] <= now:
            time, replica, count = changes.pop(0)
            reports.note(replica, Counts(time / 1000, count, 0, 0.0))
        reports.refresh(now / 1000)
        assert (replicas.num_reports, replicas.waiting) == (messages, waiting), now


def test_a_scraped_endpoint_shows_the_counts_of_the_last_look() -> None:
    replicas = Replicas.idle(2)
    reports = Reports(Reporting("scraped", 0.25), replicas)
    for time, replica, count in CHANGES:
        reports.note(replica, Counts(time / 1000, count, 7, 0.5))
    for now, waiting in ((0.3, [0, 0]), (0.5, [3, 2]), (0.7, [3, 2]), (0.75, [3, 4])):
        reports.refresh(now)
        assert replicas.waiting == waiting, now
    assert (replicas.running, replicas.kv_usage) == ([7, 7], [0.5, 0.5])


def test_interval_zero_is_always_fresh() -> None:
    replicas = Replicas.idle(1)
    reports = Reports(Reporting("scraped", 0.0), replicas)
    reports.note(0, Counts(0.123, 5, 6, 0.7))
    reports.refresh(0.122)
    assert replicas.waiting == [0]
    reports.refresh(0.123)
    assert (replicas.waiting, replicas.running, replicas.kv_usage) == ([5], [6], [0.7])


def test_engines_that_do_not_report_send_zeros_every_five_seconds() -> None:
    replicas = Replicas.idle(1)
    reports = Reports(Reporting("on-change", 0.1, engines_report=False), replicas)
    reports.note(0, Counts(0.5, 9, 9, 0.9))
    for now, messages in ((4.9, 0), (5.0, 1), (14.9, 2), (15.0, 3)):
        reports.refresh(now)
        assert (replicas.num_reports, replicas.waiting) == (messages, [0]), now


# vLLM 0.32.0's real coordinator for ranks that step together: it published at 392 (the first two alone, for
# the third is of a later step), 492, 742 and 5,742 ms.
OF_RANKS = [(351, 0, 1, 7), (371, 1, 2, 7), (391, 0, 3, 8), (692, 1, 4, 9)]
PUBLISHED = [
    (390, 0, [0, 0]),
    (391, 1, [1, 2]),
    (490, 1, [1, 2]),
    (491, 2, [3, 2]),
    (741, 2, [3, 2]),
    (742, 3, [3, 4]),
    (5741, 3, [3, 4]),
    (5743, 4, [3, 4]),
]


@pytest.mark.parametrize("engines_report", [False, True])  # dense ones of before 0.27 don't, ranks always do
@pytest.mark.parametrize("at_once", [False, True])
def test_the_coordinator_of_ranks_publishes_whole_steps(at_once: bool, engines_report: bool) -> None:
    replicas = Replicas.idle(2)
    reports = RankReports(Reporting("on-change", 0.1, engines_report=engines_report), replicas)
    changes = list(OF_RANKS)
    for now, messages, waiting in PUBLISHED[-1:] if at_once else PUBLISHED:
        while changes and changes[0][0] <= now:
            time, replica, count, step = changes.pop(0)
            reports.note(replica, Counts(time / 1000, count, 0, 0.0, (0, step)))
        reports.refresh(now / 1000)
        assert (replicas.num_reports, replicas.waiting) == (messages, waiting), now


def test_an_endpoint_of_ranks_is_scraped_as_any() -> None:
    replicas = Replicas.idle(2)
    reports = RankReports(Reporting("scraped", 0.25), replicas)
    for time, replica, count, step in OF_RANKS:
        reports.note(replica, Counts(time / 1000, count, 7, 0.5, (0, step)))
    for now, waiting in ((0.3, [0, 0]), (0.5, [3, 2]), (0.75, [3, 4])):
        reports.refresh(now)
        assert replicas.waiting == waiting, now
