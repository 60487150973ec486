"""One file a plot.

`SUITS` names the analyses it reads, `READS` their measurements, `TITLE` is what it shows, and `plot(result)` returns a
Vega-Lite specification made of the pieces of `depthscope.charts`.
"""

from depthscope.charts import (
    CELLS as CELLS,
)
from depthscope.charts import (
    COLOURS as COLOURS,
)
from depthscope.charts import (
    HEIGHT as HEIGHT,
)
from depthscope.charts import (
    SHAPES as SHAPES,
)
from depthscope.charts import (
    STEP_PICKS as STEP_PICKS,
)
from depthscope.charts import (
    Row as Row,
)
from depthscope.charts import (
    Spec as Spec,
)
from depthscope.charts import (
    colours as colours,
)
from depthscope.charts import (
    dashed as dashed,
)
from depthscope.charts import (
    described as described,
)
from depthscope.charts import (
    finish as finish,
)
from depthscope.charts import (
    heat_map as heat_map,
)
from depthscope.charts import (
    lines as lines,
)
from depthscope.charts import (
    pair_map as pair_map,
)
from depthscope.charts import (
    present as present,
)
from depthscope.charts import (
    relative_depth as relative_depth,
)
from depthscope.charts import (
    rows as rows,
)
from depthscope.charts import (
    shapes as shapes,
)
from depthscope.charts import (
    split as split,
)
from depthscope.charts import (
    spread_out as spread_out,
)
from depthscope.charts import (
    step_rows as step_rows,
)
from depthscope.charts import (
    thin as thin,
)
from depthscope.charts import (
    tooltip as tooltip,
)
from depthscope.charts import (
    with_unit as with_unit,
)
from depthscope.charts import (
    x_axis as x_axis,
)
from depthscope.charts import (
    y_axis as y_axis,
)
from depthscope.charts import (
    y_scale as y_scale,
)
