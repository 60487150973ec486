"""Function reach: does a function vector do rare words and invented ones, or only what the model has met often?

Question: Is a function vector a procedure that does whatever word it is given, or does it point to answers that the
model knows?

Method: Vectors, states and queries are those of function_vectors. The queries that neither a vector nor its state was
taken from are put in order by how often their rarest word occurs in a table of counts (without a table: by how many
tokens they have, then by ids); of each end at most `words` are asked, the frequent and the rare ones. Where one rule
gives at least half of a task's answers (capital letters, an ending, a place in a list) as many invented words are asked
too, whose answers the rule gives. Every word is asked as `Q: x` with the vector added once, at the last position, with
a random direction of equal length, with nothing, and behind `shots` examples; accuracy is the share of words all tokens
of whose answers are the most likely ones, one after the other. lost is the accuracy on frequent words minus that on
rare or invented ones. Units are words; tasks where a figure is over tasks.

How to read: A procedure loses little from frequent to invented words; knowledge (opposites, capitals of countries) is
lost with rare ones. Compare with `examples`: what the model loses with examples too is no fault of the vector. tokens
says how long the words of each kind are.

What misleads: Rare and invented words have more tokens, all of which must be right: a loss may be one of spelling, and
`examples` shares it. Rules are those of written English, and a task may follow one for half of its answers only. A
vector that copies does every word whose answer is the word. A small table of counts knows few rare words, and what the
model has read is not what was counted.

Source: Todd et al. 2024, Function Vectors in Large Language Models (arXiv 2310.15213), for vectors; Berko 1958, The
Child's Learning of English Morphology, for invented words; frequent against rare words is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.function_given import UNSOLVED, Fitted, after_vectors
from depthscope.engine.function_task import random_like, task_rows
from depthscope.engine.measured import part
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.reach_findings import ADDED, found
from depthscope.engine.tally import Rows, Tally
from depthscope.engine.view import View
from depthscope.engine.whole_answers import whole_answers
from depthscope.materials.icl_tasks import Asking, Pair
from depthscope.materials.invented import Rule, by_frequency, invented_pairs, rarest, rule_of, word_counts
from depthscope.materials.window import Window
from depthscope.ranges import at_least, check_ranges
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model


@dataclass(frozen=True)
class FunctionReach:
    """Function vectors on frequent, rare and invented words.

    Args:
        source, tasks: as function_vectors was given them; all of its tasks where `tasks` is empty.
        counts: a table of words and how often they occur, see `materials.invented.word_counts`; "" goes by tokens.
        words: the most words of a kind. shots: examples before a word. fewest: words that a figure needs.
    """

    source: str = ""
    tasks: tuple[str, ...] = ()
    counts: str = ""
    words: int = 20
    shots: int = 5
    fewest: int = 4

    def __post_init__(self) -> None:
        check_ranges(self, fewest=at_least(1, most=self.words, what="no more than words"), shots=at_least(1))

    def needs(self, anatomy: Anatomy) -> Needs:
        """Pairs of tasks, behind their vectors."""
        return after_vectors(anatomy, self.source, self.tasks, passes=3 * self.words * 4)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Rows of words: whether the whole answer is said, with what is added."""
        del batch
        fitted, counts, total = Fitted.of(given, self.source, self.tasks), word_counts(self.counts), Tally({})
        for window in fitted.own(seen.windows):
            total = total.add(self._task(model, window, fitted, counts, seen.seed))
        return total

    def _task(
        self, model: Model, window: Window, fitted: Fitted, counts: Mapping[str, int], seed: int
    ) -> Tally:
        task, asking = window.document, Asking.of(model)
        pairs: list[Pair] = [(x, y) for x, y in window.about["pairs"]]
        rule, share = rule_of(pairs)
        asked = self._asked(fitted, task, pairs, rule, counts, asking, seed) if fitted.has(task) else []
        words = [pair for _, pair in asked] or [("", "")]
        columns = {
            "right": np.array(self._right(model, fitted, task, words, seed) if asked else [[np.nan] * len(ADDED)]),
            "bucket": np.array([kind for kind, _ in asked] or [-1]),
            "count": np.array([rarest(x, counts) if counts else np.nan for x, _ in words], float),
            "tokens": np.array([len(asking.within(x)) if x else 0 for x, _ in words], float),
            "input": np.array([x for x, _ in words]), "answer": np.array([y for _, y in words]),
        }  # fmt: skip
        one = {
            "share": np.array([share]), "rule": np.array([rule.name if rule else "none"]),
            "result": np.array(["a vector" if fitted.has(task) else UNSOLVED]),
        }  # fmt: skip
        parts = {"words": columns, "tasks": one}
        return Tally({name: task_rows(window.index, task, each) for name, each in parts.items()})

    def _asked(
        self, fitted: Fitted, task: str, pairs: list[Pair], rule: Rule | None, counts: Mapping[str, int],
        asking: Asking, seed: int,
    ) -> list[tuple[int, Pair]]:  # fmt: skip
        """Kind and pair of each word: the two ends of the queries by frequency, and invented ones."""
        order = by_frequency([(q.input, q.output) for q in fitted.queries[task]], counts, asking)
        half = min(self.words, len(order) // 2)
        known = [*counts, *(x for x, _ in pairs)]
        new = invented_pairs(rule, self.words, seed, known) if rule else []
        kinds = (order[:half], order[len(order) - half :], [pair for pair in new if asking.extends(pair)])
        return [(kind, pair) for kind, each in enumerate(kinds) for pair in each]

    def _right(
        self, model: Model, fitted: Fitted, task: str, words: list[Pair], seed: int
    ) -> list[list[float]]:
        """Whether each word's whole answer is said, in the order of ADDED."""
        asking, vector, state = Asking.of(model), fitted.vector(task), fitted.state(task)
        shown: list[Pair] = [(q.input, q.output) for q in fitted.others[task]]
        order = np.random.default_rng([seed, 7]).permutation(len(shown)).tolist()[: self.shots]
        added = [vector, random_like(vector, seed), None]
        rows: list[list[float]] = []
        for pair in words:
            alone = whole_answers(model, *asking.answered([], pair), state, added)
            behind = whole_answers(model, *asking.answered([shown[k] for k in order], pair), state, [None])
            rows.append([*map(float, alone[:2]), float(behind[0]), float(alone[2])])
        return rows

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Accuracies of each kind of word, and what is lost from frequent ones."""
        parts = {name: part(total, name, Rows).columns for name in ("words", "tasks")}
        return found(parts, facts, self.fewest)
