"""What a linear probe reads of the text from the first token, from later sinks and from other tokens."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, described, finish, lines, present, split
from depthscope.results.result import Result

SUITS = ("sink_content",)
READS = ("label_accuracy",)
TITLE = "The text's label read off one token"
NAMES = {"first": "first token", "sink": "later sinks", "normal": "other tokens"}


def plot(result: Result) -> Spec:
    """Accuracy by state for each kind of token, with intervals over documents."""
    found = split(present(result, READS)["label_accuracy"], "sinks")
    series = {NAMES.get(kind, kind): one for kind, one in found.items()}
    known = {name: one for name, one in series.items() if np.isfinite(one.value).any()} or series
    return finish(lines(known, "state", "accuracy on held-out documents"), TITLE, described(known, "state"))
