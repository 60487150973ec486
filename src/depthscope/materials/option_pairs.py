"""Pairs of prompts with options: one that is patched, and one whose last state is put into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from depthscope.errors import BadInput, EmptyMaterial
from depthscope.materials.edges import edges
from depthscope.materials.options import Scored, reads
from depthscope.materials.questions import Question, balanced, examples, questions
from depthscope.materials.window import Window, Windows
from depthscope.ranges import at_least, check_ranges
from depthscope.runtime.model import Model


@dataclass(frozen=True)
class OptionPairs:
    """Prompts of one task, each with a donor prompt of another one.

    Args:
        source: see `questions`; it must hold both tasks. target: the task that is patched. donor: whose states are
            put in. pairs: how many. shots: examples before each prompt. longest: tokens of the longest prompt.
    """

    source: str = ""
    target: str = "choice"
    donor: str = "sentiment"
    pairs: int = 40
    shots: int = 4
    longest: int = 512

    def __post_init__(self) -> None:
        check_ranges(self, pairs=at_least(1), shots=at_least(0), longest=at_least(1))

    @property
    def name(self) -> str:
        """The name of the material."""
        return "option_pairs"

    def windows(self, model: Model, seed: int) -> Windows:
        """Prompts of the target task, marked at their last position; `about` holds the donor prompt and both options.

        Raises:
            BadInput: for a task that the source does not hold, or tasks that share an option.
            EmptyMaterial: when no prompt fits.
        """
        name, tasks = questions(self.source)
        missing = [task for task in (self.target, self.donor) if task not in tasks]
        if missing:
            raise BadInput(f"{name} has no questions of {', '.join(missing)}; it has {', '.join(tasks)}")
        before, _, words = edges(model.tokenizer, "auto", model.config.model_type)
        scored = Scored(model, before, "first_distinguishing", min(self.longest, reads(model)))
        sides = [
            self._fitting(tasks[task], scored, [seed, k]) for k, task in enumerate((self.target, self.donor))
        ]
        found = [_joined(*pair) for pair in zip(*sides, strict=False)][: self.pairs]
        if not found:
            raise EmptyMaterial(
                f"{name}: every prompt is longer than {scored.longest} tokens; even without examples"
            )
        items = tuple(
            Window(k, f"pair-{k:05d}", tuple(ids), (len(ids) - 1,), about)
            for k, (ids, about) in enumerate(found)
        )
        return Windows(items, f"{name}: {self.donor} into {self.target}", words, 0)

    def _fitting(
        self, asked: Sequence[Question], scored: Scored, seed: Sequence[int]
    ) -> list[tuple[list[int], dict[str, Any]]]:
        """Prompts that fit, behind as many examples as leave half of the questions."""
        for shots in range(self.shots, -1, -1):
            rng = np.random.default_rng(seed)
            shown = examples(asked, shots, rng)
            rest = [replace(q, pseudo=()) for k, q in enumerate(asked) if k not in shown]
            before = [asked[k].answered(asked[k].gold) for k in shown]
            chosen = [rest[k] for k in balanced(rest, 2 * self.pairs, rng)]
            texts = ["\n\n".join([*before, q.text]) for q in chosen]
            windows = [
                next(iter(scored.windows(q, "few_shot", t))) for q, t in zip(chosen, texts, strict=True)
            ]
            fits = [(ids, about) for ids, _, about in windows if 2 <= len(ids) <= scored.longest]
            if 2 * len(fits) >= len(windows) or not shots:
                return [(ids, about | {"shots": shots}) for ids, about in fits]
        return []


def _joined(
    target: tuple[list[int], dict[str, Any]], donor: tuple[list[int], dict[str, Any]]
) -> tuple[Any, Any]:
    both = set(target[1]["candidates"]) & set(donor[1]["candidates"])
    if both:
        raise BadInput(
            f"{target[1]['task']} and {donor[1]['task']} share the option token {sorted(both)}; take other tasks"
        )
    about = {
        "shots": min(target[1]["shots"], donor[1]["shots"]),
        "donor": donor[0], "target_options": target[1]["candidates"], "donor_options": donor[1]["candidates"],
    }  # fmt: skip
    return target[0], about
