"""How well each token of a block and of its copy is predicted."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("induction_heads",)
READS = ("loss",)
TITLE = "Loss of random tokens, first seen and seen again"


def plot(result: Result) -> Spec:
    """Loss by place in the two copies; the second half is the second copy."""
    series = {"loss": present(result, READS)["loss"]}
    return finish(lines(series, "position", "loss"), TITLE, described(series, "position"), _change(result))


def _change(result: Result) -> str:
    found = result.findings.measurements
    if not {"first_copy_loss", "second_copy_loss"} <= set(found):
        return ""
    first, second = (found[f"{which}_copy_loss"].scalar() for which in ("first", "second"))
    return f"mean {first:.2f} nats in the first copy, {second:.2f} in the second"
