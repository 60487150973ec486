"""How far each lens's reading of a state is from the final prediction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from depthscope.charts import Spec, described, finish, lines, present, split
from depthscope.results.measurement import COLUMNS, Measurement
from depthscope.results.result import Result

SUITS = ("lens_quality",)
READS = ("kl_to_final",)
TITLE = "Divergence from the final prediction, by lens"


def plot(result: Result) -> Spec:
    """KL(final || state) by state, one line a lens, on a logarithmic scale."""
    found = present(result, READS)["kl_to_final"]
    series = {lens: before_last(each) for lens, each in split(found, "lens").items()}
    note = "the last state is the final prediction itself and is left out"
    return finish(lines(series, "state", "KL", "log"), TITLE, described(series, "state"), note)


def before_last(found: Measurement) -> Measurement:
    """All states but the last, where every lens is the model and KL is 0."""
    parts = {part: None if (v := getattr(found, part)) is None else v[:-1] for part in COLUMNS}
    return replace(found, axes={"state": np.asarray(found.axes["state"])[:-1]}, **parts)
