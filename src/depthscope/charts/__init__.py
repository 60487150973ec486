"""What plots are made of: rows from a measurement, axes, lines with bands, maps, and the finished specification.

A plot reads a result and returns a Vega-Lite specification as a dictionary, which `altair.Chart.from_dict` shows in a
notebook. Tests check every plot against altair's schema; a page does not, since that takes longer than all the rest
of it.

Colours are those of Okabe and Ito (2008, "Color universal design") and viridis; text and grid are `currentColor`, so a
chart takes the colour of the page it stands on, light or dark. The width follows the container.
"""

from depthscope.charts.axes import (
    COLOURS,
    SHAPES,
    colours,
    shapes,
    tooltip,
    with_unit,
    x_axis,
    y_axis,
    y_scale,
)
from depthscope.charts.heads import head_map
from depthscope.charts.lines import at_middle_level, dashed, described, lines, spread_out
from depthscope.charts.maps import heat_map, pair_map
from depthscope.charts.specification import CELLS, HEIGHT, Row, Spec, finish
from depthscope.charts.steps import STEP_PICKS, step_rows
from depthscope.charts.table import present, relative_depth, rows, split, thin

__all__ = [
    "CELLS",
    "COLOURS",
    "HEIGHT",
    "SHAPES",
    "STEP_PICKS",
    "Row",
    "Spec",
    "at_middle_level",
    "colours",
    "dashed",
    "described",
    "finish",
    "head_map",
    "heat_map",
    "lines",
    "pair_map",
    "present",
    "relative_depth",
    "rows",
    "shapes",
    "split",
    "spread_out",
    "step_rows",
    "thin",
    "tooltip",
    "with_unit",
    "x_axis",
    "y_axis",
    "y_scale",
]
