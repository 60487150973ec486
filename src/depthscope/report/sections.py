"""One section of the page per analysis. What cannot be drawn, section or chart, says so; the rest stands."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from depthscope.registry import PLOTS
from depthscope.report.assets import as_json
from depthscope.report.correlates import METRICS, metric_table
from depthscope.report.example_tables import example_tables
from depthscope.report.head_grid import HeadGrid, head_grid
from depthscope.report.strips import Strip, strips_of
from depthscope.report.tables import PageTable, tables_of
from depthscope.report.written import Passage, passages_of
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result
from depthscope.store.run import Run


@dataclass(frozen=True)
class Chart:
    """One chart: title, second line, text alternative, specification as JSON; and the tables behind it."""

    name: str
    title: str
    note: str = ""
    description: str = ""
    spec: str = ""
    tables: tuple[PageTable, ...] = ()
    broken: str = ""


@dataclass(frozen=True)
class Section:
    """What the page says about one analysis."""

    name: str
    title: str
    text: Mapping[str, str]
    charts: tuple[Chart, ...] = ()
    strips: tuple[Strip, ...] = ()
    strips_broken: str = ""
    passages: tuple[Passage, ...] = ()
    passages_broken: str = ""
    tables: tuple[PageTable, ...] = ()
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    broken: str = ""
    grid: HeadGrid | None = None
    grid_broken: str = ""
    examples: tuple[PageTable, ...] = ()
    examples_broken: str = ""
    beside: PageTable | None = None


def section(run: Run, name: str) -> Section:
    """The section of one analysis; never raises, a broken result gives a section that says what is wrong."""
    try:
        return _section(run, name, run[name])
    except Exception as error:  # noqa: BLE001  (the promise of this function)
        return Section(name, name.replace("_", " "), {}, broken=_reason(error))


def _section(run: Run, name: str, result: Result) -> Section:
    charts = tuple(_chart(plot, draw, result) for plot, draw in _plots_for(result))
    drawn = {m for _, draw in _plots_for(result) for m in _about(draw, "READS", ())}
    rest = {m: found for m, found in result.findings.measurements.items() if m not in drawn}
    strips, strips_broken = _strips(result)
    grid, grid_broken = _grid(result)
    passages, passages_broken = _passages(result)
    examples, examples_broken = _examples(result)
    text = result.text
    words = {
        "Question": text.question,
        "How to read": text.how_to_read,
        "What can mislead": text.what_misleads,
        "Method": text.method,
        "Source": text.source,
    }
    return Section(
        name,
        text.title,
        words,
        charts,
        strips,
        strips_broken,
        passages,
        passages_broken,
        tuple(tables_of(rest)),
        result.findings.notes,
        _commands(run, name, result),
        grid=grid,
        grid_broken=grid_broken,
        examples=examples,
        examples_broken=examples_broken,
        beside=_beside(run, name),
    )


def _plots_for(result: Result) -> list[tuple[str, Callable[[Result], dict[str, Any]]]]:
    """The plots that suit the analysis and have something to draw, in the order of the measurements they read."""
    order = list(result.findings.measurements)
    suited = [(name, PLOTS[name]) for name in PLOTS]
    suited = [
        (n, d) for n, d in suited if result.analysis in _about(d, "SUITS", ()) and not _empty(d, result)
    ]

    def place(entry: tuple[str, Callable[[Result], dict[str, Any]]]) -> int:
        return min((order.index(m) for m in _about(entry[1], "READS", ()) if m in order), default=len(order))

    return sorted(suited, key=place)


def _empty(draw: Callable[..., Any], result: Result) -> bool:
    """Whether a chart would say nothing.

    All that the plot reads is there and nowhere has a value, so that its table says why; or nothing of it is there and
    its module says `ON_REQUEST = True`: it draws what an analysis measures only where a parameter asks for it.
    """
    found = [result.findings.measurements.get(m) for m in _about(draw, "READS", ())]
    if _about(draw, "ON_REQUEST", False) and all(m is None for m in found):
        return True
    return bool(found) and all(m is not None and not np.isfinite(m.value).any() for m in found)


def _chart(name: str, draw: Callable[[Result], dict[str, Any]], result: Result) -> Chart:
    title = _about(draw, "TITLE", name)
    try:
        read: dict[str, Measurement] = {
            m: result[m] for m in _about(draw, "READS", ()) if m in result.findings.measurements
        }
        spec = dict(draw(result))
        heading = spec.pop("title", {})
        return Chart(
            name,
            title,
            heading.get("subtitle", "") if isinstance(heading, dict) else "",
            spec.get("description", title),
            as_json(spec),
            tuple(tables_of(read)),
        )
    except Exception as error:  # noqa: BLE001  (one chart must not take the section with it)
        return Chart(name, title, broken=_reason(error))


def _strips(result: Result) -> tuple[tuple[Strip, ...], str]:
    if "strips" not in result.findings.examples:
        return (), ""
    try:
        lens = str(result.provenance.get("lens", ""))
        return tuple(strips_of(result.findings.examples["strips"], lens)), ""
    except Exception as error:  # noqa: BLE001  (one table must not take the section with it)
        return (), _reason(error)


def _passages(result: Result) -> tuple[tuple[Passage, ...], str]:
    if "written" not in result.findings.examples:
        return (), ""
    try:
        return tuple(passages_of(result.findings.examples["written"])), ""
    except Exception as error:  # noqa: BLE001  (one table must not take the section with it)
        return (), _reason(error)


def _examples(result: Result) -> tuple[tuple[PageTable, ...], str]:
    try:
        return example_tables(result.findings.examples), ""
    except Exception as error:  # noqa: BLE001  (one table must not take the section with it)
        return (), _reason(error)


def _grid(result: Result) -> tuple[HeadGrid | None, str]:
    try:
        return head_grid(result), ""
    except Exception as error:  # noqa: BLE001  (the grid must not take the section with it)
        return None, _reason(error)


def _beside(run: Run, name: str) -> PageTable | None:
    """What the section of an analysis says of other analyses of the run: metrics stand beside the scores of tasks."""
    if name != "layer_quality":
        return None
    try:
        return metric_table({other: run[other] for other in (name, *METRICS) if other in run})
    except Exception:  # noqa: BLE001  (a broken neighbour says so in its own section)
        return None


def _commands(run: Run, name: str, result: Result) -> tuple[str, ...]:
    folder = shlex.quote(str(run.path))
    first = next(iter(result.findings.measurements), "")
    shown = [f"depthscope show {folder} {name}{f'/{first}' if first else ''} --format csv"]
    made = run.manifest.get("command")
    return (*shown, str(made)) if made else tuple(shown)


def _about(draw: Callable[..., Any], constant: str, default: Any) -> Any:  # noqa: ANN401  (each constant has its type)
    return getattr(sys.modules[draw.__module__], constant, default)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
