"""The task of a choice of layers: items to choose by, items to report on, vectors on demand, scores that are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from depthscope.advise.layer_search import Seen
from depthscope.engine.journal import Journal
from depthscope.engine.pooled import pooled
from depthscope.engine.task_scores import METRICS, Scored, scored
from depthscope.errors import BadInput, UnknownName
from depthscope.materials.labelled import Labelled
from depthscope.runtime.model import Model

THIRD = 3
"""One item of so many is kept back for the report."""
FEW = 6
"""Labels with fewer items than this give every second one to the report, so that both parts have two."""
LEAST = 4
"""Labels with fewer items cannot be in both parts."""
NEEDED = 24
"""Fewest items of a task."""
DRAWS = 1000


@dataclass(frozen=True)
class Parts:
    """A task in two parts that share no item.

    Args:
        choosing: what layers are chosen by. reporting: what the verdict is on. left_out: labels with too few items.
        shared: texts that stand in both parts (in other items), blanks and case apart.
    """

    choosing: Labelled
    reporting: Labelled
    left_out: tuple[str, ...]
    shared: int


def parts(task: Labelled, seed: int = 0) -> Parts:
    """A third of the items, by hash and of every label, is kept back for the report.

    Raises:
        BadInput: when fewer than NEEDED items, or fewer than two labels with LEAST items, are there.
    """
    counts = (
        Counter(str(item.gold) for item in task.items) if task.kind == "classification" else Counter[str]()
    )
    left_out = tuple(sorted(label for label, n in counts.items() if n < LEAST))
    kept = [k for k in task.order(seed) if str(task.items[k].gold) not in left_out]
    if len(kept) < NEEDED or (counts and len(counts) - len(left_out) < 2):
        few = f" ({len(left_out)} labels have fewer than {LEAST})" if left_out else ""
        raise BadInput(
            f"{task.name} has {len(kept)} items that can be used{few}; a layer is chosen by {NEEDED} or more, of two "
            "labels or more: give more items or a higher --limit"
        )
    seen, reporting, choosing = Counter[str](), list[int](), list[int]()
    for k in kept:
        label = str(task.items[k].gold) if counts else ""
        every = 2 if counts and counts[label] < FEW else THIRD
        (reporting if seen[label] % every == 1 else choosing).append(k)
        seen[label] += 1
    first, second = task.only(sorted(choosing)), task.only(sorted(reporting))
    return Parts(first, second, left_out, len(_plain(first.texts) & _plain(second.texts)))


def _plain(texts: Sequence[str]) -> set[str]:
    return {" ".join(text.casefold().split()) for text in texts}


def first_round(task: Labelled, items: int = 128) -> int:
    """Items of the first round: enough for two of every label."""
    return max(items, 2 * len(task.labels) if task.kind == "classification" else 0)


def main_metric(task: Labelled, asked: str = "") -> str:
    """The score a task is judged by: the closed-form probe for classes, else the first of its kind.

    Raises:
        UnknownName: for a score that this kind of task does not have.
    """
    known = METRICS[task.kind]
    if asked and asked not in known:
        raise UnknownName(f"score of a {task.kind} task", asked, known)
    return asked or ("ridge" if task.kind == "classification" else known[0])


@dataclass
class Bank:
    """Pooled vectors of texts, each text read once and only as deep as it was asked for.

    Args:
        blocks: how many blocks ran, over all texts. read: texts.
    """

    model: Model
    pooling: str
    norm: bool
    max_tokens: int
    kept: dict[str, Float[np.ndarray, "state d_model"]] = field(default_factory=dict)
    blocks: int = 0
    read: int = 0

    def of(self, texts: Sequence[str], states: Sequence[int]) -> Float[np.ndarray, "state text d_model"]:
        """Vectors of texts at some states; what is not there yet is read up to the deepest of them."""
        deepest = max(states)
        new = [t for t in dict.fromkeys(texts) if t not in self.kept or len(self.kept[t]) <= deepest]
        if new:
            self.read += sum(t not in self.kept for t in new)
            self.blocks += deepest * len(new)
            found = pooled(
                self.model, new, self.pooling, norm=self.norm, max_tokens=self.max_tokens, upto=deepest
            ).vectors
            self.kept |= {text: found[:, k] for k, text in enumerate(new)}
        return np.stack([self.kept[text][list(states)] for text in texts], axis=1)


@dataclass
class Judge:
    """What states score on the first items of a task, each score computed once and kept in the journal.

    Args:
        blocks, read: blocks that ran for it, over all texts, and texts read; a resumed study knows them too.
    """

    task: Labelled
    bank: Bank
    metric: str
    journal: Journal
    seed: int = 0
    values: dict[tuple[int, int], list[float | None]] = field(default_factory=dict)
    gold: dict[int, list[float]] = field(default_factory=dict)
    blocks: int = 0
    read: int = 0

    def look(self, states: Sequence[int], items: int) -> Seen:
        """Scores of some states on the first items, with draws that all states share."""
        states = tuple(states)
        missing = [s for s in states if (s, items) not in self.values]
        if missing:
            self._fill(missing, items)
        rows = [[np.nan if v is None else v for v in self.values[s, items]] for s in states]
        return seen_of(Scored(self.metric, np.asarray(rows), np.asarray(self.gold[items])), states, self.seed)

    def _fill(self, states: list[int], items: int) -> None:
        about = {
            "task": self.task.hash, "metric": self.metric, "items": items, "states": states, "seed": self.seed,
            "pooling": self.bank.pooling, "norm": self.bank.norm, "max_tokens": self.bank.max_tokens,
        }  # fmt: skip
        stored = self.journal.step("scores", about, lambda: self._scored(states, items))
        self.gold[items] = stored["gold"]
        self.blocks, self.read = self.blocks + stored["blocks"], self.read + stored["read"]
        self.values |= {(s, items): row for s, row in zip(states, stored["values"], strict=True)}

    def _scored(self, states: list[int], items: int) -> dict[str, Any]:
        before = self.bank.blocks, self.bank.read
        part = self.first(items)
        found = scored(part, self.bank.of(part.texts, states), (self.metric,), seed=self.seed)[0]
        rows = [[float(v) if np.isfinite(v) else None for v in row] for row in found.values]
        spent = {"blocks": self.bank.blocks - before[0], "read": self.bank.read - before[1]}
        return {"values": rows, "gold": found.gold.tolist(), **spent}

    def first(self, items: int) -> Labelled:
        """The task with its first items, which are those of every label in turn."""
        return self.task.only(sorted(self.task.order(self.seed)[:items]))


def seen_of(found: Scored, states: Sequence[int], seed: int) -> Seen:
    """Scores of states, with draws."""
    return Seen(tuple(states), found.score(), found.drawn(DRAWS, seed))
