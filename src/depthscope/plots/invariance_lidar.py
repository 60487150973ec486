"""Over how many directions texts differ more than their disturbed copies do, by state."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("augmentation_invariance",)
READS = ("lidar", "lidar_corrected")
TITLE = "LiDAR"


def plot(result: Result) -> Spec:
    """LiDAR by state, beside that of shuffled groups and what is left of it above the noise."""
    found = present(result, READS)
    series = {
        f"{'above noise' if name == 'lidar_corrected' else 'lidar'}, {one}": found[name].select(variant=one)
        for name in found
        for one in map(str, found[name].axes["variant"])
        if (name, one) != ("lidar_corrected", "shuffled")
    }
    note = "where shuffled groups give the same, the rank says nothing"
    return finish(lines(series, "state", "directions"), TITLE, described(series, "state"), note)
