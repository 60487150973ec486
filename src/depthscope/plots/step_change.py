"""How much each depth changed over a training, all changes between checkpoints added up."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present, split
from depthscope.results.result import Result

SUITS = ("checkpoints",)
READS = ("prompt_entropy_total_change", "kl_to_final_total_change")
TITLE = "Total change of each depth over the training"
MOST = 4


def plot(result: Result) -> Spec:
    """Total change by state: of prompt entropy a line for each of its first modes, else of the divergence."""
    name, found = next(iter(present(result, READS).items()))
    series = dict(list(split(found, "mode").items())[:MOST]) if "mode" in found.axes else {"all": found}
    what = name.removesuffix("_total_change").replace("_", " ")
    return finish(lines(series, "state", f"total change of {what}"), TITLE, described(series, "state"))
