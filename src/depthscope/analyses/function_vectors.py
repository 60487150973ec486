"""Function vectors: does the sum of a few heads' outputs make the model do a task without examples?

Question: Which heads carry the task of a prompt with examples, and does what they write, added to a prompt without
examples, make the model do that task?

Method: A task is shown by ten examples (in_context: accuracy by the first token of the answer). Tasks solved in less
than `solved` of the prompts get no vector and say so. Mean outputs of heads are taken at the last token of solved
prompts; in prompts whose examples have each other's outputs one head at a time is given its mean, and indirect_effect
is the gain in probability of the right answer. The vector of a task is the sum of the mean writes of the heads with
the largest effects, without the output projection's bias, a norm behind it held fixed. It is added to the last position
of a prompt without examples, at every state; zero_shot is the accuracy on queries that were solved with examples, and
the state of `accuracy` is chosen on other queries. Beside it: the vector twice as long, the mean state itself (layer
average), as many heads at random, a random direction of equal length, fewer and more heads, and the same heads' means
under wrong examples. Units are prompts; tasks where a figure is over tasks.

How to read: A head with a large effect carries the task from the examples to the end of the prompt. A vector that lifts
accuracy from none over many states, where random heads and directions do not, is the task in one direction; a layer
average that does the same only near one state holds it together with much else.

What misleads: Only the first token of an answer counts: where it is the query's own (shared_first) copying is right.
The state is chosen on few queries. A random direction as long as the vector may push the stream as far without meaning
anything, and a longer vector may do better only for being long. Heads that act through later heads have smaller effects
in prompts where those see wrong examples.

Source: Todd et al. 2024, Function Vectors in Large Language Models (arXiv 2310.15213); Hendel et al. 2023 (2310.15916)
for the mean state; examples that never keep their own output and held-out choices are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.function_findings import found
from depthscope.engine.function_judged import CHOSEN, ENDS, SWEPT, Added, unmeasured
from depthscope.engine.function_task import Shown, effects, shown, strongest, task_rows
from depthscope.engine.measured import part
from depthscope.engine.needs import Facts, Needs, SweepNeed
from depthscope.engine.tally import Rows, Tally
from depthscope.engine.view import View
from depthscope.errors import Refused
from depthscope.materials.icl_tasks import IclPrompts
from depthscope.materials.window import Window
from depthscope.ranges import at_least, check_ranges
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model


@dataclass(frozen=True)
class FunctionVectors:
    """Vectors of in-context tasks.

    Args:
        source, tasks, shots, taken, corrupted, queries: see `materials.icl_tasks.IclPrompts`.
        heads: whose mean writes make the vector. solved: accuracy with examples below which a task gets no vector; 0
            takes all prompts, those that are not solved as well.
    """

    source: str = ""
    tasks: tuple[str, ...] = ()
    shots: int = 10
    taken: int = 40
    corrupted: int = 16
    queries: int = 24
    heads: int = 10
    solved: float = 0.3

    def __post_init__(self) -> None:
        check_ranges(self, heads=at_least(1), solved=at_least(0, most=1))
        self._material()

    def needs(self, anatomy: Anatomy) -> Needs:
        """The first prompt of every task; all others are run as it is observed."""
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so it gives no answers")
        if not anatomy.family.causal:
            raise Refused("it is no causal language model, so no answer follows a prompt")
        prompts = self.taken + 2 * self.queries + self.corrupted * 3
        sweep = SweepNeed((), (), 0, protect="none", replays=prompts)
        return Needs(sweeps=frozenset({sweep}), material=self._material())

    def _material(self) -> IclPrompts:
        return IclPrompts(self.source, self.tasks, self.shots, self.taken, self.corrupted, self.queries)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Rows of prompts, of effects, of queries without examples, and one of each task's vector."""
        del batch, given
        total = Tally({})
        for window in seen.windows:
            total = total.add(_task(model, window, self, seen.seed))
        return total

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Accuracies with and without examples, effects of heads, curves over states, and the vectors themselves."""
        parts = {name: part(total, name, Rows).columns for name in ("asked", "effects", "plain", "tasks")}
        return found(parts, facts, (SWEPT, ENDS))


def _task(model: Model, window: Window, asked: FunctionVectors, seed: int) -> Tally:
    prompts, anatomy = window.about["prompts"], model.anatomy
    seen = {role: shown(model, prompts[role]) for role in ("taken", "test", "shuffled")}
    right = {role: (seen[role].rank == 1) | (asked.solved == 0) for role in ("taken", "test")}
    solved = np.concatenate([seen[role].rank == 1 for role in right])
    count = len(prompts["plain_taken"])
    asked_once = np.arange(count) < len(
        right["taken"]
    )  # a query that no prompt with examples asked is left out
    kept = {"taken": asked_once & np.resize(right["taken"], count), "test": right["test"]}
    effect = np.zeros((0, anatomy.n_layers, max(1, anatomy.n_heads)))
    vector, states, chosen = None, np.full(CHOSEN, np.nan), []
    if solved.mean() >= asked.solved and right["taken"].any():
        taken = seen["taken"].only(right["taken"])
        if anatomy.n_heads:
            effect = effects(model, prompts["corrupted"], taken.z.mean(0).to(model.device))
            chosen = strongest(effect.mean(0), asked.heads)
        wrong = shown(model, prompts["corrupted"])
        added = Added.of(model, taken, wrong, effect.mean(0) if len(effect) else None, chosen, seed)
        plain, states = added.judged(model, prompts, kept)
        vector = added.swept.vectors["vector"]
    else:
        plain = unmeasured(count, len(prompts["plain_test"]), anatomy.n_layers)
    held = np.full(anatomy.d_model, np.nan) if vector is None else vector.double().cpu().numpy()
    return _tally(window, seen, effect, plain | _queries(window, kept), {
        "vector": held, "states": states, "heads": _padded(chosen, asked.heads), "in_context": solved.mean(),
    })  # fmt: skip


def _queries(window: Window, kept: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The queries of both halves, and whether each counts as solved with examples."""
    pairs = [pair for role in kept for pair in window.about["inputs"][role]]
    half = [name for name, role in enumerate(kept) for _ in window.about["inputs"][role]]
    return {
        "input": np.array([x for x, _ in pairs]), "output": np.array([y for _, y in pairs]),
        "half": np.array(half), "solved": np.concatenate(list(kept.values())),
    }  # fmt: skip


def _padded(chosen: list[tuple[int, int]], count: int) -> np.ndarray:
    rows = np.full((count, 2), -1)
    rows[: len(chosen)] = np.array(chosen, int).reshape(-1, 2)
    return rows


def _tally(
    window: Window,
    seen: Mapping[str, Shown],
    effect: np.ndarray,
    plain: dict[str, np.ndarray],
    one: dict[str, object],
) -> Tally:
    about, name = window.about, window.document
    asked = {
        "role": np.concatenate([[k] * len(s.rank) for k, s in enumerate(seen.values())]),
        "rank": np.concatenate([s.rank for s in seen.values()]),
        "probability": np.concatenate([s.probability for s in seen.values()]),
    }
    facts = {n: about[n] for n in ("shots", "pairs", "dropped", "shared", "intact")}
    return Tally({
        "asked": task_rows(window.index, name, asked), "effects": task_rows(window.index, name, {"effect": effect}),
        "plain": task_rows(window.index, name, plain),
        "tasks": task_rows(window.index, name, {n: np.asarray(v)[None] for n, v in (facts | one).items()}),
    })  # fmt: skip
