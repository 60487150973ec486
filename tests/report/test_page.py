"""The report is one file that needs no network, trusts no token, and stands when a part cannot be drawn."""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from synthetic import (
    HOSTILE,
    L,
    first,
    head_patterns,
    logit_lens,
    manifest,
    result,
    results,
    strips,
    write_run,
)

from depthscope.errors import StoreError
from depthscope.registry import PLOTS
from depthscope.report import assets
from depthscope.report.fingerprint import subtitle
from depthscope.report.page import prose, write_report
from depthscope.report.strips import strips_of, visible
from depthscope.report.tables import MISSING, number, tables_of
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result


class Page(HTMLParser):
    """What a browser would make of the page: tags with attributes, text, and the content of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text = ""
        self.open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]):
        self.tags.append((tag, dict(attrs)))
        self.open = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str):
        self.open = ""

    def handle_data(self, data: str):
        if self.open == "script":
            attributes, before = self.scripts.pop()
            self.scripts.append((attributes, before + data))
        elif self.open != "style":
            self.text += data


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = write_run(tmp_path_factory.mktemp("page") / "run")
    return write_report(run).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_the_page_is_one_file_in_the_run_folder_or_where_it_is_asked_for(tmp_path: Path):
    run = write_run(tmp_path / "run", {})
    assert write_report(run) == tmp_path / "run" / "report.html"
    assert write_report(run, tmp_path / "else" / "x.html").is_file()


def test_nothing_is_fetched(page: Page):
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith("#"), (tag, value)
        assert tag not in ("link", "iframe", "object", "embed", "img", "base", "form")


def test_the_policy_allows_these_scripts_only_and_no_request(page: Page):
    (policy,) = (a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "http" not in policy
    run = [code for attributes, code in page.scripts if attributes.get("type") != "application/json"]
    assert len(run) == 3, "the drawing library, the page's own script and the grid of heads"
    assert policy == assets.policy(tuple(run))


def test_the_vega_bundle_is_embedded_once(html: str):
    assert html.count("window.vegaEmbed=") == 1


def charts(found: Mapping[str, Result], without: str = "") -> int:
    """One chart for each plot and analysis that it suits, but those of one analysis."""
    suits = [vars(sys.modules[PLOTS[name].__module__])["SUITS"] for name in PLOTS.names]
    return sum(analysis in found and analysis != without for each in suits for analysis in each)


def test_every_plot_of_the_run_is_in_the_page_with_a_text_alternative_and_its_table(page: Page):
    data = [json.loads(code) for a, code in page.scripts if a.get("type") == "application/json"]
    specs = [one for one in data if "$schema" in one]
    assert len(data) == len(specs) + 1, "charts, and the rows of the grid of heads"
    assert len(specs) == charts(results())
    mounts = [a for t, a in page.tags if t == "div" and a.get("class") == "mount"]
    assert [a["aria-label"] for a in mounts] == [spec["description"] for spec in specs]
    assert page.text.count("Table: ") == len(specs)


def test_hostile_tokens_stay_text(page: Page, html: str):
    assert not [t for t, a in page.tags if t == "img" or any(name.startswith("on") for name in a)]
    for token in HOSTILE:
        assert visible(token) in page.text
    for char in ("\u202e", "\u2028", "\x00", "\x1b"):
        assert char not in html
    assert "<img" not in html.replace(assets.scripts()[0], "")


def test_hostile_names_in_manifest_texts_and_labels_stay_text(tmp_path: Path):
    bad = "</script><img src=x onerror=alert(1)>"
    curve = Measurement(
        "prompt_entropy", {"state": np.arange(2), "mode": np.array([bad])}, np.ones((2, 1)), "1", note=bad
    )
    found = {"representation_profile": result("representation_profile", [curve], (bad,))}
    model = manifest()["model"] | {"name": bad}
    law = {"law": bad, "status": "holds", "worst": 0.0, "tolerance": 1.0, "reason": bad}
    run = write_run(tmp_path / "run", found, model=model, command=bad, verification=[law], refused={bad: bad})
    page = Page(write_report(run, title=bad).read_text(encoding="utf-8"))
    assert not [t for t, _ in page.tags if t == "img"]
    (spec,) = (json.loads(code) for a, code in page.scripts if a.get("type") == "application/json")
    assert bad in json.dumps(spec)


def test_json_in_a_page_cannot_end_its_element():
    text = assets.as_json({"a": "</script><!--\u2028&", "b": "家"})
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"a": "</script><!--\u2028&", "b": "家"}


def test_scripts_cannot_end_their_element():
    assert assets.as_script("a = '</script><!--'") == "a = '<\\/script><\\!--'"


def test_the_verdict_stands_first_and_names_what_is_not_decided(tmp_path: Path, page: Page):
    ids = [a["id"] for t, a in page.tags if t == "section"]
    assert ids[0] == "verdict"
    assert "Skipping layer 6 costs least" in page.text
    assert "not decided" not in page.text
    few = first() | {"layer_skip": result("layer_skip", [])}
    later = Page(write_report(write_run(tmp_path / "run", few)).read_text(encoding="utf-8"))
    assert "not decided" in later.text


def test_each_section_has_question_reading_traps_table_and_commands(page: Page):
    for one in results().values():
        for words in (one.text.question, one.text.how_to_read, one.text.what_misleads, one.text.source):
            assert words.replace("`", "") in page.text  # names in backticks are set as code
        assert f"{one.analysis}/{next(iter(one.findings.measurements))} --format csv" in page.text
    assert "depthscope run synthetic-12x8" in page.text


def test_verification_says_what_was_refused_and_why(page: Page):
    assert "the family does not declare left padding" in page.text
    assert "not applicable" in page.text


def test_one_document_is_no_documents():
    assert (
        subtitle({"data": {"tokens": 256, "windows": 1, "documents": 1}})
        == "256 tokens, 1 window, 1 document"
    )


def test_a_broken_law_comes_first(tmp_path: Path):
    laws = [
        *manifest()["verification"],
        {"law": 4, "title": "replay", "status": "broken", "worst": 2.0, "tolerance": 1e-5},
    ]
    run = write_run(tmp_path / "run", {}, verification=laws)
    text = Page(write_report(run).read_text(encoding="utf-8")).text
    assert text.index("4. replay") < text.index("writes add up")


def test_a_section_that_cannot_be_read_says_so_and_the_rest_stands(tmp_path: Path):
    run = write_run(tmp_path / "run", first())
    (run.path / "measurements" / "layer_skip" / "output_kl.parquet").write_bytes(b"rubbish")
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert page.text.count("This section could not be drawn: StoreError") == 1
    assert "Half of the predictions" in page.text
    assert len([a for t, a in page.tags if t == "div" and a.get("class") == "mount"]) == charts(
        first(), "layer_skip"
    )


def test_a_plot_of_what_was_not_measured_is_left_out_and_the_table_says_why(tmp_path: Path):
    skip = results()["layer_skip"]
    gone = replace(skip["local_effect"], value=np.full((L, L), np.nan), missing="local=False was asked for")
    found = {**skip.findings.measurements, "local_effect": gone}
    run = write_run(
        tmp_path / "run", {"layer_skip": replace(skip, findings=replace(skip.findings, measurements=found))}
    )
    text = Page(write_report(run).read_text(encoding="utf-8")).text
    assert "Direct effect of a layer's write" not in text
    assert "local=False was asked for" in text
    assert "Effect of skipping a layer on every later layer's write" in text


def test_a_plot_of_what_is_measured_only_on_request_is_left_out_where_nobody_asked(tmp_path: Path):
    plain = replace(results()["logit_lens"], analysis="representation_profile")
    page = Page(
        write_report(write_run(tmp_path / "run", {"representation_profile": plain})).read_text("utf-8")
    )
    assert "Effective rank within the block" not in page.text
    assert "representation_profile holds none of prompt_entropy" in page.text


def test_a_chart_that_cannot_be_drawn_says_so_and_its_section_stands(tmp_path: Path):
    broken = result("head_patterns", [*head_patterns().findings.measurements.values()][:3])
    odd = Measurement("distance", {"layer": np.arange(2)}, np.ones(2), "tokens")
    found = {"head_patterns": result("head_patterns", [*broken.findings.measurements.values(), odd])}
    page = Page(write_report(write_run(tmp_path / "run", found)).read_text(encoding="utf-8"))
    assert page.text.count("This chart could not be drawn") == 1
    assert "A pattern is not a function" in page.text


def test_strips_that_cannot_be_drawn_say_so_and_their_section_stands(tmp_path: Path):
    table = strips()
    wrong = type(table)({name: values for name, values in table.columns.items() if name != "state"})
    found = {"logit_lens": result("logit_lens", [*logit_lens().findings.measurements.values()], strips=wrong)}
    text = Page(write_report(write_run(tmp_path / "run", found)).read_text(encoding="utf-8")).text
    assert "The token strips could not be drawn: KeyError" in text
    assert "Low divergence means" in text


def test_an_unfinished_run_says_what_is_missing(tmp_path: Path):
    found = {name: one for name, one in results().items() if name != "layer_skip"}
    text = Page(
        write_report(write_run(tmp_path / "run", found, complete=False)).read_text(encoding="utf-8")
    ).text
    assert "This run is not complete" in text
    assert "Missing: layer_skip" in text


def test_an_empty_manifest_still_gives_a_page(tmp_path: Path):
    from depthscope.store.run import Run

    (tmp_path / "results").mkdir()
    text = write_report(Run(tmp_path, {"schema": 1})).read_text(encoding="utf-8")
    assert "No law was checked" in text


def test_a_page_that_cannot_be_written_is_a_store_error(tmp_path: Path):
    run = write_run(tmp_path / "run", {})
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        write_report(run, tmp_path / "file" / "x.html")


def test_the_same_run_gives_the_same_page_without_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(socket, "socket", None)
    run = write_run(tmp_path / "run", first())
    assert write_report(run).read_bytes() == write_report(run, tmp_path / "again.html").read_bytes()


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("`first` near 1", "<code>first</code> near 1"),
        ("<b>`<i>`", "&lt;b&gt;<code>&lt;i&gt;</code>"),
        ("a ` b", "a ` b"),
    ],
)
def test_names_in_backticks_become_code_and_nothing_else_becomes_html(text: str, html: str):
    assert prose(text) == html


def test_strips_are_tables_whose_cells_tell_their_top_five(page: Page):
    cells = [a for t, a in page.tags if t == "td" and "title" in a]
    assert len(cells) == 12 * (L + 1)
    assert all(len((a["title"] or "").split("\n")) == 5 for a in cells)
    assert len([a for a in cells if a.get("class") == "final"]) == 12 * 3


def test_a_strip_says_which_lens_it_was_read_through(page: Page):
    (strip,) = strips_of(strips(), "ridge\u202e")
    assert strip.note == "read through the lens ridge[U+202E]"
    assert "read through the lens logit" in page.text


def test_the_page_names_the_lenses_and_every_further_material(tmp_path: Path):
    about = {"source": "facts.jsonl", "hash": "ab" * 32, "documents": 150, "windows": 300, "tokens": 4000}
    run = write_run(tmp_path / "run", {}, lenses=["ridge", "tuned", "logit"], materials={"facts": about})
    text = Page(write_report(run).read_text(encoding="utf-8")).text
    assert "ridge; beside it tuned, logit" in text
    assert "facts (facts.jsonl), 4,000 tokens, 300 windows, 150 documents, hash abababababab" in text


def test_a_strip_marks_what_equals_the_final_prediction():
    (strip,) = strips_of(strips())
    assert strip.tokens[:2] == ("The", "\u2423house")
    assert [cell.final for cell in strip.rows[-1] if cell] == [True] * 12
    assert [cell.final for cell in strip.rows[0] if cell] == [False] * 12
    top = strip.rows[-1][0]
    assert top is not None
    assert [p for _, p in top.top] == sorted((p for _, p in top.top), reverse=True)


@pytest.mark.parametrize(
    ("token", "seen"),
    [
        (" a", "\u2423a"),
        ("\n", "\u23ce"),
        ("\t", "\u2409"),
        ("", "(empty)"),
        ("\u202ex", "[U+202E]x"),
        ("\x00", "[U+0000]"),
        ("\u200b", "[U+200B]"),
        ("\ud800", "[U+D800]"),
        ("\xa0", "[U+00A0]"),
        ("家", "家"),
        ("שלום", "שלום"),
    ],
)
def test_what_cannot_be_seen_becomes_visible(token: str, seen: str):
    assert visible(token) == seen


def test_tables_hold_every_number_of_a_measurement():
    found = logit_lens().findings.measurements
    (table,) = tables_of({"kl_to_final": found["kl_to_final"]})
    assert table.columns == ("state", "kl_to_final (nats)", "interval", "n", "items")
    assert [row[0] for row in table.rows] == [str(s) for s in range(L + 1)]
    assert table.rows[0][1:] == ("11", "10.45 to 11.55", "24", "2,040")


def test_a_grid_says_why_cells_are_missing():
    table = tables_of({"entropy": head_patterns()["entropy"]})[0]
    assert table.rows[3][1:] == (MISSING,) * 8
    assert "layer 3 has no attention heads" in table.note


def test_three_axes_are_listed_row_by_row():
    axes = {"state": np.arange(2), "transition": np.array(["a", "b"]), "mode": np.array(["x"])}
    (table,) = tables_of({"m": Measurement("m", axes, np.arange(4.0).reshape(2, 2, 1), "1")})
    assert [row[:4] for row in table.rows] == [
        ("0", "a", "x", "0"),
        ("0", "b", "x", "1"),
        ("1", "a", "x", "2"),
        ("1", "b", "x", "3"),
    ]
    assert table.heads == 3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234567.0, "1.235e+06"),
        (8192.0, "8,192"),
        (0.12345, "0.1235"),
        (-0.5, "\u22120.5"),
        (np.nan, "–"),
        (None, "–"),
    ],
)
def test_numbers_are_short(value: float | None, text: str):
    assert number(value) == text


def test_every_id_in_the_contents_exists(html: str):
    ids = set(re.findall(r'\bid="([^"]+)"', html))
    assert set(re.findall(r'href="#([^"]+)"', html)) <= ids
