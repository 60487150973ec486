"""Function offsets: is what a function vector does more than one offset between words?

Question: Could a task be done by adding one fixed offset to a word's embedding, and does the function vector do what no
offset can?

Method: Pairs of a task whose words are one token each. Where enough of them lie in circles (hot, cold, hot; Monday to
Sunday, Monday) only those count: there the offsets f(x) - x add up to 0, so the best offset is none. An offset is the
mean over all other groups (pairs that share words) and the guess is the word of the task nearest to x plus it, x left
out, by cosine: among input embeddings, rows of the unembedding, and states of `Q: x` at the vector's state; for the
first two also the nearest of all tokens. The same pairs are asked as `Q: x` without examples under the vector of
function_vectors, and with nothing. accuracy is the share of pairs, group_accuracy that of groups all of whose pairs are
right (for opposites: both directions), vector_ahead the vector's accuracy minus that of each other on the same pairs.
involution is the share of words that the vector, asked again for its own answer, brings back; an answer that is the
word itself counts as none. offset_length is the length of the mean offset over the mean length of offsets. Units are
groups.

How to read: Opposites lead back (f(f(x)) = x), so no offset does them; a vector far above the offsets there, with a
high involution, works on what the layers compute and not on embeddings. Capital letters are the contrast: an offset
goes far, and twice a capital is no way back.

What misleads: Among the few words of the task the partner is often the only word that is near at all, so that no offset
finds it too; the vector chooses among all tokens, and so do the offsets named so. Tasks that are not
solved in context have no vector and say so. The vector was taken from some of these words.

Source: Todd et al. 2024, Function Vectors in Large Language Models (arXiv 2310.15213), on cyclic tasks and offsets of
words (Mikolov et al. 2013, arXiv 1310.4546); groups, circles and the way back are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.function_given import UNSOLVED, Fitted, after_vectors
from depthscope.engine.function_task import task_rows
from depthscope.engine.measured import part
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.offset_findings import OFFSETS, found
from depthscope.engine.tally import Rows, Tally
from depthscope.engine.task_words import WordPairs
from depthscope.engine.view import View
from depthscope.materials.icl_tasks import Asking
from depthscope.materials.window import Window
from depthscope.ranges import at_least, check_ranges
from depthscope.results.result import Findings, Result
from depthscope.runtime.injection import injected_ends
from depthscope.runtime.model import Batch, Model


@dataclass(frozen=True)
class FunctionOffsets:
    """Offsets between words against function vectors.

    Args:
        source, tasks: as function_vectors was given them; all of its tasks where `tasks` is empty.
        pairs: the most pairs of a task. fewest: pairs that a task needs, and circles must hold to be taken alone.
    """

    source: str = ""
    tasks: tuple[str, ...] = ()
    pairs: int = 48
    fewest: int = 8

    def __post_init__(self) -> None:
        check_ranges(self, fewest=at_least(1, most=self.pairs, what="no more than pairs"))

    def needs(self, anatomy: Anatomy) -> Needs:
        """Pairs of tasks, behind their vectors."""
        return after_vectors(anatomy, self.source, self.tasks, passes=4 * self.pairs)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Rows of pairs: whether each offset and the vector find the partner, and whether the vector leads back."""
        del batch
        fitted, total = Fitted.of(given, self.source, self.tasks), Tally({})
        for window in fitted.own(seen.windows):
            total = total.add(self._task(model, window, fitted, seen.seed))
        return total

    def _task(self, model: Model, window: Window, fitted: Fitted, seed: int) -> Tally:
        task, asking = window.document, Asking.of(model)
        words = WordPairs.of(asking, [tuple(p) for p in window.about["pairs"]], self.pairs, self.fewest, seed)
        count, enough = len(words.pairs), len(words.pairs) >= self.fewest
        hit, length = np.full((max(1, count), len(OFFSETS), 2), np.nan), np.full(len(OFFSETS), np.nan)
        asked = np.full((max(1, count), 3), np.nan)
        if enough:
            state = fitted.state(task) if fitted.has(task) else model.anatomy.n_layers // 3
            for k, (where, every) in enumerate(_spaces(model, words, state)):
                hit[:, k, 0], hit[:, k, 1], length[k] = words.by_offset(where, every)
            if fitted.has(task):
                asked[:] = [_asked(model, asking, pair, fitted.vector(task), state) for pair in words.pairs]
        group = np.array([f"{task}/{name}" for name in words.group] or [task])
        closed, result = np.full(max(1, count), words.closed), np.array([_result(enough, fitted.has(task))])
        parts = {
            "pairs": {"offset": hit, "asked": asked, "unit": group, "closed": closed},
            "tasks": {"length": length[None], "pairs": np.array([count]), "result": result},
        }
        return Tally({name: task_rows(window.index, task, columns) for name, columns in parts.items()})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Accuracies of offsets and of vectors on the same pairs, and the way back."""
        return found({name: part(total, name, Rows).columns for name in ("pairs", "tasks")}, facts)


def _result(enough: bool, vector: bool) -> str:
    if not enough:
        return "too few words of one token"
    return "a vector" if vector else UNSOLVED


def _spaces(model: Model, words: WordPairs, state: int) -> list[tuple[Tensor, Tensor | None]]:
    """Where the words lie, and all tokens: input embeddings, rows of the unembedding; and states of the words."""
    embedding: Tensor = model.net.get_input_embeddings().weight  # pyright: ignore[reportCallIssue, reportAssignmentType]
    rows = model.head.unembedding()[0]
    every = [matrix.detach().cpu() for matrix in (embedding, rows)]
    found = [(matrix[words.tokens].float(), matrix) for matrix in every]
    return [*found, (words.states(model, state).float(), None)]


@torch.no_grad()
def _asked(model: Model, asking: Asking, pair: tuple[str, str], vector: Tensor, state: int) -> list[float]:
    """Right under the vector, right with nothing, and whether the vector, asked for its answer, gives the word back."""
    both = torch.stack([vector, torch.zeros_like(vector)]).to(model.device)
    ids, answer = asking.prompt([], pair)
    said = model.head.logits(injected_ends(model, ids, [state, state], both)).argmax(-1).tolist()
    word, other = asking.within(pair[0])[0], asking.tokenizer.decode([said[0]]).strip()
    back = -1
    if other and said[0] != word:
        again, _ = asking.prompt([], (other, pair[0]))
        back = int(model.head.logits(injected_ends(model, again, [state], both[:1])).argmax(-1))
    return [float(said[0] == answer), float(said[1] == answer), float(back == word)]
