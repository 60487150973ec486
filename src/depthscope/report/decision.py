"""The decision report: one self-contained HTML page, Markdown, JSON and one CSV a table, from a stored decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from depthscope.report.assets import FILES, style_sheet
from depthscope.report.decision_chart import NARROW, WIDE, chart_svg
from depthscope.report.grids import Grid, grids
from depthscope.report.markdown import markdown
from depthscope.report.words import Words, phrases
from depthscope.results.decision import STEPS, Decision, Step, Variant
from depthscope.store.atomic import make_folder, read_json, write_json, write_text

JSON = "decision.json"
HEADLINE = ("decision", "saving", "exceptions", "confidence", "next")
"""The five lines of the first screen."""
SHOWN_PER_VERSION, SHOWN = 3, 12
"""The most lost items that the page shows of one version, and in all; the CSV has every one."""
TABLES: Mapping[str, tuple[str, ...]] = {
    "task_sheet": ("tasks",), "depth": ("layers",), "stress": ("math", "outputs"),
    "width_and_retraining": ("widths",), "rollout": ("routing",),
}  # fmt: skip
"""The tables of each step; versions by task are shared among the steps in which they came in."""


@dataclass(frozen=True)
class Lost:
    """A lost item as the page shows it."""

    version: str
    task: str
    item: str
    prompt: str
    expected: str
    before: str
    after: str
    must_pass: bool


@dataclass(frozen=True)
class Part:
    """One step as the page shows it: sentences, a boxed caution, tables, lost items, a closing note."""

    title: str
    state: str
    said: tuple[str, ...]
    box: str = ""
    grids: tuple[Grid, ...] = ()
    lost: tuple[Lost, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Page:
    """All that the page and the Markdown say, in order."""

    title: str
    lead: str
    headline: tuple[tuple[str, str], ...]
    comparison: tuple[Grid, ...]
    meeting: tuple[str, ...]
    risks: tuple[str, ...]
    parts: tuple[Part, ...]
    origin: tuple[Grid, ...]
    p: Mapping[str, str]


def write_decision(decision: Decision, out: Path, language: str) -> dict[str, Path]:
    """Write decision.json, decision.<language>.html and .md, and tables/*.csv; returns where each is.

    JSON and CSV hold raw numbers and keys and do not depend on the language.

    Raises:
        UnknownName: for a language without phrases. StoreError: when a file cannot be written.
    """
    words = Words(decision, language)
    phrases(language)  # an unknown language is refused before anything is written
    found = grids(decision, words)
    page = _page(decision, words, found)
    paths = {
        "json": out / JSON,
        "html": out / f"decision.{language}.html",
        "markdown": out / f"decision.{language}.md",
    }
    tables = make_folder(out / "tables")
    write_json(paths["json"], decision.as_json())
    for key, grid in found.items():
        write_text(tables / f"{key}.csv", grid.csv())
    for stale in {path for path in tables.glob("*.csv") if path.stem not in found}:
        stale.unlink()
    write_text(paths["markdown"], markdown(page))
    write_text(paths["html"], html(decision, words, page))
    return {**paths, "tables": tables}


def read_decision(path: Path) -> Decision:
    """The decision in a folder or a JSON file.

    Raises:
        StoreError: when it is missing, damaged, or of another schema.
    """
    return Decision.of(read_json(path / JSON if path.is_dir() else path))


def html(decision: Decision, words: Words, page: Page) -> str:
    """The page of a decision as one HTML text without scripts or requests."""
    drawn = {"wide": chart_svg(decision, words, WIDE), "narrow": chart_svg(decision, words, NARROW)}
    return still(page, words.language, drawn)


def still(page: Page, language: str, drawn: Mapping[str, str]) -> str:
    """A page as one HTML text without scripts or requests.

    Args:
        drawn: the chart as SVG, `wide` and `narrow`, each "" without one.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FILES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True
    )  # fmt: skip
    css = style_sheet() + (FILES / "decision.css").read_text(encoding="utf-8")
    return environment.get_template("decision.html.j2").render(
        vars(page) | dict(drawn) | {"css": css, "language": language}
    )


def _page(decision: Decision, words: Words, found: Mapping[str, Grid]) -> Page:
    said = [words.say(one) for one in decision.headline]
    names = [words.t("headline", key) for key in HEADLINE]
    return Page(
        title=decision.title,
        lead=words.t("page", "lead", base=decision.base),
        headline=tuple(zip(names, said, strict=True)),
        comparison=tuple(found[key] for key in ("core", "versions") if key in found),
        meeting=tuple(words.say(one) for one in decision.meeting),
        risks=tuple(words.say(one) for one in decision.risks),
        parts=tuple(_part(decision, words, found, step) for step in decision.steps),
        origin=tuple(found[key] for key in ("origin",) if key in found),
        p=phrases(words.language)["page"],
    )


def _part(decision: Decision, words: Words, found: Mapping[str, Grid], step: Step) -> Part:
    name = STEPS[step.number - 1]
    part = Part(words.t("step", name), step.state, tuple(words.say(one) for one in step.said))
    if step.state != "done":
        return part
    shown = [found[key] for key in TABLES.get(name, ()) if key in found]
    here = {variant.name for variant in decision.variants if variant.step == step.number}
    if here and "results" in found:
        shown.append(_only(found["results"], here))
    if name == "depth" and decision.depth is not None:
        full = words.t("page", "full_results", run=decision.depth.run)
        return replace(part, grids=tuple(shown), box=words.t("page", "diagnosis_not"), note=full)
    if name == "width_and_retraining" and decision.width is not None:
        full = words.t("page", "full_results", run=decision.width.run)
        return replace(part, grids=tuple(shown), note=full)
    if name == "stress":
        lost = _lost(decision.variants, words)
        every = sum(len(variant.regressions) for variant in decision.variants)
        note = (
            words.t("page", "regressions_more", shown=len(lost), all=every)
            if every
            else words.t("page", "no_regressions")
        )
        return replace(part, grids=tuple(shown), lost=lost, note=note)
    return replace(part, grids=tuple(shown))


def _only(grid: Grid, versions: set[str]) -> Grid:
    return replace(grid, rows=tuple(row for row in grid.rows if row[0].raw[0] in versions))


def _lost(variants: Sequence[Variant], words: Words) -> tuple[Lost, ...]:
    """Items to show: of each version those that must pass first."""
    shown: list[Lost] = []
    for variant in variants:
        ordered = sorted(variant.regressions, key=lambda one: not one.must_pass)
        for r in ordered[:SHOWN_PER_VERSION]:
            texts: dict[str, Any] = {
                name: visible(getattr(r, name))
                for name in ("task", "item", "prompt", "expected", "before", "after")
            }
            shown.append(Lost(words.named(variant), must_pass=r.must_pass, **texts))
    return tuple(shown[:SHOWN])


def visible(text: str) -> str:
    """Model text with what has no look, or turns the writing direction, spelled out; line breaks stay."""
    return "".join(char if char.isprintable() or char == "\n" else f"[U+{ord(char):04X}]" for char in text)
