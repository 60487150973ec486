"""Where the class of a picture can be read: in cells without content, and in the others."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("registers", "image_registers")
READS = ("class_probe",)
TITLE = "Tokens that tell the class of their picture"
KINDS = ("background", "foreground")


def plot(result: Result) -> Spec:
    """Share of tokens by layer, a line for each variant and kind of cell."""
    found = present(result, READS)["class_probe"]
    series = {
        f"{variant}: {kind}": found.select(variant=variant, token=kind)
        for variant in np.asarray(found.axes["variant"])[:3]
        for kind in KINDS
    }
    return finish(lines(series, "layer", "share of tokens"), TITLE, described(series, "layer"))
