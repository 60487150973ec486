"""The tables of a decision: typed cells, so that page, Markdown and CSV show the same numbers each in its way."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from depthscope.report.words import MISSING, Words, amount_digits
from depthscope.results.decision import Decision, Estimate, TaskFound, Variant


@dataclass(frozen=True)
class Cell:
    """One cell: the text that is shown, and the raw values that CSV holds.

    Args:
        shown: for the page. raw: one value, or the four of an estimate. mark: of its look, such as "reject".
    """

    shown: str
    raw: tuple[object, ...]
    mark: str = ""


@dataclass(frozen=True)
class Grid:
    """One table: its key, the keys of its columns with their headings, and its rows.

    Args:
        key: file name of its CSV. parts: of each column, the suffixes of its CSV columns ("" for a single one).
        heads: how many columns head a row. wide: columns that hold long text.
    """

    key: str
    title: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Cell, ...], ...]
    heads: int = 1

    def csv(self) -> str:
        """The table as CSV: raw numbers, an estimate as value, low, high and n, keys instead of words."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        wide = [any(len(row[k].raw) == 4 for row in self.rows) for k in range(len(self.columns))]
        heads: list[str] = []
        for (key, _), estimate in zip(self.columns, wide, strict=True):
            heads += [key, f"{key}_low", f"{key}_high", f"{key}_n"] if estimate else [key]
        writer.writerow(heads)
        for row in self.rows:
            cells: list[object] = []
            for cell, estimate in zip(row, wide, strict=True):
                cells += [*cell.raw, *[None] * (4 - len(cell.raw))] if estimate else cell.raw
            writer.writerow([_safe(value) for value in cells])
        return text.getvalue()


def grids(decision: Decision, words: Words) -> dict[str, Grid]:
    """Every table that the decision has rows for, by key."""
    made = (
        _core,
        _tasks,
        _versions,
        _results,
        _routing,
        _layers,
        _widths,
        _math,
        _outputs,
        _regressions,
        _origin,
    )
    found = (make(decision, words) for make in made)
    return {grid.key: grid for grid in found if grid.rows}


def _tasks(decision: Decision, words: Words) -> Grid:
    names = (
        "task", "owner", "type", "volume", "criticality", "proposed", "threshold", "allowed_drop", "items",
        "needed", "math",
        "multi_hop", "must_pass", "by",
    )  # fmt: skip
    rows = tuple(
        (
            _text(t.name), _text(t.owner), _value(words, t.type), _count(t.volume), _text(t.criticality),
            _text(t.proposed),
            _plain(t.threshold), Cell(f"{100 * t.allowed_drop:g}", (t.allowed_drop,)), _count(t.items),
            _count(t.needed),
            _count(t.math), _count(t.multi_hop), _count(t.must_pass),
            Cell(words.joined([words.t("value", by) for by in t.by]), (" ".join(t.by),)),
        )
        for t in decision.tasks
    )  # fmt: skip
    return Grid("tasks", words.t("table", "tasks"), _headed(words, names), rows)


def _core(decision: Decision, words: Words) -> Grid:
    """One row a version: layers, cost, the change and verdict on each task, and what it is proposed for."""
    cost = "cost_money" if decision.currency else "cost_time"
    names = ("version", "layers", cost, "saving")
    after = ("math", "adopt", "keep", "open", "example", "pareto")
    columns = (
        *_headed(words, names, decision.currency),
        *((f"change: {task.name}", task.name) for task in decision.tasks),
        *_headed(words, after),
    )
    rows = tuple(
        (
            _named(words, v), _count(v.layers), _estimate(words, v.cost, digits=amount_digits(v.cost)),
            _estimate(words, v.saving, 100.0, sign=True), *(_short_result(words,
            v.on(task.name)) for task in decision.tasks),
            _estimate(words, v.math, 100.0, sign=True), _names(words, v.accepted), _names(words, v.rejected),
            _names(words, v.open), _example(v), Cell(words.t("value", "yes" if v.pareto else "no"), (v.pareto,)),
        )
        for v in decision.variants
    )  # fmt: skip
    return Grid("core", words.t("table", "core"), columns, rows)


def _short_result(words: Words, found: TaskFound | None) -> Cell:
    if found is None:
        return Cell(MISSING, (None,) * 4)
    raw = (found.change.value, found.change.low, found.change.high, found.change.n)
    if found.verdict == "base":
        return Cell(f"{words.cell(found.score, 100.0)} %", raw)
    shown = f"{words.cell(found.change, 100.0, sign=True)} {words.t('verdict', found.verdict)}"
    return Cell(shown, raw, found.verdict)


def _example(variant: Variant) -> Cell:
    """The item that speaks most against a version: one that must pass, else the first that was lost."""
    first = next(iter(sorted(variant.regressions, key=lambda one: not one.must_pass)), None)
    return _text("" if first is None else f"{first.task}: {first.item}")


def _versions(decision: Decision, words: Words) -> Grid:
    names = ("version", "layers", "removed", "parameters", "bytes", "kv", "prefill", "decode", "loss")
    rows = tuple(
        (
            _named(words, v), _count(v.layers), Cell(_spans(v.removed), (" ".join(map(str, v.removed)),)),
            _count(v.parameters),
            _count(v.bytes), _count(v.kv), _estimate(words, v.prefill, digits=0), _estimate(words, v.decode,
            digits=0),
            _estimate(words, v.loss, digits=3),
        )
        for v in decision.variants
    )  # fmt: skip
    return Grid("versions", words.t("table", "versions"), _headed(words, names), rows)


def _results(decision: Decision, words: Words) -> Grid:
    names = ("version", "task", "score", "change", "verdict", "more", "lost", "won", "p", "must_pass", "by")
    rows = tuple(
        (_named(words, v), *_result(words, found)) for v in decision.variants for found in (*v.tasks, *v.also)
    )
    return Grid("results", words.t("table", "results"), _headed(words, names), rows, heads=2)


def _result(words: Words, found: TaskFound) -> tuple[Cell, ...]:
    return (
        _text(found.task), _estimate(words, found.score, 100.0), _estimate(words, found.change, 100.0, sign=True),
        Cell(words.t("verdict", found.verdict), (found.verdict,), found.verdict), _count(found.more),
        _count(found.lost),
        _count(found.won), Cell(MISSING if found.p is None else f"{found.p:.3g}", (found.p,)), _names(words,
        found.failed),
        _value(words, found.by),
    )  # fmt: skip


def _routing(decision: Decision, words: Words) -> Grid:
    names = ("task", "version", "volume", "base_month", "month", "reason")
    rows: list[tuple[Cell, ...]] = [
        (
            _text(r.task), Cell(words.variant(r.variant), (r.variant,)), _count(r.volume),
            _estimate(words, r.base_cost, digits=amount_digits(r.base_cost)),
            _estimate(words, r.cost, digits=amount_digits(r.cost)), _value(words, r.reason),
        )
        for r in decision.routes
    ]  # fmt: skip
    if len(rows) > 1:
        rows.append(_total(decision, words))
    return Grid("routing", words.t("table", "routing"), _headed(words, names), tuple(rows))


def _total(decision: Decision, words: Words) -> tuple[Cell, ...]:
    sums = [_added([getattr(route, part) for route in decision.routes]) for part in ("base_cost", "cost")]
    return (
        Cell(words.t("value", "total"), ("total",)), _text(""), _count(sum(r.volume for r in decision.routes)),
        *(_estimate(words, one, digits=amount_digits(one)) for one in sums), _text(""),
    )  # fmt: skip


def _layers(decision: Decision, words: Words) -> Grid:
    names = ("layer", "all_tokens", "later_tokens", "write", "kl_to_final")
    lines = decision.depth.lines if decision.depth else ()
    rows = tuple(
        (_count(line.layer), *(_estimate(words, getattr(line, name), digits=3) for name in names[1:]))
        for line in lines
    )
    return Grid("layers", words.t("table", "layers"), _headed(words, names), rows)


def _widths(decision: Decision, words: Words) -> Grid:
    lines = decision.width.lines if decision.width else ()
    rows = tuple(
        (_count(line.state), _estimate(words, line.directions, digits=0), _estimate(words, line.share, 100.0))
        for line in lines
    )
    return Grid("widths", words.t("table", "widths"), _headed(words, ("state", "directions", "share")), rows)


def _math(decision: Decision, words: Words) -> Grid:
    rows = tuple(
        (
            _named(words, v), _count(v.math.n), _estimate(words, v.math, 100.0, sign=True),
            Cell(words.t("verdict", v.math_verdict), (v.math_verdict,), v.math_verdict),
        )
        for v in decision.variants
        if v.math_verdict not in ("base", "not_tested")
    )  # fmt: skip
    names = ("version", "items", "change", "verdict")
    return Grid("math", words.t("table", "math"), _headed(words, names), rows)


def _outputs(decision: Decision, words: Words) -> Grid:
    names = ("version", "task", "repeated", "truncated", "malformed", "length")
    rows = tuple(
        (
            _named(words, v), _text(out.task), *(_estimate(words, getattr(out, name), 100.0) for name in names[2:5]),
            _estimate(words, out.length),
        )
        for v in decision.variants
        for out in v.outputs
    )  # fmt: skip
    return Grid("outputs", words.t("table", "outputs"), _headed(words, names), rows, heads=2)


def _regressions(decision: Decision, words: Words) -> Grid:
    names = ("version", "task", "item", "must_pass", "prompt", "expected", "before", "after")
    rows = tuple(
        (
            _named(words, v), _text(r.task), _text(r.item), Cell(words.t("value", "yes" if r.must_pass else "no"),
            (r.must_pass,)),
            _text(r.prompt), _text(r.expected), _text(r.before), _text(r.after),
        )
        for v in decision.variants
        for r in v.regressions
    )  # fmt: skip
    return Grid("regressions", words.t("table", "regressions"), _headed(words, names), rows, heads=3)


def _origin(decision: Decision, words: Words) -> Grid:
    packaged = {("text", "packaged sample"): words.t("origin", "packaged")}
    rows = tuple(
        (Cell(words.t("origin", key), (key,)), _text(packaged.get((key, str(value)), str(value))))
        for key, value in decision.provenance.items()
        if value not in (None, "")
    )
    return Grid("origin", words.t("table", "origin"), _headed(words, ("what", "value")), rows)


def _headed(words: Words, names: Sequence[str], currency: str = "") -> tuple[tuple[str, str], ...]:
    return tuple((name, words.t("column", name, currency=currency)) for name in names)


def _named(words: Words, variant: Variant) -> Cell:
    return Cell(words.named(variant), (variant.name,))


def _text(text: str) -> Cell:
    return Cell(text, (text,))


def _value(words: Words, key: str) -> Cell:
    return Cell(words.t("value", key) if key else MISSING, (key,))


def _names(words: Words, names: Sequence[str]) -> Cell:
    return Cell(words.joined(names), ("; ".join(names),))


def _count(value: float | int | None) -> Cell:
    return Cell(MISSING if value is None else f"{value:,.0f}", (value,))


def _plain(value: float | None) -> Cell:
    return Cell(MISSING if value is None else f"{value:g}", (value,))


def _estimate(
    words: Words, found: Estimate, factor: float = 1.0, digits: int = 1, sign: bool = False
) -> Cell:
    return Cell(words.cell(found, factor, digits, sign), (found.value, found.low, found.high, found.n))


def _added(found: Sequence[Estimate]) -> Estimate:
    """The sum of estimates, ends added; unknown where one is."""
    if not found or not all(one.bounded for one in found):
        return Estimate()
    value, low, high = (sum(float(getattr(one, part)) for one in found) for part in ("value", "low", "high"))
    return Estimate(value, low, high)


def _spans(layers: Sequence[int]) -> str:
    """Layer numbers with runs joined: 3, 7–9."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs) or MISSING


def _safe(value: object) -> object:
    """A CSV cell that no spreadsheet takes for a formula; None is empty."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return "" if value is None else value
