"""What the second copy of a random block costs without induction heads, without previous-token heads, and others."""

from __future__ import annotations

import numpy as np

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("induction_ablation",)
READS = ("second_copy_loss_increase",)
TITLE = "Loss of what was seen before, without the heads that look there"
NAMES = {"induction": "induction heads", "previous": "previous-token heads", "random": "random heads"}


def plot(result: Result) -> Spec:
    """Rise of the loss of the second copy by number of ablated heads, a line a group; mean ablation where measured."""
    found = present(result, READS)["second_copy_loss_increase"]
    modes = [str(mode) for mode in np.asarray(found.axes["mode"])]
    mode = "mean" if "mean" in modes else modes[0]
    one = found.select(mode=mode)
    series = {NAMES.get(str(g), str(g)): one.select(criterion=g) for g in np.asarray(one.axes["criterion"])}
    return finish(lines(series, "k", "rise of the loss"), TITLE, described(series, "k"), f"{mode} ablation")
