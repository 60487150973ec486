"""One part of a comparison's page that is about heads."""

from __future__ import annotations

from dataclasses import dataclass

from depthscope.charts import Spec, finish
from depthscope.report.assets import as_json
from depthscope.report.sections import Chart
from depthscope.report.tables import PageTable


@dataclass(frozen=True)
class HeadsPart:
    """One part of the page: two atlases, or the course of several."""

    title: str
    sentences: tuple[str, ...]
    charts: tuple[Chart, ...]
    tables: tuple[PageTable, ...]


def drawn_chart(title: str, layers: list[Spec], said: str) -> Chart:
    """A chart of some layers; `said` is for readers who do not see it."""
    spec = finish(layers, title, said)
    del spec["title"]
    return Chart(title, title, "", said, as_json(spec))
