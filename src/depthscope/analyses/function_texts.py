"""Function texts: does a function vector work in sentences that are not its prompts?

Question: Does the vector of a task, taken from prompts of questions and answers, make the model do the task in an
ordinary sentence?

Method: Vectors, states and queries are those of function_vectors; the first `words` queries that examples solve stand
one after another in each of a few beginnings of sentences, such as a quoted word on a sign. The text is continued
greedily, and at every step the vector is added to the last position only: what earlier ends were given is not kept. hit
is the share of continuations in which the answer occurs as a whole word, with the vector, with a random direction of
equal length, and with nothing. hit_mean is its mean over tasks, hit_ahead that of the vector minus that of each other
within tasks. Units are words, each in every sentence; tasks where a figure is over tasks. The table `texts` holds what
was written.

How to read: Far more hits with the vector than without say that the vector is the task and no echo of the form of its
prompts. Read the texts: a vector may also break the language.

What misleads: An answer may occur by chance, above all a short or frequent one, and in its own right: so nothing and
the random direction are asked the same. A right answer behind more than the tokens that are written is missed, and one
that inflects the word too. A few sentences are not all of language.

Source: Todd et al. 2024, Function Vectors in Large Language Models (arXiv 2310.15213), section 3.1, natural text; the
sentences and the random direction are ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.cells import Items
from depthscope.engine.function_given import UNSOLVED, Fitted, Query, after_vectors, reasoned
from depthscope.engine.function_task import random_like, task_rows
from depthscope.engine.measured import part
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import Rows, Tally
from depthscope.engine.view import View
from depthscope.materials.function_texts import Sentence, sentences_of, suited
from depthscope.materials.icl_tasks import Asking
from depthscope.ranges import at_least, check_ranges
from depthscope.results.measurement import Table
from depthscope.results.result import Findings, Result
from depthscope.runtime.continued import continued
from depthscope.runtime.model import Batch, Model

ADDED = ("vector", "random direction", "nothing")


@dataclass(frozen=True)
class FunctionTexts:
    """Texts continued under function vectors.

    Args:
        source, tasks: as function_vectors was given them; all of its tasks that have a vector where `tasks` is empty.
        texts: a file of beginnings, see `materials.function_texts.sentences_of`; the packaged ones where empty.
        words, sentences: the most queries of a task, and the most beginnings that each is put into.
    """

    source: str = ""
    tasks: tuple[str, ...] = ()
    texts: str = ""
    words: int = 6
    sentences: int = 3

    def __post_init__(self) -> None:
        check_ranges(self, words=at_least(1), sentences=at_least(1))

    def needs(self, anatomy: Anatomy) -> Needs:
        """Pairs of tasks, behind their vectors."""
        return after_vectors(anatomy, self.source, self.tasks, passes=self.words * self.sentences * 23)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Rows of words: whether the answer occurs in each sentence, with what is added."""
        del batch
        fitted, every, total = Fitted.of(given, self.source, self.tasks), sentences_of(self.texts), Tally({})
        for window in fitted.own(seen.windows):
            task = window.document
            columns = self._written(model, fitted, task, suited(every, task)[: self.sentences], seen.seed)
            total = total.add(Tally({"texts": task_rows(window.index, task, columns)}))
        return total

    def _written(
        self, model: Model, fitted: Fitted, task: str, texts: Sequence[Sentence], seed: int
    ) -> dict[str, np.ndarray]:
        """One row a word and sentence; a task without a vector has one row without a text."""
        words = [q for q in fitted.queries[task] if q.solved][: self.words] if fitted.has(task) else []
        asked = [(word, text) for word in words for text in texts]
        added = [fitted.vector(task), random_like(fitted.vector(task), seed), None] if words else []
        said = [_continued(model, text, word, fitted.state(task), added) for word, text in asked]
        hit = [
            [occurs(word.output, text) for text in row] for (word, _), row in zip(asked, said, strict=True)
        ]
        return {
            "hit": np.array(hit or [[np.nan] * len(ADDED)], float),
            "said": np.array(said or [[""] * len(ADDED)]),
            "text": np.array([text.about(word.input) for word, text in asked] or [""]),
            "answer": np.array([word.output for word, _ in asked] or [""]),
            "unit": np.array([f"{task}/{word.input}" for word, _ in asked] or [task]),
        }

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Hits by task and over tasks, and what was written."""
        c = part(total, "texts", Rows).columns
        tasks = np.array(list(dict.fromkeys(c["task"].tolist())))
        own = np.where(c["task"][:, None] == tasks, 1.0, np.nan)
        by, added = {"task": tasks}, {"variant": np.array(ADDED)}
        note = "share of continuations in which the answer occurs as a whole word"
        hit = Items(c["unit"], facts, 1, "words").mean(
            own[:, :, None] * c["hit"][:, None], "hit", by | added, "probability", note
        )
        over = Items(tasks, facts, 1, "solved tasks")
        ahead, told = hit.value[:, :1] - hit.value, "hits of the vector minus those of each; mean over tasks"
        made = [
            hit,
            over.mean(hit.value, "hit_mean", added, "probability", f"{note}; mean over tasks"),
            over.mean(ahead, "hit_ahead", added, "probability", told),
        ]
        silent = [str(task) for task, one in zip(tasks, hit.value, strict=True) if np.isnan(one).all()]
        notes = (f"{UNSOLVED}: {', '.join(silent)}.",) if silent else ()
        return Findings({m.name: reasoned(m) for m in made}, examples={"texts": _texts(c)}, notes=notes)


def occurs(answer: str, text: str) -> bool:
    """Whether an answer stands in a text as a whole word: no letter, digit or underscore beside it."""
    return re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text) is not None


def _continued(
    model: Model, text: Sentence, word: Query, state: int, added: Sequence[Tensor | None]
) -> list[str]:
    """How a beginning goes on with each vector."""
    asking = Asking.of(model)
    ids = [*asking.before, *asking.ids(text.about(word.input))]
    return continued(model, ids, state, added, text.tokens)


def _texts(c: Mapping[str, np.ndarray]) -> Table:
    there = np.flatnonzero(c["text"] != "")
    names = [name.replace(" ", "_") for name in ADDED]
    return Table({
        **{name: c[name][there].astype(str) for name in ("task", "text", "answer")},
        **{name: c["said"][there, k].astype(str) for k, name in enumerate(names)},
    }, "a row is a text and how it goes on with the vector, a random direction, and nothing")  # fmt: skip
