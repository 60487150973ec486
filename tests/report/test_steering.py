"""Sentences on the split of states, what is not decided, and written texts on the page."""

from __future__ import annotations

import re

import numpy as np
import pytest
from steering_results import EVIL, component_steering, predictor_sweep, written_texts

from depthscope.report.steering import split_stable, text_turns, what_parts_carry
from depthscope.report.written import SHOWN, passages_of
from depthscope.results.measurement import Table
from depthscope.results.visible import readable


def carried(**changes: float) -> tuple[bool, str]:
    found = what_parts_carry({"component_steering": component_steering(**changes)})
    return found.decided, found.sentence


def test_a_swap_that_brings_words_and_keeps_the_text_is_said() -> None:
    decided, sentence = carried()
    assert decided
    assert sentence.startswith(
        "At every layer that was steered the expectations of another text bring that text's words"
    )


def test_a_swap_that_brings_no_words_is_said() -> None:
    assert carried(over=-0.1) == (
        True, "The expectations of another text do not bring its words, or take the own ones away."
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"over": 0.01}, "no layer shows both, and none is clear of it"),
        ({"kept": 0.01}, "no layer shows both, and none is clear of it"),
        ({"n": 7}, "7 pairs of texts are fewer than 8"),
    ],
)
def test_a_swap_that_is_not_clear_is_not_decided(changes: dict[str, float], why: str) -> None:
    assert carried(**changes) == (False, f"Not decided: {why}.")


@pytest.mark.parametrize(
    ("changes", "decided", "said"),
    [
        ({}, True, "leans to its domain by 0.15 of 1"),
        ({"turned": 0.0}, True, "keeps its domain"),
        ({"turned": 0.15, "random": 0.14}, False, "Not decided: the judge"),
        ({"turned": 0.04}, False, "Not decided: the judge"),
        ({"n": 5}, False, "Not decided: 5 texts"),
    ],
)
def test_written_text_turns_or_not_or_nobody_knows(
    changes: dict[str, float], decided: bool, said: str
) -> None:
    if changes.get("turned") == 0.04:
        changes = {**changes, "random": 0.03}
    found = text_turns({"component_steering": component_steering(**changes)})
    assert (found.decided, said in found.sentence) == (decided, True)
    assert "71%" in found.because


@pytest.mark.parametrize(
    ("changes", "decided", "said"),
    [
        ({}, True, "All 4 designs find the same tokens novel"),
        ({"agreement": 0.5}, True, "other tokens are novel to gru 1x128; linear, 4."),
        ({"agreement": 0.8}, False, "Not decided: the intervals hold the threshold."),
        ({"n": 6}, False, "Not decided: 6 units"),
        ({"r2": 0.15}, False, "so novel parts agree because states do"),
    ],
)
def test_the_split_is_one_or_is_many_or_nobody_knows(
    changes: dict[str, float], decided: bool, said: str
) -> None:
    found = split_stable({"predictor_sweep": predictor_sweep(**changes)})
    assert (found.decided, said in found.sentence) == (decided, True)


def test_written_texts_stand_in_one_order_whatever_the_table_has() -> None:
    table = written_texts()
    backwards = Table({name: values[::-1] for name, values in table.columns.items()})
    first, second = passages_of(table)
    assert [row.name for row in first.rows] == [row.name for row in passages_of(backwards)[0].rows]
    assert first.rows[0].name == "unsteered"
    assert first.rows[-1].name == "prompt of A, unsteered"
    assert len(first.rows) == 6  # "nothing" is the unsteered text again
    assert [row.name for row in first.rows if row.strong] == ["expected of A, novel of B"]
    assert first.rows[0].kept == "\N{EN DASH}"
    assert second.own == "fiction"


def test_no_more_prompts_are_shown_than_a_reader_reads() -> None:
    columns = written_texts().columns
    many = Table({
        name: np.concatenate([v + 2 * k if name == "pair" else v for k in range(9)]) for name, v in columns.items()
    })  # fmt: skip
    assert len(passages_of(many)) == SHOWN


def test_what_cannot_be_seen_is_shown_and_what_is_hostile_is_escaped() -> None:
    said = readable(EVIL)
    assert "\u202e" not in said
    assert "\x1b" not in said
    assert "[U+202E]" in said
    assert readable("a b") == "a b"
    assert readable("") == "(empty)"


def test_the_page_escapes_written_texts(tmp_path) -> None:
    from jinja2 import Environment, FileSystemLoader

    from depthscope.report.assets import FILES

    environment = Environment(loader=FileSystemLoader(FILES), autoescape=True)
    macro = environment.get_template("parts.html.j2").module.passage
    page = str(macro(passages_of(written_texts())[0]))
    assert "<img" not in page
    assert "&lt;/script&gt;&lt;img" in page
    assert "The &lt;b&gt;tide" in page
    assert "law &amp; order" in page
    assert re.search(r'<tr class="final"><th scope="row">expected of A, novel of B', page)
