"""Verdicts on functions: whether one vector does tasks without examples, and whether an iteration head works."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.report.sentence import Cell, Verdict
from depthscope.results.result import Result

Results = Mapping[str, Result]
TASKS = 3
"""Fewer solved tasks than this decide nothing."""
NULLS = ("random heads", "random direction", "nothing")
SHARE, WHOLE, LOST = 0.5, 0.9, 0.5
"""A stripe is more than SHARE of the rows, a task is done in WHOLE of the sequences, a head they need costs LOST."""


def vector_does_tasks(results: Results) -> Verdict:
    """Whether a vector does tasks without examples: it is ahead of random heads, a random direction and nothing."""
    topic = "Whether one vector does a task without examples"
    found = results["function_vectors"]
    mean, ahead = found["accuracy_mean"], found["vector_ahead"]
    vector = Cell.of(mean, variant="vector")
    if not np.isfinite(vector.value) or vector.n is None or vector.n < TASKS:
        said = f"Not decided: {vector.n or 0} tasks are solved in context, {TASKS} are needed."
        return Verdict(topic, said, False, mean.missing)
    leads = {name: Cell.of(ahead, variant=name) for name in NULLS}
    average = Cell.of(ahead, variant="layer average")
    because = (
        f"function_vectors/accuracy_mean of the vector is {vector.said()} tasks; "
        + "; ".join(f"ahead of {name} by {cell.said()}" for name, cell in leads.items())
        + f"; ahead of the layer average by {average.said()}."
    )
    if not all(cell.low > 0 for cell in leads.values()):
        return Verdict(
            topic, "Not decided: the vector is not ahead of every null in these tasks.", False, because
        )
    simple = "the mean state does as well or no difference is shown"
    if average.low > 0:
        simple = f"the mean state of the layer does less, {average.value:.0%} fewer"
    if average.high < 0:
        simple = f"the mean state of the layer does more, {-average.value:.0%} more"
    sentence = (
        f"Yes: added to a prompt without examples it gives the right answer to {vector.value:.0%} of the queries that "
        f"examples solve, where nothing gives {Cell.of(mean, variant='nothing').value:.0%}; {simple}."
    )
    return Verdict(topic, sentence, True, because)


def iteration_head_works(results: Results) -> Verdict:
    """Whether steps are worked through by an iteration head: a stripe, whole sequences, and a loss without the head."""
    topic = "Whether an iteration head works through the steps"
    found = results["iteration_heads"]
    share, accuracy, without = found["input_share"], found["accuracy"], found["ablated_accuracy"]
    if not np.isfinite(share.value).any():
        return Verdict(topic, f"Not decided: {share.missing}.", False, "")
    layer, head = (int(k) for k in np.unravel_index(np.nanargmax(share.value), share.value.shape))
    at = {"layer": share.axes["layer"][layer], "head": share.axes["head"][head]}
    stripe, longest = Cell.of(share, **at), Cell.of(accuracy, level=np.asarray(accuracy.axes["level"])[-1])
    where = f"layer {layer} head {head}"
    because = (
        f"iteration_heads/input_share of {where} is {stripe.said()}; accuracy at the longest {longest.said()}"
    )
    if stripe.high < SHARE:
        said = f"No: no head looks at the input of the step in most rows; {where} does most, in {stripe.value:.0%}."
        if longest.low > WHOLE:
            said += " The sequences are worked through all the same, by another circuit."
        return Verdict(topic, said, True, f"{because}.")
    if np.isnan(without.value[layer, head]).all():
        return Verdict(
            topic, f"Not decided: {where} follows the inputs, and no head was ablated.", False, f"{because}."
        )
    gone = Cell.of(without, **at, variant="zero")
    because += f"; without the head {gone.said()}."
    if stripe.low > SHARE and longest.low > WHOLE and longest.low - gone.high > LOST:
        sentence = (
            f"Yes: {where} looks at the input of the step in {stripe.value:.0%} of the rows, {longest.value:.0%} of "
            f"the sequences are whole, and {gone.value:.0%} without it."
        )
        return Verdict(topic, sentence, True, because)
    short = f"Not decided: stripe, accuracy and the loss without {where} do not all pass their thresholds."
    return Verdict(topic, short, False, because)
