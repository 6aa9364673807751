"""Tables of many arms with long names: what 80 columns show, and that nothing is cut off."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from simsched.cli.compare import compare_command
from simsched.compare import compare
from simsched.compare.arm_table import LONGEST_NAME, letters, with_letters
from simsched.compare.samples import samples_of, with_labels
from simsched.compare.text import directory_text
from simsched.plotting.figures import draw
from simsched.plotting.style import image_bytes
from simsched.report.results import report_results
from simsched.results import Results
from simsched.text.table import text_table
from tests.fake_results import make_results

FLEETS = (
    "2*a100-80gb/llama-3-8b+2*h100-80gb/llama-3-8b",
    "2*h100-80gb/llama-3-8b(max_num_seqs=512)+2*h100-80gb/llama-3-8b",
)
POLICIES = ("fcfs", "ranking")


@pytest.fixture(scope="module")
def routers(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("routers") / "out"

    def metrics(policy: str, rate: float | None, run: int) -> dict[str, float]:
        return {"mean_ttft_ms": 100.0 + (7 * run if policy == "ranking" else 5 * (3 - run))}

    extra = {"router": ["least-requests", "vllm-dp"]}
    return make_results(folder, policies=POLICIES, extra=extra, metrics=metrics)


@pytest.fixture(scope="module")
def fleets(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("fleets") / "out"
    return make_results(folder, policies=POLICIES, extra={"replicas": FLEETS})


def command(*options: str, columns: str = "80") -> Result:
    return CliRunner(env={"COLUMNS": columns}).invoke(compare_command, [*options], catch_exceptions=False)


def test_routers_at_80_columns_are_one_table_a_metric(routers: Results) -> None:
    comparison = compare(routers, metrics=["mean_ttft_ms"])
    narrow = directory_text(routers, comparison, 80)
    start = narrow.index("Mean time to first token (ms)\n")
    lines = narrow[start:].split("\n\n")[0].split("\n")
    assert lines[1].split()[-5:] == ["value", "ratio", "95", "%", "interval"]
    assert [line for line in lines if line.startswith("at ")] == ["at 2 req/s:", "at 8 req/s:"]
    assert len(lines) == 2 + 2 * (1 + 4)
    assert narrow.startswith("Ratios are over the baseline, fcfs, router=least-requests")
    assert "n.s.: no significant difference from it" in narrow.split("\n\n")[0]
    assert max(len(line) for line in lines) <= 80
    hidden = narrow[narrow.index("What a mean hides") :].split("\n")
    assert hidden[1].split()[:2] == ["policy", "router"]  # the option's name once, above
    assert hidden[2].split()[:2] == ["fcfs", "least-requests"]
    whole = directory_text(routers, comparison)  # with room nothing is abbreviated
    assert "n.s." not in whole
    assert "no significant difference" in whole


def test_numbers_are_the_same_however_wide(routers: Results) -> None:
    comparison = compare(routers, metrics=["mean_ttft_ms"])

    def numbers(width: int | None) -> list[tuple[str, ...]]:
        text = directory_text(routers, comparison, width)
        table = text[text.index("Mean time to first token (ms)\n") :].split("\n\n")[0]
        found = [re.search(r"(least-requests|vllm-dp) +(\S+) *(\S*)", line) for line in table.split("\n")]
        return [each.groups() for each in found if each]

    assert numbers(80) == numbers(None)
    assert len(numbers(80)) == 8


@pytest.mark.parametrize("columns", ["80", "200"])
def test_long_names_get_letters_and_a_key(fleets: Results, tmp_path: Path, columns: str) -> None:
    file = tmp_path / "compared.json"
    text = command(str(fleets.path), "--no-bounds", "--json", str(file), columns=columns).stdout
    assert text.startswith("Arms (--label gives them names of yours):\n  A: fcfs, replicas=")
    assert text.count("replicas=") == 4  # each arm once, in the key
    assert "  D: ranking," in text
    if columns == "80":
        key, _, rest = text.partition("\n\n")
        assert all(len(line) <= 80 for line in rest.split("\n"))
        assert all(name in key.replace("\n    ", "").replace(" ", "") for name in FLEETS)
    arms = {row["arm"] for row in json.loads(file.read_text())["rows"]}
    assert arms == {f"{policy}, replicas={fleet}" for policy in POLICIES for fleet in FLEETS}


def test_letters_are_those_of_the_arms_in_view(fleets: Results, routers: Results) -> None:
    (lettered,), key = with_letters([fleets])
    assert samples_of(lettered).names == ["A", "B", "C", "D"]
    assert list(samples_of(lettered).arms.values()) == list(samples_of(fleets).arms.values())
    assert max(map(len, samples_of(fleets).names)) > LONGEST_NAME
    assert f"  C: fcfs, replicas={FLEETS[1]}" in key.split("\n")
    (same,), none = with_letters([routers])
    assert same is routers
    assert none == ""
    assert [letters(number) for number in (0, 25, 26, 51, 52)] == ["A", "Z", "AA", "AZ", "BA"]


def test_letters_of_a_part_are_no_names_of_the_whole(tmp_path: Path) -> None:
    """What is held fixed is part of what a letter stands for: figures look at the whole study, too."""
    results = make_results(tmp_path / "out", policies=POLICIES, extra={"replicas": FLEETS}, runs=1)
    where = {"policy": "fcfs"}
    (lettered,), key = with_letters([results], where)
    assert samples_of(lettered, where=where).names == ["A", "B"]
    assert samples_of(lettered).names[:2] == ["A", f"ranking, replicas={FLEETS[0]}"]
    assert key.endswith(f"  B: replicas={FLEETS[1]}")
    report_results(results, tmp_path / "report.html", where=where)
    assert "What the letters on this page" in (tmp_path / "report.html").read_text()
    (own,) = with_labels([results], [f"Ours=ranking,replicas={FLEETS[0]}"])
    (some,), key = with_letters([own])
    assert samples_of(some).names == ["A", "Ours", "C", "D"]
    assert "Ours" not in key


def test_two_directories_share_the_letters(fleets: Results) -> None:
    text = command(str(fleets.path), str(fleets.path)).stdout
    assert "  D: ranking," in text
    assert text.count("replicas=") == 4


def test_labels_are_names_too(fleets: Results) -> None:
    labels = [f"Mixed=replicas={FLEETS[0]}", f"Alike=replicas={FLEETS[1]}"]
    text = command(str(fleets.path), "--label", labels[0], "--label", labels[1]).stdout
    assert "replicas=" not in text
    assert "ranking, Alike" in text


def test_a_title_stands_above_its_row() -> None:
    rows = [["a", 1, "short"], ["b", 2, "two words or three"]]
    assert text_table(["arm", "n", ""], rows, left=(0, 2), width=24, titles={0: "one:", 1: "two:"}).split(
        "\n"
    ) == ["arm  n", "one:", "a    1  short", "two:", "b    2  two words or", "        three"]


def test_a_report_has_the_letters_and_their_table(fleets: Results, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    report_results(fleets, page)
    text = page.read_text()
    assert "What the letters on this page stand for" in text
    shown = [fleet.replace("+", " + ") for fleet in FLEETS]
    table = text[text.index("What the letters") : text.index("Verdict", text.index("What the letters"))]
    assert all(table.count(fleet) == len(POLICIES) for fleet in shown)
    tables = text[text.rindex("Every arm, metric and load") : text.rindex("How sure")]
    assert not any(fleet in tables for fleet in [*FLEETS, *shown])


@pytest.mark.filterwarnings("error")
def test_a_heat_map_of_fleets_has_room(tmp_path: Path) -> None:
    results = make_results(tmp_path / "out", policies=POLICIES, extra={"replicas": FLEETS}, runs=1)
    figure = draw(results, "heatmap")
    image_bytes(figure, "png")
    panels = [ax for ax in figure.axes if ax.images]
    assert [label.get_text().split("\n") for label in panels[0].get_xticklabels()] == [
        ["2*a100-80gb/llama-3-8b+", "2*h100-80gb/llama-3-8b"],
        ["2*h100-80gb/llama-3-8b", "(max_num_seqs=512)+", "2*h100-80gb/llama-3-8b"],
    ]
    assert len({round(ax.get_position().x0, 3) for ax in panels}) == 1  # one below the other
