"""The decision report: one page without scripts in two languages, equal numbers everywhere, none without interval."""

from __future__ import annotations

import csv
import io
import json
import re
import string
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_up import HOSTILE, TASKS, decision

from depthscope.errors import BadInput, StoreError, UnknownName
from depthscope.report import decision as report
from depthscope.report.decision import read_decision, write_decision
from depthscope.report.markdown import plain
from depthscope.report.words import BOUNDED, Words, languages, phrases
from depthscope.results.decision import Decision, Estimate, Said

FORBIDDEN = re.compile(r"useless|役に立た|無駄|不要な層|FLOP", re.IGNORECASE)
INTERVAL = re.compile(r"95 ?%|measured range|実測の幅|\[")


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]):
        self.tags.append((tag, dict(attrs)))
        self.open = tag

    def handle_data(self, data: str):
        if self.open != "style":
            self.text += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up decision in both languages."""
    out = tmp_path_factory.mktemp("decision")
    for language in ("en", "ja"):
        write_decision(decision(), out, language)
    return out


@pytest.fixture(params=["en", "ja"])
def page(request: pytest.FixtureRequest, folder: Path) -> Page:
    return Page((folder / f"decision.{request.param}.html").read_text(encoding="utf-8"))


def test_what_is_written_is_read_back(folder: Path) -> None:
    assert read_decision(folder) == decision()
    assert sorted(path.name for path in folder.iterdir()) == [
        "decision.en.html", "decision.en.md", "decision.ja.html", "decision.ja.md", "decision.json", "tables",
    ]  # fmt: skip


def test_the_page_has_no_script_and_asks_for_nothing(page: Page) -> None:
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "form"}
    (policy,) = (a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in ("src", "href") or (value or "").startswith("#"), (tag, value)


def test_five_lines_come_first_and_charts_are_drawn_for_both_widths(page: Page) -> None:
    order = [tag for tag, _ in page.tags]
    assert order.index("dl") < order.index("svg") < order.index("table")
    assert order.count("svg") == 2
    assert sum(a.get("class") == "verdict" for t, a in page.tags if t == "section") == 1


def test_model_text_stays_text(page: Page) -> None:
    assert "<img src=x onerror=alert(1)>" in page.text
    assert "\u202e" not in page.text
    assert "\x1b" not in page.text
    assert "[U+202E]" in page.text


def test_titles_and_names_are_escaped_everywhere(tmp_path: Path) -> None:
    bad = '<b onclick="x">&'
    made = decision()
    tasks = tuple(replace(task, name=bad, owner=bad) for task in made.tasks)
    rows = tuple(replace(v, name=bad, kind="sibling") for v in made.variants)
    write_decision(
        replace(made, title=bad, tasks=tasks, variants=rows, provenance={"command": bad}), tmp_path, "en"
    )
    page = Page((tmp_path / "decision.en.html").read_text(encoding="utf-8"))
    assert "b" not in {tag for tag, _ in page.tags}
    assert bad in page.text
    text = (tmp_path / "decision.en.md").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)<b", text)


def test_languages_have_the_same_phrases_and_slots() -> None:
    first, second = (phrases(language) for language in languages())
    assert first.keys() == second.keys()
    for section, words in first.items():
        assert words.keys() == second[section].keys(), section
        for key, text in words.items():
            assert slots(text) == slots(second[section][key]), (section, key)


def slots(text: str) -> set[tuple[str, str]]:
    """The slots of a phrase with their forms; English may say a number in words, so only what both name must agree."""
    return {(name, form or "") for _, name, form, _ in string.Formatter().parse(text) if name is not None}


def test_sentences_are_japanese_where_japanese_is_asked_for() -> None:
    text = " ".join(phrases("ja")["said"].values())
    assert not re.search(r"[a-z]{4,}", re.sub(r"\{[^}]*\}", "", text))


@pytest.mark.parametrize("reason", ["regulated", "must_pass", "math", "volume", "default"])
def test_why_the_rules_propose_another_criticality_is_said_in_words(reason: str) -> None:
    said = Said.of("sheet.criticality", task="甲", given="C", proposed="B", because=reason)
    for language in languages():
        assert phrases(language)["because"][reason] in Words(decision(), language).say(said)
    assert not re.search(r"[a-z]{2,}", Words(decision(), "ja").say(said))


def test_where_the_packaged_text_ranked_layers_the_origin_says_so_in_both_languages(tmp_path: Path) -> None:
    made = replace(decision(), provenance={"text": "packaged sample", "tokens": 1024})
    for language in languages():
        write_decision(made, tmp_path, language)
        written = (tmp_path / f"decision.{language}.md").read_text(encoding="utf-8")
        assert phrases(language)["origin"]["packaged"] in written


@pytest.mark.parametrize("language", ["en", "ja"])
def test_no_sentence_holds_a_percentage_or_points_without_an_interval(language: str) -> None:
    form = phrases(language)["form"]
    for name in BOUNDED:
        assert {"value", "low", "high"} <= {slot for slot, _ in slots(form[name])}, name
    for section in ("said", "page"):
        for key, text in phrases(language)[section].items():
            bare = re.sub(r"\{[^}]*\}", "", text)
            assert "%" not in bare, (section, key)
            assert not FORBIDDEN.search(bare), (section, key)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_every_percentage_on_the_page_has_its_interval(folder: Path, language: str) -> None:
    text = (folder / f"decision.{language}.md").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("- ") and re.search(r"\d ?%", line):
            assert INTERVAL.search(line), line
    assert not FORBIDDEN.search(text)


def test_an_estimate_without_interval_may_not_be_said() -> None:
    words = Words(decision(), "en")
    with pytest.raises(BadInput, match="without its interval"):
        words.say(Said.of("math.reject", variant="ladder-3", change=Estimate(-0.1, n=400)))
    assert words.cell(Estimate(0.5), 100.0) == "–"


def test_numbers_are_said_as_people_write_them() -> None:
    words = Words(decision(), "en")
    found = Estimate(-0.0321, -0.051, 0.0, 210)
    assert words.say(Said.of("math.undecided", variant="ladder-3", change=found)).startswith(
        "present-1b without 3 of 30 layers on items that need arithmetic: "
        "−3.2 points (95 % interval −5.1 to 0.0, n = 210)"
    )
    assert "1 point that" in words.say(
        replace(decision().meeting[1], slots={**decision().meeting[1].slots, "allowed": 0.01})
    )
    japanese = Words(decision(), "ja")
    assert "−3.2ポイント（95%信頼区間 −5.1〜0.0、n=210）" in japanese.say(
        Said.of("math.undecided", variant="ladder-3", change=found)
    )


def test_html_markdown_and_csv_show_the_numbers_of_the_json(folder: Path) -> None:
    stored = json.loads((folder / "decision.json").read_text(encoding="utf-8"))
    rows = list(csv.DictReader(io.StringIO((folder / "tables" / "results.csv").read_text(encoding="utf-8"))))
    said = [task for variant in stored["variants"] for task in variant["tasks"]]
    assert len(rows) == len(said) == 9
    html = (folder / "decision.en.html").read_text(encoding="utf-8")
    text = (folder / "decision.en.md").read_text(encoding="utf-8")
    for row, task in zip(rows, said, strict=True):
        for part in ("value", "low", "high"):
            number = task["score"][part]
            assert float(row["score" if part == "value" else f"score_{part}"]) == number
            assert f"{100 * number:.1f}" in html
            assert f"{100 * number:.1f}" in text


def test_csv_does_not_depend_on_the_language_and_starts_no_formula(tmp_path: Path, folder: Path) -> None:
    made = replace(decision(), provenance={"command": "=HYPERLINK(1)"})
    write_decision(made, tmp_path, "ja")
    assert (tmp_path / "tables" / "core.csv").read_bytes() == (folder / "tables" / "core.csv").read_bytes()
    assert "command,'=HYPERLINK(1)" in (tmp_path / "tables" / "origin.csv").read_text(encoding="utf-8")


def test_tables_of_an_earlier_decision_do_not_stay(tmp_path: Path) -> None:
    write_decision(decision(), tmp_path, "en")
    write_decision(replace(decision(), routes=(), depth=None), tmp_path, "en")
    assert not (tmp_path / "tables" / "routing.csv").exists()
    assert not (tmp_path / "tables" / "layers.csv").exists()


def test_a_decision_without_measurements_is_a_page_too(tmp_path: Path) -> None:
    made = replace(decision(), variants=(), depth=None, routes=(), meeting=(), risks=())
    write_decision(replace(made, headline=made.headline[4:] * 5), tmp_path, "ja")
    assert Page((tmp_path / "decision.ja.html").read_text(encoding="utf-8")).text.count(TASKS[0]) == 1


def test_an_unknown_language_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'ja'"):
        write_decision(decision(), tmp_path, "jp")
    assert not list(tmp_path.iterdir())


def test_a_damaged_decision_is_a_clear_error(tmp_path: Path) -> None:
    stored = decision().as_json()
    for broken in (
        {**stored, "schema": 0},
        {**stored, "extra": 1},
        {k: v for k, v in stored.items() if k != "base"},
    ):
        with pytest.raises(StoreError, match="run `decide` again"):
            Decision.of(broken)
    with pytest.raises(StoreError):
        read_decision(tmp_path / "nowhere.json")


def test_markdown_signs_in_model_text_mean_nothing() -> None:
    assert plain("a | **b**\n<i> `c` [d](e)") == r"a \| \*\*b\*\* \<i\> \`c\` \[d\](e)"
    assert HOSTILE.splitlines()[0][:9] == "</script>"
    assert report.visible("a\tb\nc\u202e") == "a[U+0009]b\nc[U+202E]"
