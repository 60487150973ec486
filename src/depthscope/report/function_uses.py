"""Verdicts on what function vectors are: one task's own, parts that add up, more than words, fit for any text."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.report.sentence import Cell, Verdict
from depthscope.results.result import Result

Results = Mapping[str, Result]
TASKS = 3
"""Fewer solved tasks than this decide nothing."""
OFFSETS = ("embedding, all tokens", "unembedding, all tokens")
"""What chooses among all tokens, as the vector does."""


def task_of_its_own(results: Results) -> Verdict:
    """Whether a function vector is one task's own: it is ahead of other tasks' vectors on its task's queries."""
    topic = "Whether a function vector is one task's own"
    same = "other tasks' vectors may do as much"
    more = "on its own task a vector is {:.0%} of the queries ahead of other tasks' vectors"
    return _ahead(results, topic, "other tasks", same, more)


def vectors_add_up(results: Results) -> Verdict:
    """Whether vectors of tasks add up: a sum of three does the fourth, on tasks where such a sum exists."""
    topic = "Whether vectors of tasks add up"
    found = results["function_transfer"]["composition"]
    tasks = [str(t) for t in np.asarray(found.axes["task"])]
    cells = {
        t: {v: Cell.of(found, task=t, variant=v) for v in ("composed", "nothing", "in context")}
        for t in tasks
    }
    there = {t: c for t, c in cells.items() if np.isfinite(c["composed"].value)}
    if not there:
        return Verdict(topic, "Not decided: no square of tasks has three vectors.", False, found.missing)
    because = "; ".join(
        f"function_transfer/composition of {t}: {c['composed'].said()} queries" for t, c in there.items()
    )
    said = [
        f"{t} {c['composed'].value:.0%} (in context {c['in context'].value:.0%})" for t, c in there.items()
    ]
    if all(c["composed"].low > max(c["nothing"].high, 0) for c in there.values()):
        return Verdict(topic, f"Yes: the sum does {', '.join(said)}, more than nothing.", True, f"{because}.")
    if all(c["composed"].high < max(c["in context"].low, 0) / 2 for c in there.values()):
        less = f"No: the sum does {', '.join(said)}, less than half of what examples do."
        return Verdict(topic, less, True, f"{because}.")
    return Verdict(topic, f"Not decided: the sum does {', '.join(said)}.", False, f"{because}.")


def more_than_words(results: Results) -> Verdict:
    """Whether a function vector is more than the words it says: one rebuilt from its words does less."""
    topic = "Whether a function vector is more than the words it says"
    same = "a vector rebuilt from its words may do as much"
    more = "a vector rebuilt from its likeliest words does {:.0%} of the queries fewer"
    return _ahead(results, topic, "rebuilt", same, more)


def works_in_texts(results: Results) -> Verdict:
    """Whether a function vector works in ordinary sentences: hits above nothing and above a random direction."""
    topic = "Whether a function vector works in ordinary sentences"
    found = results["function_texts"]
    leads = {name: Cell.of(found["hit_ahead"], variant=name) for name in ("nothing", "random direction")}
    if few := _too_few(topic, leads["nothing"]):
        return few
    because = "; ".join(
        f"function_texts/hit_ahead of {name} is {cell.said()} tasks" for name, cell in leads.items()
    )
    hits = {name: Cell.of(found["hit_mean"], variant=name) for name in ("vector", "nothing")}
    share, without = (hits[name].value for name in ("vector", "nothing"))
    both = f"{share:.0%} of the texts hold the answer with the vector, {without:.0%} without"
    if all(cell.low > 0 for cell in leads.values()):
        return Verdict(topic, f"Yes: {both}.", True, f"{because}.")
    return Verdict(topic, f"Not decided: {both}.", False, f"{because}.")


def more_than_offsets(results: Results) -> Verdict:
    """Whether a vector does a way there and back that no offset can: opposites and other circles of words."""
    topic = "Whether a vector does a way there and back that no offset between words can"
    found = results["function_offsets"]
    ahead, closed = found["vector_ahead"], found["closed"]
    there = [str(t) for t, c in zip(np.asarray(closed.axes["task"]), closed.value, strict=True) if c == 1]
    leads = {t: [Cell.of(ahead, task=t, variant=v) for v in OFFSETS] for t in there}
    leads = {t: cells for t, cells in leads.items() if np.isfinite(cells[0].value)}
    if not leads:
        named = f" ({', '.join(there)})" if there else ""
        said = f"Not decided: no task that leads back to its start{named} is solved in context."
        return Verdict(topic, said, False, ahead.missing)
    because = "; ".join(
        f"function_offsets/vector_ahead of {t}, the least: {_least(cells).said()} groups"
        for t, cells in leads.items()
    )
    won = [t for t, cells in leads.items() if all(cell.low > 0 for cell in cells)]
    if won:
        backs = found["involution"]
        said = "; ".join(f"{t}, where {Cell.of(backs, task=t).value:.0%} of the words come back" for t in won)
        return Verdict(
            topic,
            f"Yes: among all tokens it finds more partners than any offset in {said}.",
            True,
            f"{because}.",
        )
    return Verdict(
        topic, f"Not decided: in {', '.join(leads)} an offset may do as much.", False, f"{because}."
    )


def reaches_invented_words(results: Results) -> Verdict:
    """Whether a function vector does words that nobody has met: invented ones, in tasks that follow a rule."""
    topic = "Whether a function vector does words that the model has never met"
    found = results["function_reach"]["accuracy"]
    kinds = ("frequent", "invented")
    cells = {
        str(t): {(k, v): Cell.of(found, task=t, bucket=k, variant=v) for k in kinds for v in ("vector", "nothing")}
        for t in np.asarray(found.axes["task"])
    }  # fmt: skip
    there = {t: c for t, c in cells.items() if np.isfinite(c["invented", "vector"].value)}
    if not there:
        return Verdict(
            topic, "Not decided: no task that follows a rule has a vector.", False, f"{found.missing}."
        )
    because = "; ".join(
        f"function_reach/accuracy of {t} on invented words is {c['invented', 'vector'].said()}"
        for t, c in there.items()
    )
    said = ", ".join(
        f"{t} {c['invented', 'vector'].value:.0%} (frequent words {c['frequent', 'vector'].value:.0%})"
        for t, c in there.items()
    )
    if all(c["invented", "vector"].low > max(c["invented", "nothing"].high, 0) for c in there.values()):
        return Verdict(
            topic, f"Yes: of invented words it does {said}, more than nothing.", True, f"{because}."
        )
    if all(c["invented", "vector"].high < c["frequent", "vector"].low / 2 for c in there.values()):
        return Verdict(
            topic, f"No: of invented words it does {said}, less than half as many.", True, f"{because}."
        )
    return Verdict(topic, f"Not decided: of invented words it does {said}.", False, f"{because}.")


def _least(cells: list[Cell]) -> Cell:
    return min(cells, key=lambda cell: cell.low)


def _too_few(topic: str, cell: Cell) -> Verdict | None:
    if np.isfinite(cell.value) and (cell.n or 0) >= TASKS:
        return None
    return Verdict(topic, f"Not decided: {cell.n or 0} tasks have a vector, {TASKS} are needed.", False, "")


def _ahead(results: Results, topic: str, variant: str, same: str, more: str) -> Verdict:
    """Whether vectors are ahead of a variant on their own tasks; `more` takes by how much."""
    cell = Cell.of(results["function_transfer"]["vector_ahead"], variant=variant)
    if few := _too_few(topic, cell):
        return few
    because = f"function_transfer/vector_ahead of {variant} is {cell.said()} tasks; the threshold is 0."
    if cell.low <= 0:
        return Verdict(topic, f"Not decided: {same}.", False, because)
    return Verdict(topic, f"Yes: {more.format(cell.value)}.", True, because)
