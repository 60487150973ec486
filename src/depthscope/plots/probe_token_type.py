"""What each part of a state says of the kind of token, by layer and input."""

from __future__ import annotations

from depthscope.charts import Spec, present
from depthscope.charts.parts import part_map
from depthscope.results.result import Result

SUITS = ("component_probes",)
READS = ("f1",)
TITLE = "What each part of a state says of the kind of token"


def plot(result: Result) -> Spec:
    """Macro F1 of probes for the token type: layer down, input across."""
    return part_map(present(result, READS)["f1"], "token_type", TITLE)
