"""The page of a choice of layer for those who will use it: one self-contained HTML file and the same as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from depthscope.report.decision import Page, Part, still, visible
from depthscope.report.decision_chart import NARROW, WIDE
from depthscope.report.grids import Cell, Grid
from depthscope.report.layer_chart import chart_svg
from depthscope.report.markdown import markdown
from depthscope.report.words import MISSING, Words, phrases
from depthscope.results.decision import Decision, Estimate
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result
from depthscope.store.atomic import read_json, write_text
from depthscope.store.run import Run

ANALYSIS = "choose_layer"
ALL_WORK = 0.995
"""From this share of all work on, the search saved no reading that could be told."""
FEW = 100
"""Fewer items kept back than this are a caution."""
HEADLINE = ("choice", "evidence", "saving", "robust", "next")


def write_layer_page(run: Run, language: str) -> dict[str, Path]:
    """Write choice.<language>.html and .md into the run folder; returns where they are.

    Raises:
        UnknownName: for a language without phrases. StoreError: when a file cannot be written.
    """
    phrases(language)
    story = Story(run, language)
    page = story.page()
    paths = {"html": run.path / f"choice.{language}.html", "markdown": run.path / f"choice.{language}.md"}
    write_text(paths["markdown"], markdown(page))
    write_text(
        paths["html"], still(page, language, {"wide": story.chart(WIDE), "narrow": story.chart(NARROW)})
    )
    return paths


@dataclass(frozen=True)
class Story:
    """What a finished choice says in one language."""

    run: Run
    language: str

    @cached_property
    def found(self) -> Result:
        """The result of the choice."""
        return self.run[ANALYSIS]

    @cached_property
    def about(self) -> Mapping[str, Any]:
        """The choice itself."""
        return self.found.findings.artefacts["choice"]

    @cached_property
    def words(self) -> Words:
        """The words of the language."""
        name = str(self.about["model"])
        return Words(Decision(name, name, "", (), (), (), (), ()), self.language)

    @cached_property
    def encoder(self) -> Mapping[str, Any] | None:
        """What was exported, if anything was."""
        path = self.run.path / "artefacts" / "encoder.json"
        return read_json(path) if path.is_file() else None

    def t(self, key: str, **slots: Any) -> str:
        """A word of the page."""
        return self.words.t("layer", key, **slots)

    def say(self, key: str, **slots: Any) -> str:
        """A sentence."""
        return self.words.t("layer_said", key, **slots)

    def page(self) -> Page:
        """Everything in order."""
        origin = self._pairs("origin", "about", self._origin())
        return Page(
            title=self.t("title", model=visible(str(self.about["model"])), task=visible(str(self.about["task"]))),
            lead=self.t("lead"),
            headline=tuple(zip(map(self.t, HEADLINE), self._headline(), strict=True)),
            comparison=(self._compared(), self._states()),
            meeting=(),
            risks=tuple(self.cautions()),
            parts=tuple(self._parts()),
            origin=(origin,),
            p={**phrases(self.language)["page"], **phrases(self.language)["layer"]},
        )  # fmt: skip

    def chart(self, width: int) -> str:
        """The chart as SVG."""
        titles = (self.t("chart_x"), self.t("chart_y", metric=str(self.about["metric"])))
        return chart_svg(self.found["score"], self.found["survived"], int(self.about["state"]), titles, width)

    def _headline(self) -> list[str]:
        about, depth = self.about, int(self.about["depth"])
        last = int(about["state"]) == depth
        norm = self.t("on" if about["norm"] else "off")
        return [
            self.say("choice_last" if last else "choice_earlier", state=about["state"], depth=depth, norm=norm,
                     pooling=about["pooling"]),
            self._evidence(), self.saving(), self._robust(), self._next(),
        ]  # fmt: skip

    def _evidence(self) -> str:
        if self.about["verdict"] == "last":
            return self.say(f"evidence_{self.about['why']}")
        if self.about["verdict"] == "unknown":
            return self.say("evidence_unknown")
        reported = self.found["reported_score"]
        return self.say(
            f"evidence_{self.about['verdict']}", metric=self.about["metric"], picked=self.about["picked"],
            chosen=_at(reported, variant="chosen"), last=_at(reported, variant="last"),
            difference=_at(self.found["difference"]),
        )  # fmt: skip

    def saving(self) -> str:
        """How many parameters are saved, and how much time where the whole range is less."""
        state, depth = int(self.about["state"]), int(self.about["depth"])
        if state == depth:
            return self.say("saving_none")
        own, whole = (_at(self.found["seconds"], state=s) for s in (state, depth))
        parameters = self.found["parameters"]
        share = Estimate(
            1 - _ratio(own.value, whole.value),
            1 - _ratio(own.high, whole.low),
            1 - _ratio(own.low, whole.high),
        )
        key = "saving_some" if (share.low or 0.0) > 0 else "saving_parameters"
        return self.say(key, own=parameters.at(state=state), all=parameters.at(state=depth), time=share)

    def _robust(self) -> str:
        flips = self.found["flip_rate"]
        return self.say(
            "robust_told",
            rate=_at(flips, state=int(self.about["state"])),
            last=_at(flips, state=int(self.about["depth"])),
        )

    def _next(self) -> str:
        if self.encoder is None:
            return self.say("next_export")
        return self.say(
            "next_exported", path=visible(str(self.encoder["path"])), metric=self.about["metric"],
            outside=f"{self.encoder['outside']:.3f}", inside=f"{self.encoder['inside']:.3f}",
        )  # fmt: skip

    def cautions(self) -> list[str]:
        """What the choice does not cover, and what is odd about its items."""
        about, clean = self.about, self.about["sanity"]
        reported = self.found["reported_score"]
        words, chosen = _at(reported, variant="words"), _at(reported, variant="chosen")
        told = [self.say("risk_one_task", task=visible(str(about["task"])))]
        if about["items"]["reporting"] < FEW:
            told.append(self.say("risk_few", items=about["items"]["reporting"]))
        if about["left_out"]:
            told.append(self.say("risk_left_out", labels=[visible(str(x)) for x in about["left_out"][:5]]))
        for key, slot in (("shared", "texts"), ("conflicts", "texts"), ("duplicates", "rows")):
            if clean[key]:
                told.append(self.say(f"risk_{key}", **{slot: clean[key]}))
        if words.bounded and (words.value or 0) >= (chosen.value or 0):
            told.append(self.say("risk_words", words=words))
        if not about["norm"] and int(about["state"]) > 0:  # state 0 is a table of words, without any block
            told.append(self.say("risk_norm_block"))
        return told

    def _parts(self) -> list[Part]:
        clean = self.about["sanity"]
        checks = [(self.t(f"check_{key}"), _said(value)) for key, value in clean.items() if key != "blocks"]
        found = [
            Part(self.t("part_checks"), "done", (), grids=(self._pairs("checks", "check", checks),)),
            Part(self.t("part_search"), "done", self._searched(), grids=(self._rounds(),)),
            Part(self.t("part_noise"), "done", self._passed(), grids=(self._noise(),)),
            Part(self.t("part_cost"), "done", (), grids=(self._costs(),)),
        ]
        if self.encoder is not None:
            found.append(Part(self.t("part_export"), "done", (), grids=(self._exported(self.encoder),)))
        return found

    def _searched(self) -> tuple[str, ...]:
        score, share = self.found["score"], self.found["block_share"].scalar()
        looked, states = len(score.axes["state"]), int(self.about["depth"]) + 1
        said = [self.say("search_told", looked=looked, states=states, best=self.about["best"])]
        if share < ALL_WORK:
            said.append(self.say("search_depth", share=f"{share:.2f}"))
        sides = self.about["sides"]
        return (
            *said,
            *([self.say("norm_sides", **{k: f"{v:.3f}" for k, v in sides.items()})] if sides else []),
        )

    def _passed(self) -> tuple[str, ...]:
        passed = self.about["passed_over"]
        return (self.say("noise_passed", states=[str(s) for s in passed]),) if passed else ()

    def _compared(self) -> Grid:
        reported = self.found["reported_score"]
        slots = {"chosen": self.about["picked"], "last": self.about["depth"]}
        rows = [
            (
                Cell(self.t(f"who_{who}", **({"state": slots[who]} if who in slots else {})), (who,)),
                self._estimate(reported, variant=who),
            )
            for who in map(str, reported.axes["variant"])
            if not (who == "last" and self.about["picked"] == self.about["depth"])
        ]  # fmt: skip
        return self._grid("compared", ("who", "score"), rows)

    def _states(self) -> Grid:
        score, kept = self.found["score"], self.found["survived"]
        rows = [
            (Cell(str(s), (s,)), self._estimate(score, state=s), self._yes(kept.at(state=s) > 0))
            for s in map(int, score.axes["state"])
        ]
        return self._grid("states", ("state", "score", "on_all"), rows)

    def _rounds(self) -> Grid:
        table = self.found.findings.examples["rounds"].columns
        named = {"all": self.t("all"), "none": self.t("none")}
        rows = [
            tuple(Cell(named.get(str(x), str(x)), (str(x),)) for x in row)
            for row in zip(table["items"], table["scored"], table["dropped"], strict=True)
        ]
        return self._grid("rounds", ("items", "scored", "dropped"), rows)

    def _noise(self) -> Grid:
        names = ("flip_rate", "noise_drop", "partner_found", "effective_rank")
        states = map(int, self.found["flip_rate"].axes["state"])
        rows = [
            (Cell(str(s), (s,)), self._estimate(self.found["flip_rate"], state=s),
             *(_plain(self.found[name].at(state=s), 1 if name == "effective_rank" else 3) for name in names[1:]))
            for s in states
        ]  # fmt: skip
        return self._grid("states", ("state", "flips", "drop", "found", "rank"), rows)

    def _costs(self) -> Grid:
        seconds = self.found["seconds"]
        rows = [
            (
                Cell(str(s), (s,)), _count(self.found["parameters"].at(state=s)),
                _plain(self.found["weight_bytes"].at(state=s) / 1e6, 1), self._estimate(seconds, 1000.0, 1, state=s),
            )
            for s in map(int, seconds.axes["state"])
        ]  # fmt: skip
        return self._grid("costs", ("state", "parameters", "megabytes", "milliseconds"), rows)

    def _exported(self, about: Mapping[str, Any]) -> Grid:
        told = {
            "path": about["path"], "width": about["width"], "bytes": f"{about['bytes']:,}",
            "inside": f"{about['inside']:.4f}", "outside": f"{about['outside']:.4f}",
            "difference": f"{about['checks']['difference']:.2g}",
        }  # fmt: skip
        return self._pairs("exported", "about", [(self.t(f"export_{k}"), str(v)) for k, v in told.items()])

    def _origin(self) -> list[tuple[str, str]]:
        manifest, about = self.run.manifest, self.about
        model = manifest.get("model", {})
        told = {
            "model": about["model"], "weights": str(model.get("weights_hash") or MISSING)[:16],
            "revision": model.get("revision") or MISSING, "task": f"{about['task']} ({about['task_hash']})",
            "items": f"{about['items']['choosing']}, {about['items']['reporting']}", "metric": about["metric"],
            "seed": manifest.get("seed", 0), "version": manifest.get("depthscope", ""),
            "command": manifest.get("command", ""),
        }  # fmt: skip
        return [(self.t(f"origin_{key}"), str(value)) for key, value in told.items()]

    def _pairs(self, key: str, head: str, rows: Sequence[tuple[str, str]]) -> Grid:
        cells = [(Cell(name, (name,)), Cell(visible(value), (value,))) for name, value in rows]
        title = self.t(key)
        return Grid(key, title, ((head, self.t(head)), ("value", self.t("value"))), tuple(cells))

    def _grid(self, key: str, columns: tuple[str, ...], rows: Sequence[tuple[Cell, ...]]) -> Grid:
        return Grid(key, self.t(key), tuple((c, self.t(c)) for c in columns), tuple(rows))

    def _yes(self, true: bool) -> Cell:
        return Cell(self.t("yes" if true else "no"), (true,))

    def _estimate(self, found: Measurement, factor: float = 1.0, digits: int = 3, **labels: Any) -> Cell:
        one = _at(found, **labels)
        return Cell(self.words.cell(one, factor, digits), (one.value, one.low, one.high, one.n))


def _at(found: Measurement, **labels: Any) -> Estimate:
    """One cell of a measurement with its interval; None where it is missing."""
    cell = found.select(**labels) if labels else found
    value, low, high = (
        None if a is None or not np.isfinite(a) else float(a) for a in (cell.value, cell.low, cell.high)
    )
    return Estimate(value, low, high, None if cell.n is None else int(cell.n))


def _ratio(top: float | None, bottom: float | None) -> float:
    return float("nan") if top is None or not bottom else top / bottom


def _plain(value: float, digits: int) -> Cell:
    return Cell(f"{value:.{digits}f}" if np.isfinite(value) else MISSING, (value,))


def _count(value: float) -> Cell:
    return Cell(f"{round(value):,}", (value,))


def _said(value: Any) -> str:  # noqa: ANN401  (a number or a word)
    return f"{value:.5g}" if isinstance(value, float) else json.dumps(value).strip('"')
