"""Tables and sentences in lines of a given width."""

from __future__ import annotations

from simsched.text.table import text_table, wrapped_prose

ROWS = [["fcfs", 46.1, 166.0, "not steady"], ["mlfq", 44.5, 70.4, "not steady, no significant difference"]]
HEADERS = ["arm", "ms/token", "P99", ""]


def test_a_table_that_fits_stays_whole() -> None:
    whole = text_table(HEADERS, ROWS, left=(0, 3))
    assert text_table(HEADERS, ROWS, left=(0, 3), width=80) == whole
    assert len(whole.split("\n")) == 3


def test_a_last_column_of_words_folds() -> None:
    assert text_table(HEADERS, ROWS, left=(0, 3), width=42).split("\n") == [
        "arm   ms/token   P99",
        "fcfs      46.1   166  not steady",
        "mlfq      44.5  70.4  not steady, no",
        "                      significant",
        "                      difference",
    ]


def test_a_table_too_wide_becomes_several_with_the_names_in_each() -> None:
    assert text_table(["arm", "ms/token", "P99"], [row[:3] for row in ROWS], width=16).split("\n") == [
        "arm   ms/token",
        "fcfs      46.1",
        "mlfq      44.5",
        "",
        "arm    P99",
        "fcfs   166",
        "mlfq  70.4",
    ]


def test_sentences_wrap_and_tables_do_not() -> None:
    text = "  a sentence of seven words, so to say\narm   ms/token   P99  served/s"
    assert wrapped_prose(text, 20).split("\n") == [
        "  a sentence of",
        "    seven words, so",
        "    to say",
        "arm   ms/token   P99  served/s",
    ]
