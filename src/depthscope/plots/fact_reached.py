"""By which state the tokens of recalled answers stand on top, by their place in the answer."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

SUITS = ("fact_depth",)
READS = ("share_in_top",)
TITLE = "Answer tokens on top, by place in the answer"
PLACES = (("1", 1), ("2", 1), ("2", 2), ("3", 1), ("3", 2), ("3", 3))


def plot(result: Result) -> Spec:
    """Share of right answer tokens that are the top-1 at each state; cells with too few facts are left out."""
    found = present(result, READS)["share_in_top"].select(k=1)
    series = {_name(*place): found.select(bucket=place[0], token=place[1]) for place in PLACES}
    known = {name: one for name, one in series.items() if _known(one)}
    note = (
        "" if len(known) == len(series) else "places with too few facts are left out; the table counts them"
    )
    drawn = known or dict(list(series.items())[:1])
    return finish(lines(drawn, "state", "share on top"), TITLE, described(drawn, "state"), note)


def _name(length: str, token: int) -> str:
    return "only token" if length == "1" else f"token {token} of {length}"


def _known(found: Measurement) -> bool:
    return bool(np.isfinite(found.value).any())
