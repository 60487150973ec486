"""Where in depth the heads of each role lie, on the average."""

from __future__ import annotations

from depthscope.charts import Spec, dashed, finish, present
from depthscope.charts.points import points, ranked
from depthscope.results.result import Result

SUITS = ("head_atlas",)
READS = ("role_depth",)
TITLE = "Mean depth of the heads of each role"


def plot(result: Result) -> Spec:
    """A point with its interval over heads for each label that a head has; 0 is the first layer, 1 the last."""
    found = present(result, READS)["role_depth"]
    names = {str(role): str(role).replace("_", " ") for role in found.axes["role"]}
    drawn = points({"heads": found}, "role", "label", "relative depth", names)
    return finish(drawn + dashed(0.5, "the middle of the depth"), TITLE, ranked(found, "role"))
