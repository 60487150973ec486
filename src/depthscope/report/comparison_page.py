"""A comparison as one HTML page and as tables."""

from __future__ import annotations

from pathlib import Path

from depthscope.report.compare import Comparison
from depthscope.report.comparison_curves import curve_groups
from depthscope.report.head_comparison_page import heads_parts
from depthscope.report.page import render
from depthscope.report.summaries import summary_table
from depthscope.report.tables import PageTable, number
from depthscope.store.atomic import write_text


def write_comparison(found: Comparison, path: Path) -> Path:
    """Write the comparison as one self-contained HTML file and return where it is.

    Raises:
        StoreError: the file cannot be written.
    """
    context = {
        "title": " and ".join(found.runs),
        "pairing": found.pairing,
        "groups": curve_groups(found),
        "scalars": scalar_table(found),
        "summaries": summary_table(found.runs, found.summaries),
        "heads": heads_parts(found.heads, found.course),
    }
    write_text(path, render("compare.html.j2", context))
    return path


def scalar_table(found: Comparison) -> PageTable:
    """The single numbers of all runs, one row each."""
    table = tuple((name, *map(number, values)) for name, values in found.scalars.items())
    return PageTable("Single numbers", ("measurement", *found.runs), table)
