"""What function_vectors found, as analyses that go on from its vectors read it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.needs import Needs, SweepNeed
from depthscope.errors import BadInput, Refused, UnknownName
from depthscope.materials.task_pairs import TaskPairs
from depthscope.materials.window import Window
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

NAME = "function_vectors"
UNSOLVED = "task not solved in context, or without heads: it has no vector"
"""Why a task has no number."""


class Query(NamedTuple):
    """A pair that figures are given for, and whether the model solves it with examples."""

    input: str
    output: str
    solved: bool


@dataclass(frozen=True, eq=False)
class Fitted:
    """Vectors of tasks, the states they are added to, and the queries they are judged on.

    Args:
        tasks: in the order of the run. vectors: [task d_model], NaN where there is none. states: of each.
        queries: of each task, those that neither the vector nor its state was taken from. others: those that were.
    """

    tasks: tuple[str, ...]
    vectors: Float[Tensor, "task d_model"]
    states: tuple[int, ...]
    queries: Mapping[str, tuple[Query, ...]]
    others: Mapping[str, tuple[Query, ...]]

    def own(self, windows: Iterable[Window]) -> Iterator[Window]:
        """The windows that stand for one of these tasks."""
        return (window for window in windows if window.document in self.tasks)

    @classmethod
    def of(cls, given: Mapping[str, Result], source: str, wanted: Sequence[str] = ()) -> Fitted:
        """From the results that an analysis is given.

        Raises:
            BadInput: where the vectors are of tasks from another source, or come without queries.
            UnknownName: for a task it did not look at.
        """
        found = given[NAME]
        if found.parameters["source"] != source:
            raise BadInput(
                f"the vectors are of tasks from {found.parameters['source'] or 'the packaged set'!r}, these "
                f"queries from {source or 'the packaged set'!r}; give both the same source"
            )
        tasks = tuple(str(name) for name in np.asarray(found["vector"].axes["task"]))
        for name in wanted:
            if name not in tasks:
                raise UnknownName(f"task of {NAME} in this run", name, tasks)
        states = found["chosen_state"].select(variant="vector").value
        whole = tuple(int(s) if np.isfinite(s) else -1 for s in states)
        return cls(tasks, torch.from_numpy(found["vector"].value.copy()), whole, *_queries(found, tasks))

    @property
    def having(self) -> tuple[str, ...]:
        """Tasks that have a vector."""
        return tuple(name for name in self.tasks if self.has(name))

    def has(self, task: str) -> bool:
        """Whether a task was looked at and has a vector."""
        return task in self.tasks and bool(torch.isfinite(self.vectors[self.tasks.index(task)]).all())

    def vector(self, task: str) -> Float[Tensor, " d_model"]:
        """What is added for a task."""
        return self.vectors[self.tasks.index(task)]

    def state(self, task: str) -> int:
        """The state it is added to."""
        return self.states[self.tasks.index(task)]


def _queries(found: Result, tasks: Sequence[str]) -> list[dict[str, tuple[Query, ...]]]:
    """Of each task the queries that are judged, and the others."""
    if "queries" not in found.findings.examples:
        raise BadInput(
            f"{NAME} of this run names no queries: it is of another version; run it again elsewhere"
        )
    table = found.findings.examples["queries"].columns
    columns = (np.asarray(table[name]).tolist() for name in ("task", "input", "output", "solved", "judged"))
    rows = list(zip(*columns, strict=True))
    return [
        {
            task: tuple(
                Query(x, y, solved) for name, x, y, solved, own in rows if own == half and name == task
            )
            for task in tasks
        }
        for half in (True, False)
    ]


def reasoned(found: Measurement, why: str = UNSOLVED) -> Measurement:
    """The same, cells without a value for this reason."""
    return replace(found, missing=why) if found.missing else found


def after_vectors(anatomy: Anatomy, source: str, tasks: tuple[str, ...], passes: int) -> Needs:
    """Pairs of tasks, behind their vectors.

    Args:
        passes: about how many short prompts a task takes.

    Raises:
        Refused: where no answer follows a prompt.
    """
    if not anatomy.has_unembedding():
        raise Refused("it has no unembedding, so it gives no answers")
    if not anatomy.family.causal:
        raise Refused("it is no causal language model, so no answer follows a prompt")
    sweep = SweepNeed((), (), 0, protect="none", replays=passes)
    return Needs(sweeps=frozenset({sweep}), after=(NAME,), material=TaskPairs(source, tasks))
