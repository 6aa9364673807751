"""The report: one file, nothing from a network, readable in a real browser on a phone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from simsched.cli.report import report_command
from simsched.compare import compare
from simsched.errors import InputError
from simsched.report import Figure, Section, Table, format_cell, render_report, write_report
from simsched.report.results import _setting, report_results
from simsched.sweep.execute import run_study
from simsched.sweep.plan import make_plan
from simsched.sweep.study import make_study
from tests.fake_results import make_results
from tests.headless import Links, browse, needs_browser

PIXEL = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
    b"\x00\x00\x00\rIDATx\xdac\xfc\xcf\xc0P\x0f\x00\x04\x85\x01\x80\x84\xa9\x8c!\x00\x00\x00\x00IEND\xaeB`\x82"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    policies = ("fcfs", "mlfq", "ranking(starvation_threshold=200,starvation_period=10)")
    make_results(folder / "out", policies=policies, unfinished={"mlfq": 2})
    shown = CliRunner().invoke(report_command, [str(folder / "out"), "-o", str(folder / "report.html")])
    assert shown.exit_code == 0, shown.output
    return folder / "report.html"


def test_it_holds_everything(page: Path) -> None:
    text = page.read_text()
    for part in (
        "Verdict",
        "Every arm, metric and load",
        "What a mean hides",
        "95 % interval",
        "Holm",
        "mlfq left 12 requests unfinished",
        "Configuration",
        "simsched 0",
        "numpy",
    ):
        assert part in text, part
    assert text.count("<img ") == 4


def test_nothing_is_loaded_from_elsewhere(page: Path) -> None:
    links = Links()
    links.feed(page.read_text())
    assert links.found
    assert all(link.startswith(("data:", "#")) for link in links.found)
    assert "@import" not in page.read_text()
    assert "<script src" not in page.read_text()


def test_the_same_results_give_the_same_page(page: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.html"
    CliRunner().invoke(report_command, [str(page.parent / "out"), "-o", str(again)])
    assert again.read_bytes() == page.read_bytes()


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser(page: Path, tmp_path: Path, width: int) -> None:
    seen, console = browse(page, width, tmp_path / "profile")
    assert console == []
    assert seen["width"] == width
    assert seen["needed"] <= width  # tables and figures scroll inside their boxes
    assert seen["images"] == seen["loaded"] == 4
    assert seen["small"] == 0


def test_content_is_escaped_and_numbers_are_set_right() -> None:
    section = Section(
        "A <b> & c",
        "Prose <script>",
        [
            Table(
                ["policy", "value"], [["<i>", 1234.5], ["x", None], ["y", float("nan")], ["z", 0.12345]], "T"
            )
        ],
        [Figure(PIXEL, "a dot", "Caption"), Figure(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "empty")],
        points=["one"],
    )
    html = render_report("Title", [section], summary="Found it.", configuration={"seed": 0})
    assert "A &lt;b&gt; &amp; c" in html
    assert "Prose &lt;script&gt;" in html
    assert '<td class="number">1,234</td>' in html
    assert html.count('<td class="number">–</td>') == 2
    assert "0.1235" in html
    assert "data:image/png;base64," in html
    assert "data:image/svg+xml;base64," in html
    assert "<li>one</li>" in html
    assert "Found it." in html
    assert "&#34;seed&#34;: 0" in html


def test_cells() -> None:
    assert [format_cell(x) for x in (None, float("nan"), True, 1234567, 0.1 + 0.2, -4567.8, "a")] == [
        "–", "–", "True", "1,234,567", "0.3", "-4,568", "a",
    ]  # fmt: skip


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "busy.html").mkdir()
    with pytest.raises(InputError, match=r"busy\.html"):
        write_report(tmp_path / "busy.html", "T", [])
    assert [path.name for path in tmp_path.iterdir()] == ["busy.html"]


def test_bad_arguments(page: Path, tmp_path: Path) -> None:
    out = str(page.parent / "out")
    for options in (
        [str(tmp_path / "none")],
        [out, "-o", str(tmp_path / "report.pdf")],
        [out, "--baseline", "nobody", "-o", str(tmp_path / "r.html")],
    ):
        assert isinstance(CliRunner().invoke(report_command, options).exception, InputError), options
    assert list(tmp_path.iterdir()) == []


def test_results_without_the_default_baseline(tmp_path: Path) -> None:
    make_results(tmp_path / "out", policies=("mlfq", "ranking"), rates=(4.0,), runs=1)
    shown = CliRunner().invoke(report_command, [str(tmp_path / "out")])
    assert shown.exit_code == 0, shown.output
    assert "over mlfq" in (tmp_path / "out" / "report.html").read_text()


def test_replicas_have_a_row_each(tmp_path: Path) -> None:
    """Two routers, three replicas: what the page says of a replica is what its requests say."""
    options = {
        "policy": "fcfs", "workload": "sharegpt", "num_replicas": [3], "router": ["round-robin", "random"],
        "request_rate": [9.0], "num_requests": 90, "num_runs": 2,
    }  # fmt: skip
    results = run_study(make_plan(make_study(options)), tmp_path / "out", jobs=1)
    report_results(results, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    (section,) = re.findall(r">Replicas</h2>(.*?)</section>", text, re.DOTALL)
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(<td.*?)</tr>", section)]
    assert [row[:2] for row in rows[2:]] == [
        [f"router={router}", str(replica)] for router in ("round-robin", "random") for replica in range(3)
    ]
    assert [row[2] for row in rows[2:5]] == ["60", "60", "60"]
    for arm, replica, requests, tokens, preempted, per_token, *_ in rows[2:]:
        mine = results.requests.filter(router=arm.partition("=")[2], replica=int(replica))
        assert requests == str(mine.height)
        total = mine["num_prompt_tokens"].sum() + mine["num_output_tokens"].sum()
        assert tokens.replace(",", "") == str(total)
        assert preempted == str(mine["num_preemptions"].sum())
        latency = (mine["finish_time"] - mine["arrival_time"]) / mine["num_output_tokens"]
        assert float(per_token) == pytest.approx(1e3 * latency.mean(), rel=1e-3)
    for name, row in zip(("round-robin", "random"), rows, strict=False):
        varies = results.summary.filter(router=name)["replica_load_cv"].mean()
        assert float(row[1]) == pytest.approx(varies, rel=1e-3)
    assert "<img" in section


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"replicas": "2*a100-80gb/llama-3-8b+1*h100-80gb/llama-3-8b", "router": "random"},
            {
                "Arrivals": "poisson",
                "GPU and model": "a100-80gb/llama-3-8b, h100-80gb/llama-3-8b",
                "Replicas": "2*a100-80gb/llama-3-8b + 1*h100-80gb/llama-3-8b",
                "Router": "random",
            },
        ),
        (
            {"num_replicas": "2,3", "arrivals": "uniform"},
            {
                "Arrivals": "uniform",
                "GPU and model": "a100-80gb/llama-3-8b",
                "Replicas": "2, 3",
                "Router": "least-requests",
            },
        ),
        ({}, {"Arrivals": "poisson", "GPU and model": "a100-80gb/llama-3-8b"}),
    ],
)
def test_what_was_run(tmp_path: Path, options: dict[str, str], expected: dict[str, str]) -> None:
    study = make_study({"policy": "fcfs,sjf", "request_rate": [4.0], "num_requests": 5, **options})
    results = run_study(make_plan(study), tmp_path / "out", jobs=1)
    table = _setting(results, compare(results), {}).tables[0]
    names = ("Arrivals", "GPU and model", "Replicas", "Router")
    assert {name: value for name, value in table.rows if name in names} == expected
