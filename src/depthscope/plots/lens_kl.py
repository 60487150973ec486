"""How far each state's prediction is from the final one."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("logit_lens",)
READS = ("kl_to_final", "reverse_kl_to_final")
TITLE = "Divergence from the final prediction"
NAMES = {"kl_to_final": "KL", "reverse_kl_to_final": "reverse KL"}


def plot(result: Result) -> Spec:
    """KL(final || state) and KL(state || final) by state, with their intervals."""
    series = {NAMES[name]: found for name, found in present(result, READS).items()}
    return finish(lines(series, "state", "divergence", kind="auto"), TITLE, described(series, "state"))
