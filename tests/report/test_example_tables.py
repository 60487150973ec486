"""Examples on the page: the first rows of each label, and text of the model made visible."""

from __future__ import annotations

import numpy as np

from depthscope.report.example_tables import EACH, example_tables
from depthscope.report.tables import PageTable
from depthscope.results.measurement import Table


def test_a_page_shows_the_first_rows_of_each_label_and_says_how_many_are_left():
    many = Table(
        {"task": np.array(["a"] * (EACH + 2) + ["b"]), "share": np.arange(EACH + 3) / 2}, "a row is a row"
    )
    (shown,) = example_tables({"texts": many, "other": many})
    assert [row[0] for row in shown.rows] == ["a"] * EACH + ["b"]
    assert shown.rows[-1][1] == "3"
    assert shown.note == "a row is a row; 2 more rows are in the run folder"


def test_tokens_show_their_spaces_and_texts_show_what_would_turn_them_around():
    table = Table(
        {
            "task": np.array(["a"]),
            "token": np.array([" x"]),
            "text": np.array(["a b\u202ec\n"]),
            "done": np.array([True]),
        }
    )
    (shown,) = example_tables({"decoded": table})
    assert shown.columns == ("task", "token", "text", "done")
    task, token, text, done = shown.rows[0]
    assert (task, token, done) == ("a", "\u2423x", "yes")
    assert "\u202e" not in text
    assert "\n" not in text


def test_an_empty_table_is_not_shown():
    assert example_tables({"texts": Table({"task": np.array([])})}) == ()


def test_columns_of_words_are_told_from_columns_of_numbers() -> None:
    table = PageTable(
        "c", ("task", "unit", "value", "of"), (("a", "nats", "0.5", "\u2013"), ("b", "", "x", "1 of 2"))
    )
    assert table.words == frozenset()
    assert PageTable(
        "c", ("task", "unit", "value"), (("a", "nats", "0.5"), ("b", "bits", "\u2013"))
    ).words == {2}


def test_columns_of_words_are_told_once_a_table_and_not_once_a_cell():
    table = PageTable("a table", ("name", "kind", "size"), (("a", "noun", "1"), ("b", "verb", "2")))
    assert table.words == {2}
    assert table.words is table.words
