"""Function transfer: is a function vector one task's own, do vectors add up, and do the words they say explain them?

Question: Does the vector of one task do other tasks, do the vectors of three tasks make that of a fourth, and does a
vector rebuilt from the words it says do the task as well?

Method: Vectors, the states they are added to, and the queries are those of function_vectors. transfer is the accuracy
without examples on one task's queries under each task's vector at that vector's own state. A square of tasks AD + BC -
AC = BD adds and subtracts three vectors; the sum is added at the state where it does most of the queries of BD that are
not judged, and composition is the accuracy on all judged ones, in context, under its own vector, under the sum, and
with nothing. A vector is decoded as softmax(W_U norm(v)); answers_said is the probability of the first tokens of all
the task's answers there. Another vector is then fitted by Adam until its `words` likeliest tokens have the same
probabilities (said_difference, in nats), made as long as the vector, and added in its place (accuracy, variant rebuilt;
rebuilt_cosine is its cosine to the vector). vector_ahead is the accuracy of the vector minus that of each other thing
in the same tasks. Units are queries; tasks where a figure is over tasks.

How to read: A transfer map with its diagonal only says that each vector holds its own task. Blocks are tasks that share
a vector, such as two that both copy. A sum that does BD says that parts of tasks lie apart in the stream. A rebuilt
vector that says the same words and does nothing shows that the task is no list of likely words.

What misleads: A task whose answers another task also gives (plurals and third persons) is done by that vector too.
Queries are those that examples solve; composition alone counts all. Matching all tokens exactly gives the vector back,
since the unembedding has as many directions as the stream: what is judged is then the descent. Rebuilt vectors are only
those of one random start.

Source: Todd et al. 2024, Function Vectors in Large Language Models (arXiv 2310.15213), sections 3.2 and 3.3; the
transfer of every vector to every task is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.function_given import Fitted, after_vectors
from depthscope.engine.function_task import task_rows
from depthscope.engine.function_uses import Square, composed, own_vectors, ranks_under
from depthscope.engine.measured import part
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import Rows, Tally
from depthscope.engine.transfer_findings import found
from depthscope.engine.view import View
from depthscope.errors import BadInput
from depthscope.materials.icl_tasks import Asking
from depthscope.materials.window import Window
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.vocabulary_match import Rebuilt, rebuilt, said

SAID = 10
"""Decoded tokens that are named."""


@dataclass(frozen=True)
class FunctionTransfer:
    """Function vectors on other tasks, in sums, and rebuilt from their words.

    Args:
        source, tasks: as function_vectors was given them; all of its tasks where `tasks` is empty.
        squares: sums of vectors, each as "AD + BC - AC = BD"; those with tasks that have no vector are left out.
        words: likeliest tokens that a rebuilt vector matches, 0 for all. steps: of its descent.
    """

    source: str = ""
    tasks: tuple[str, ...] = ()
    squares: tuple[str, ...] = (
        "first_of_list_capitalised + last_of_list - first_of_list = last_of_list_capitalised",
        "last_of_list_capitalised + first_of_list - last_of_list = first_of_list_capitalised",
    )
    words: int = 100
    steps: int = 1000

    def __post_init__(self) -> None:
        if self.words == 1 or min(self.words, self.steps - 1) < 0:
            raise BadInput(
                f"words={self.words}, steps={self.steps}: at least 2 words, or 0 for all, and 1 step"
            )
        self._squares()

    def _squares(self) -> list[Square]:
        return [Square.of(text) for text in self.squares]

    def needs(self, anatomy: Anatomy) -> Needs:
        """Pairs of tasks, behind their vectors."""
        return after_vectors(anatomy, self.source, self.tasks, passes=72)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Rows of queries under every vector, and one of what each vector says."""
        del batch
        fitted, total = Fitted.of(given, self.source, self.tasks), Tally({})
        for window in fitted.own(seen.windows):
            total = total.add(self._task(model, window, fitted, seen.seed))
        return total

    def _task(self, model: Model, window: Window, fitted: Fitted, seed: int) -> Tally:
        task, asking = window.document, Asking.of(model)
        queries = fitted.queries[task]
        again = (
            rebuilt(model, fitted.vector(task), self.words, self.steps, seed) if fitted.has(task) else None
        )
        every = {
            name: (fitted.state(name), fitted.vector(name)) if fitted.has(name) else None
            for name in fitted.tasks
        }
        total = composed(model, asking, fitted, task, self._squares())
        own = own_vectors(fitted, task, None if again is None else again.vector, total, seed)
        ranks = ranks_under(model, asking, queries, {f"of {name}": one for name, one in every.items()} | own)
        names = np.array(fitted.tasks)
        asked = {
            "others": ranks[:, : len(names)], "own": ranks[:, len(names) :],
            "solved": np.array([query.solved for query in queries]),
            "named": np.broadcast_to(names, (len(queries), len(names))),
        }  # fmt: skip
        says = _said(model, asking, window, fitted, again)
        parts = {"asked": asked, "tasks": says}
        return Tally({name: task_rows(window.index, task, columns) for name, columns in parts.items()})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """The maps of tasks, sums, and what vectors say."""
        return found({name: part(total, name, Rows).columns for name in ("asked", "tasks")}, facts)


def _said(
    model: Model, asking: Asking, window: Window, fitted: Fitted, again: Rebuilt | None
) -> dict[str, np.ndarray]:
    """One row: the likeliest tokens of a task's vector, how likely answers are, how near the rebuilt one came."""
    likely, words = np.full(SAID, np.nan), np.full(SAID, "", dtype="U40")
    numbers = np.full(3, np.nan)
    if again is not None:
        probabilities = said(model, fitted.vector(window.document))
        top = probabilities.topk(min(SAID, len(probabilities)))
        likely[: len(top.values)] = top.values.numpy()
        words[: len(top.values)] = [asking.tokenizer.decode([i]) for i in top.indices.tolist()]
        answers = sorted({asking.prompt([], (x, y))[1] for x, y in window.about["pairs"]})
        numbers[:] = float(probabilities[answers].sum()), again.divergence, again.cosine
    return {"likely": likely[None], "words": words[None], "numbers": numbers[None]}
