"""The error of predicting each target beside what little the mean or the embeddings alone give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.measurement import COLUMNS, Measurement
from depthscope.results.result import Result

SUITS = ("linear_maps",)
READS = (
    "mean_error",
    "embedding_error",
    "shuffled_error",
    "relative_error",
    "best_source",
    "best_other_source",
)
TITLE = "Error from the best source, beside baselines"
NAMES = {"mean_error": "mean", "embedding_error": "embeddings", "shuffled_error": "other positions"}


def plot(result: Result) -> Spec:
    """Relative error by target: from the best source (the best other one, where a model is mapped onto itself)."""
    found = present(result, READS)
    series = {words: found[name] for name, words in NAMES.items() if name in found}
    best = found.get("best_other_source", found.get("best_source"))
    if best is not None and "relative_error" in found:
        other = "best_other_source" in found
        series["best other source" if other else "best source"] = _at(found["relative_error"], best)
    axis = next(iter(next(iter(series.values())).axes))
    return finish(lines(series, axis, "relative error"), TITLE, described(series, axis))


def _at(errors: Measurement, best: Measurement) -> Measurement:
    """The error of each target from one source of its own; missing where there is none."""
    ((axis, targets),) = best.axes.items()
    sources = np.asarray(errors.axes["source"]).tolist()
    known = [float(label) in sources for label in best.value]
    rows = [sources.index(float(label)) if fine else 0 for label, fine in zip(best.value, known, strict=True)]
    columns = [np.asarray(errors.axes[axis]).tolist().index(label) for label in np.asarray(targets).tolist()]
    parts = {part: None if (a := getattr(errors, part)) is None else a[rows, columns] for part in COLUMNS[1:]}
    value = np.where(known, errors.value[rows, columns], np.nan)
    missing = errors.missing or "no best source"
    return replace(errors, axes={axis: targets}, value=value, missing=missing, **parts)
